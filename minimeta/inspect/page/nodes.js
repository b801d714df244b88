"use strict";

// Nodes: a sign in their colour, name and shape, and below these the value and the cotangent as far as it is known.

// Which colour: by order of derivative, by bytes held, by whether all is finite.
const MOST_BYTES = Math.max(1, ...NODES.map((node) => node.bytes));
const MOST_BOX_BYTES = Math.max(1, ...SUMS.slice(1).map((sums) => sums.bytes));

function tint(order, bytes, most, isFinite) {
  if (STATE.colour === "order") return `order${Math.min(order, 4)}`;
  if (STATE.colour === "finite") return isFinite ? "good" : "bad";
  return `weight${bytes ? 1 + Math.round(5 * Math.sqrt(bytes / most)) : 0}`;
}

function nodeSign(node, i) {
  if (STATE.colour === "finite") return finite(i) ? "✓" : "!";
  return STATE.colour === "bytes" ? "" : String(node.order);
}

const corner = (node) => (STATE.colour === "bytes" ? (node.bytes ? amount(node.bytes) : "") : shape(node.type));

const STRIPE = 16;

function drawNode({ number: i, left, top, width, height }, pane) {
  const node = NODES[i];
  const round = node.input ? height / 2 : 6;
  const fits = Math.floor((width - STRIPE - 14 - corner(node).length * 5.4) / SIZES.letter);
  const name = node.name.length > fits ? `${node.name.slice(0, Math.max(fits - 1, 3))}…` : node.name;
  const group = svg(
    "g",
    {
      class: "node",
      tabindex: 0,
      role: "button",
      "data-node": i,
      "data-first": pane.first ? "" : null,
      transform: `translate(${f(left + pane.left)} ${f(top)})`,
      "aria-label": `${node.name}, ${node.expression}, ${node.type}, order ${node.order}`,
    },
    svg("title", { text: `${node.name} = ${node.expression}` }),
    CONTENT.roots.includes(i)
      ? svg("rect", { class: "result", x: -3.5, y: -3.5, width: width + 7, height: height + 7, rx: round + 3 })
      : null,
    svg("rect", { class: "body", width, height, rx: round }),
    svg("path", { class: "stripe", d: stripe(height, round) }),
    svg("text", {
      class: "sign",
      x: STRIPE / 2 + (node.input ? 1.5 : 0),
      y: height / 2 + 3.5,
      text: nodeSign(node, i),
    }),
    svg("text", { class: "name", x: STRIPE + 6, y: 14, text: name }),
    svg("text", { class: "shape", x: width - (node.input ? 12 : 7), y: 14, text: corner(node) }),
    svg("text", {
      class: "far-name",
      x: (width + STRIPE) / 2,
      y: height / 2 + 6,
      "font-size": Math.min(17, (width - STRIPE - 8) / (0.62 * farName(node).length)),
      text: farName(node),
    }),
    svg("g", { class: "cells" }),
  );
  const at = { i, width, height, pane, group };
  group.paint = () => paintNode(at);
  group.paint();
  return group;
}

const farName = (node) => (node.input ? node.name : node.op);

function stripe(height, round) {
  const corner = `A${round} ${round} 0 0 1`;
  return `M${STRIPE} 0V${height}H${round}${corner} 0 ${height - round}V${round}${corner} ${round} 0z`;
}

function paintNode({ i, width, height, pane, group }) {
  const node = NODES[i];
  const count = pane.first ? firstOrderSteps(taken()) : taken();
  const on = i === active() && (!pane.first || (taken() ? pane.walk.own.has(i) : REMAINS[i]));
  const names = ["node", tint(node.order, node.bytes, MOST_BYTES, finite(i))];
  if (node.input) names.push("input");
  if (!node.live) names.push("dead");
  const gone = pane.first && !REMAINS[i];
  if (gone) names.push("gone", i === active() ? "missed" : "");
  else if (!computed(i)) names.push("later");
  if (on) names.push(taken() ? "active-backward" : "active");
  else if (pane.walk.own.get(i) <= count) names.push("walked");
  if (i === STATE.selected) names.push("selected");
  group.setAttribute("class", names.join(" "));
  const here = computed(i) && !gone ? node.value : null;
  const back = gone ? null : cotangent(pane.walk, i, count);
  const shows = `${STATE.values} ${here} ${back}`;
  if (group.shows === shows) return;
  group.shows = shows;
  group.lastChild.replaceChildren(...corners(here, back, width, height));
}

// Below its name a node has its value on the left, and on the right the cotangent as far as it is known.
function corners(here, back, width, height) {
  const [top, h] = [18, height - 21];
  const half = (width - STRIPE - 8) / 2;
  const found = [];
  if (here !== null)
    found.push(svg("g", { class: "forward" }, cell(VALUES[here], STATE.values, STRIPE + 5, top, half - 4, h)));
  if (back !== null)
    found.push(svg("g", { class: "backward" }, cell(VALUES[back], STATE.values, STRIPE + half + 3, top, half - 4, h)));
  return found;
}
