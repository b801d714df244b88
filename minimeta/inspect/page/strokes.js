"use strict";

// Lines as they are drawn: by what goes back along them, and whether something does at this step.

function drawLine(line, pane) {
  const path = svg("path", { d: line.d, transform: pane.first ? `translate(${f(pane.left)} 0)` : null });
  path.paint = () => paintLine(path, line, pane);
  path.paint();
  return path;
}

// On the right, where first-order MAML is, lines are missing that are all of second order.
const isThere = (line, pane) => !pane.first || line.kinds[0] + line.kinds[1] > 0;
const kindOf = (line, pane) => (pane.first ? Math.min(line.kinds[1], 1) : line.kind);

function paintLine(path, line, pane) {
  const names = ["line", `kind${kindOf(line, pane)}`];
  const lit = isLit(line, pane);
  const near = line.edges.some(([parent, child]) => parent === STATE.selected || child === STATE.selected);
  if (pane.first && line.edges.every(([parent, child]) => !REMAINS[parent] || !REMAINS[child])) names.push("gone");
  else if (lit) names.push(taken() ? "lit-backward" : "lit");
  else if (line.edges.every(([, child]) => !computed(child))) names.push("later");
  if (near) names.push("near");
  path.setAttribute("class", names.join(" "));
  if (lit || near) path.parentNode?.append(path); // above the others
}

// Forward, a line to the active node; backward, one along which its rules send something.
function isLit(line, pane) {
  const node = active();
  return line.edges.some(([parent, child]) => child === node && (!taken() || isSent(pane, parent, child)));
}

const isSent = (pane, parent, child) => pane.walk.received[parent].some((sent) => sent.from === child);

// Beside each line that is lit in a backward step, the norm of what goes along it.
function drawMarks() {
  LAYERS.marks.replaceChildren();
  const node = active();
  if (!taken()) return;
  for (const pane of panes) {
    if (!pane.walk.own.has(node)) continue;
    const step = pane.walk.steps[pane.walk.own.get(node) - 1];
    const marks = new Map();
    for (const sent of step.sent) {
      const key = `${seen(sent.to).key}>${seen(node).key}`;
      marks.set(key, [...(marks.get(key) ?? []), VALUES[sent.value]]);
    }
    for (const [key, sent] of marks) {
      const line = scene.lines.find((line) => line.key === key);
      if (line) LAYERS.marks.append(mark(line, sent, pane));
    }
  }
}

function mark(line, sent, pane) {
  const text = sent.map(brief).join(", ");
  return svg("text", { x: line.middle[0] + pane.left, y: line.middle[1] + 3.5, class: "mark", text });
}
