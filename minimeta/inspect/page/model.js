"use strict";

// What the page is about, as Python wrote it, and what follows from that.

const CONTENT = JSON.parse(byId("content").textContent);
const { nodes: NODES, boxes: BOXES, values: VALUES, sizes: SIZES } = CONTENT;
const FORWARD = NODES.length;

// A walk by node: its step, and what it was sent in which steps. Backward steps count from 1. A sum is known after the
// step, so that of two things sent to a node in one step the last has it.
function walked(content) {
  const own = new Map();
  const received = NODES.map(() => []);
  const steps = content.map((step, i) => {
    own.set(step.node, i + 1);
    const sent = step.sent.map((part, k) => {
      const known = { ...part, from: step.node, step: i + 1, summed: received[part.to].length + 1 };
      known.last = !step.sent.slice(k + 1).some((later) => later.to === part.to);
      received[part.to].push(known);
      return known;
    });
    return { ...step, sent };
  });
  return { steps, own, received };
}

const WALK = walked(CONTENT.steps);
const FIRST = CONTENT.compared ? walked(CONTENT.first) : null;

// The first-order walk takes some of the same steps; by how many is it done when the other has taken `count`?
const firstOrderSteps = (count) => CONTENT.first.filter((step) => WALK.own.get(step.node) <= count).length;

// The cotangent of a node when `count` steps of a walk are taken: what it has been sent by then.
function cotangent(walk, node, count) {
  if (walk.own.get(node) <= count) return walk.steps[walk.own.get(node) - 1].cotangent;
  const sent = walk.received[node].filter((sent) => sent.step <= count);
  return sent.length ? sent.at(-1).total : null;
}

// Who needs a node.
const NEEDED = NODES.map(() => []);
NODES.forEach((node, child) =>
  node.needs.forEach(([parent, argument, kind]) => NEEDED[parent].push([child, argument, kind])),
);

// On the right, where first-order MAML is, nodes are gone that nothing forward leads to.
const REMAINS = NODES.map(
  (node, i) => node.input || CONTENT.roots.includes(i) || [...node.needs, ...NEEDED[i]].some((edge) => edge[2] === 1),
);

// The boxes around a node, outermost first, each with the node's, or the next box's, place in it.
const WAYS = NODES.map(() => []);
const WITHIN = BOXES.map(() => []);
BOXES.forEach((box, number) =>
  box.members.forEach(([isBox, member], place) => {
    (isBox ? WITHIN : WAYS)[member] = [...WITHIN[number], { box: number, place }];
  }),
);

// How many nodes of which order are in a box, how many bytes they hold, and whether all are finite.
const SUMS = BOXES.map(() => ({ nodes: 0, bytes: 0, finite: true, orders: [] }));
NODES.forEach((node, i) => {
  for (const { box } of WAYS[i]) {
    const sums = SUMS[box];
    sums.nodes += 1;
    sums.bytes += node.bytes;
    sums.finite &&= finite(i);
    sums.orders[node.order] = (sums.orders[node.order] ?? 0) + 1;
  }
});

function finite(i) {
  return [NODES[i].value, cotangent(WALK, i, Infinity)].every((place) => place === null || isFinite_(VALUES[place]));
}

// What the reader has chosen.
const STATE = {
  step: 0, // 0 is the whole graph, then forward node by node, then backward step by step
  selected: null, // a node the reader asked for, instead of the active one
  open: BOXES.map((box) => box.open),
  breaks: [0], // the layers of the outermost box that begin a column
  followed: new Set(), // boxes that were opened because the active node is in them
  colour: "order",
  values: "numbers",
  camera: { x: 0, y: 0, scale: 1 },
};

const STEPS = FORWARD + WALK.steps.length;
const taken = () => Math.max(STATE.step - FORWARD, 0); // backward steps
const active = () => (STATE.step === 0 ? null : taken() ? WALK.steps[taken() - 1].node : STATE.step - 1);
const computed = (i) => STATE.step === 0 || i < STATE.step;
const looked = () => STATE.selected ?? active();
