"use strict";

// From far away thousands of nodes are dust: one shape for all of a colour, one for all lines of a kind.

const DUST = 0.2; // below this scale,
const MANY = 400; // and with more nodes than this

const isDust = () => STATE.camera.scale < DUST && scene.nodes.length > MANY;

// Whether something is so large, or so important, that it is drawn by itself all the same.
function standsOut(key, thing) {
  if (!isDust()) return true;
  return key === "n" ? thing.number === looked() : thing.width * STATE.camera.scale > 70;
}

function drawDust(pane) {
  const shapes = new Map();
  const add = (name, d) => shapes.set(name, (shapes.get(name) ?? "") + d);
  for (const line of scene.lines) if (isThere(line, pane)) add(`line kind${kindOf(line, pane)}`, line.d);
  for (const box of scene.boxes) add("frame", rectangle(box.left, box.top, box.width, box.height));
  for (const { number, left, top, width, height } of scene.nodes) {
    const node = NODES[number];
    const name = pane.first && !REMAINS[number] ? "gone" : tint(node.order, node.bytes, MOST_BYTES, finite(number));
    add(`speck ${name}`, rectangle(left, top, width, height));
  }
  const paths = [...shapes].map(([name, d]) => svg("path", { class: name, d }));
  return svg("g", { class: "box", transform: `translate(${f(pane.left)} 0)` }, ...paths);
}

// Made when it is first needed after a change of the layout.
function showDust() {
  if (isDust() && !LAYERS.dust.firstChild) LAYERS.dust.append(...panes.map(drawDust));
  LAYERS.dust.classList.toggle("hidden", !isDust());
}
