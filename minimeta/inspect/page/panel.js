"use strict";

// Beside the picture: the active node, or the one that was clicked, in words and numbers; at step 0 the whole graph.

const PANEL = byId("panel");

function showPanel() {
  const node = looked();
  PANEL.replaceChildren(...(node === null ? aboutGraph() : aboutNode(node)));
  PANEL.scrollTop = 0;
}

const nodeLink = (i) => el("button", { type: "button", class: "link", text: NODES[i].name, onclick: () => select(i) });
const section = (title, ...children) => el("section", {}, el("h3", { text: title }), ...children);
const fact = (name, ...children) => el("div", { class: "fact" }, el("dt", { text: name }), el("dd", {}, ...children));

function aboutGraph() {
  const orders = [];
  for (const node of NODES) orders[node.order] = (orders[node.order] ?? 0) + 1;
  const edges = NODES.flatMap((node) => node.needs);
  const [walkedBack, second] = [1, 2].map((least) => edges.filter(([, , kind]) => kind >= least).length);
  const facts = el(
    "dl",
    {},
    fact("nodes", orders.flatMap((count, order) => `${count} of order ${order}`).join(", ")),
    fact("edges", `${edges.length}, ${walkedBack} of them walked back, ${second} of second order`),
    fact("held", amount(NODES.reduce((sum, node) => sum + node.bytes, 0))),
    fact("steps", `${FORWARD} forward, ${WALK.steps.length} backward`),
  );
  const found = [el("h2", { text: CONTENT.title }), facts];
  if (CONTENT.result !== null) found.push(section("Result", whole(VALUES[CONTENT.result], STATE.values)));
  for (const target of CONTENT.targets) found.push(gradientOf(target));
  found.push(el("p", { class: "hint", text: "→ takes the first step.  ? shows all keys." }));
  return found;
}

function gradientOf(target) {
  const parts = [[WALK, FIRST ? "MAML" : null], ...(FIRST ? [[FIRST, "first-order MAML"]] : [])];
  const found = section("");
  found.firstChild.append("Gradient by ", nodeLink(target));
  for (const [walk, name] of parts) {
    const place = cotangent(walk, target, Infinity);
    if (name) found.append(el("h4", { text: name }));
    found.append(
      place === null
        ? el("p", { class: "hint", text: "zero: nothing is sent to it" })
        : whole(VALUES[place], STATE.values),
    );
  }
  return found;
}

function aboutNode(i) {
  const node = NODES[i];
  const found = [
    el(
      "h2",
      {},
      el("span", { class: `chip order${Math.min(node.order, 4)}`, text: node.order, title: `order ${node.order}` }),
      node.name,
    ),
    el("p", { class: "expression", text: `= ${node.expression}` }),
    facts(node, i),
  ];
  if (computed(i) && node.value !== null) found.push(section("Value", whole(VALUES[node.value], STATE.values)));
  found.push(...backward(WALK, i, taken(), FIRST ? "MAML" : null));
  if (FIRST) found.push(...backward(FIRST, i, firstOrderSteps(taken()), "First-order MAML"));
  return found;
}

function facts(node, i) {
  const list = el("dl", {}, fact("type", node.type), fact("order", orderInWords(node)));
  if (node.scopes.length) list.append(fact("scope", node.scopes.join(" › ")));
  if (node.site !== null) list.append(fact("made at", ...madeAt(CONTENT.sites[node.site])));
  if (node.needs.length)
    list.append(fact("needs", ...links(node.needs, ([parent, argument]) => [`${argument}: `, nodeLink(parent)])));
  if (NEEDED[i].length) list.append(fact("needed by", ...links(NEEDED[i], ([child]) => [nodeLink(child)])));
  list.append(fact("holds", ...(node.held.length ? links(node.held, heldInWords) : ["nothing"])));
  return list;
}

const madeAt = ([where, code]) => [el("div", { class: "place", text: where }), el("code", { text: code })];

function links(things, words) {
  const some = things.slice(0, 12).flatMap((thing, k) => [...(k ? [", "] : []), ...words(thing)]);
  return things.length > 12 ? [...some, `, and ${things.length - 12} more`] : some;
}

function heldInWords([role, bytes, first]) {
  return first === null ? [`${role} ${amount(bytes)}`] : [`${role} ${amount(bytes)}, as does `, nodeLink(first)];
}

function orderInWords(node) {
  if (node.order === 0) return "0, the forward pass";
  if (node.maker === null) return `${node.order}`;
  return el(
    "span",
    {},
    `${node.order}, by the rule of `,
    typeof node.maker === "number" ? nodeLink(node.maker) : node.maker,
  );
}

// What a node was sent, sum by sum, and what its rules make of the whole.
function backward(walk, i, count, name) {
  const received = walk.received[i];
  const own = walk.own.get(i);
  const title = name ? `: ${name}` : "";
  const found = [];
  if (received.length || (own && CONTENT.roots.includes(i)))
    found.push(section(`Cotangent${title}`, ...sums(walk, i, received, count)));
  if (own && own <= count) found.push(section(`Its rules${title}`, ...rules(walk.steps[own - 1])));
  else if (own && taken())
    found.push(el("p", { class: "hint", text: `Its turn comes in backward step ${WALK.own.get(i)}.` }));
  return found;
}

function sums(walk, i, received, count) {
  if (!taken()) return [el("p", { class: "hint", text: `${received.length || 1} to come in the backward walk.` })];
  const found = [];
  if (!received.length)
    found.push(
      el("p", { class: "hint", text: "The walk begins here, with 1." }),
      whole(VALUES[walk.steps[0].cotangent], STATE.values),
    );
  const come = received.filter((sent) => sent.step <= count);
  for (const sent of come) {
    const where = ` (${sent.argument}), step ${stepInWalk(walk, sent)}`;
    found.push(el("p", { class: "sum" }, sent.summed > 1 ? "+ from " : "from ", nodeLink(sent.from), where));
    found.push(whole(VALUES[sent.value], STATE.values), ...sumSoFar(sent, `sum of ${sent.summed}`));
  }
  found.push(el("p", { class: "hint", text: progress(come.length, received.length) }));
  return found;
}

function sumSoFar(sent, words) {
  if (!sent.last || sent.summed === 1) return [];
  return [el("p", { class: "sum", text: words }), whole(VALUES[sent.total], STATE.values)];
}

function progress(come, all) {
  if (come < all) return `${all - come} of ${all} still to come`;
  return all > 1 ? `complete: sum of ${all}` : "complete";
}

const stepInWalk = (walk, sent) => WALK.own.get(walk.steps[sent.step - 1].node);

function rules(step) {
  const found = [];
  let last = null;
  for (const sent of step.sent) {
    const [where, text] = CONTENT.rules[sent.rule];
    if (sent.rule !== last) found.push(el("p", { class: "place", text: where }), el("pre", { tabindex: 0, text }));
    last = sent.rule;
    found.push(
      el("p", { class: "sum" }, `${sent.argument}: to `, nodeLink(sent.to)),
      whole(VALUES[sent.value], STATE.values),
    );
    found.push(...sumSoFar(sent, "which has now"));
  }
  if (!step.sent.length) found.push(el("p", { class: "hint", text: "They send nothing: zero everywhere." }));
  return found;
}
