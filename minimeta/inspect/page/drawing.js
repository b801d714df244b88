"use strict";

// The picture. Only what lies in the window is in the document; a step changes classes and corners of nodes.

const STAGE = byId("graph");
const SCENE = byId("scene");
const SMALL = byId("small");
const LAYERS = Object.fromEntries(
  ["dust", "frames", "lines", "handles", "nodes", "marks"].map((name) => [
    name,
    SCENE.appendChild(svg("g", { class: name })),
  ]),
);
const FAR = 0.56; // below this scale a node shows what it does, and no more
const BESIDE = 90; // between the two pictures of a comparison

let scene; // what `placed` found
let panes; // one picture, or MAML's and first-order MAML's
const drawn = new Map(); // key -> element

function relayout() {
  scene = placed();
  panes = [{ walk: WALK, left: 0, first: false }];
  if (FIRST) panes.push({ walk: FIRST, left: scene.width + BESIDE, first: true });
  drawn.clear();
  for (const layer of Object.values(LAYERS)) layer.replaceChildren();
  if (FIRST) for (const pane of panes) LAYERS.frames.append(paneTitle(pane));
  drawSmall();
  render();
}

const TITLE = 120; // how high the title of a picture is

// All pictures together.
function total() {
  const top = scene.top - (FIRST ? TITLE : 0);
  return { left: 0, top, width: panes.at(-1).left + scene.width, height: scene.top + scene.height - top };
}

function paneTitle(pane) {
  const count = NODES.flatMap((node) => node.needs).filter((need) => need[2] === 2).length;
  const text = pane.first ? `without the ${count} second-order edges` : `${count} second-order edges, dashed`;
  const top = scene.top - TITLE;
  return svg(
    "g",
    {},
    svg("text", { x: pane.left, y: top + 46, class: "pane-name", text: pane.first ? "First-order MAML" : "MAML" }),
    svg("text", { x: pane.left, y: top + 88, class: "pane-fact", text }),
  );
}

// The part of the drawing that the window shows, and a little more.
function inWindow() {
  const { x, y, scale } = STATE.camera;
  const { clientWidth: w, clientHeight: h } = STAGE;
  const margin = 80 / scale;
  return {
    left: -x / scale - margin,
    top: -y / scale - margin,
    right: (w - x) / scale + margin,
    bottom: (h - y) / scale + margin,
  };
}

function render() {
  const { x, y, scale } = STATE.camera;
  SCENE.setAttribute("transform", `translate(${x.toFixed(2)} ${y.toFixed(2)}) scale(${scale.toFixed(4)})`);
  STAGE.classList.toggle("far", scale < FAR);
  const view = inWindow();
  const wanted = new Set();
  const want = (key, visible, layer, make) => {
    if (!visible) return;
    wanted.add(key);
    if (!drawn.has(key)) drawn.set(key, layer.appendChild(make()));
  };
  panes.forEach((pane, p) => {
    const meets = (left, right, top, bottom) =>
      left + pane.left < view.right && right + pane.left > view.left && top < view.bottom && bottom > view.top;
    const overlaps = ({ left, top, width, height }) => meets(left, left + width, top, top + height);
    for (const box of scene.boxes) {
      const there = overlaps(box) && standsOut("b", box);
      if (STATE.open[box.number]) want(`${p}f${box.number}`, there, LAYERS.frames, () => drawFrame(box, pane));
      want(`${p}b${box.number}`, there, LAYERS.handles, () => drawHandle(box, pane));
    }
    for (const line of isDust() ? [] : scene.lines) {
      const near = isThere(line, pane) && meets(line.left, line.right, line.top, line.bottom);
      want(`${p}l${line.key}`, near, LAYERS.lines, () => drawLine(line, pane));
    }
    for (const node of scene.nodes) {
      const there = overlaps(node) && standsOut("n", node);
      want(`${p}n${node.number}`, there, LAYERS.nodes, () => drawNode(node, pane));
    }
  });
  for (const [key, element] of drawn) {
    if (wanted.has(key)) continue;
    element.remove();
    drawn.delete(key);
  }
  showDust();
  moveSmall();
}

// Everything again, as it is at this step.
function paint() {
  for (const element of drawn.values()) element.paint();
  drawMarks();
}
