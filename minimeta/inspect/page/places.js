"use strict";

// Where everything is, given which boxes are open. Python found the layers, the order in them, and x; opening a box
// makes its layer higher, and moves its neighbours in that layer aside by half of what it grew.

const isPort = (box, thing) => thing >= box.members.length;

// The size of a box, and within it, when it is open, the middle and extent of everything in it.
function measured(number) {
  const box = BOXES[number];
  if (!STATE.open[number]) return { width: box.folded, height: SIZES.folded };
  const inner = box.members.map(([isBox, member], place) =>
    isBox ? measured(member) : { width: box.widths[place], height: SIZES.node },
  );
  if (number === 0 && CONTENT.compared) widenLanes(box, inner);
  const x = [...box.x];
  const layerOf = [];
  const tops = [];
  let y = number === 0 ? 0 : SIZES.top;
  for (const [index, layer] of box.layers.entries()) {
    const grown = layer.map((thing) => (isPort(box, thing) ? 0 : inner[thing].width - box.widths[thing]));
    const total = grown.reduce((a, b) => a + b, 0);
    let before = 0;
    layer.forEach((thing, i) => {
      x[thing] += (before - (total - before - grown[i])) / 2;
      before += grown[i];
      layerOf[thing] = index;
    });
    const height = Math.max(0, ...layer.map((thing) => (isPort(box, thing) ? 0 : inner[thing].height)));
    tops.push([y, y + height]);
    y += height + SIZES.between;
  }
  const half = (thing) => (isPort(box, thing) ? SIZES.line : inner[thing].width) / 2;
  const left = Math.min(...x.map((middle, thing) => middle - half(thing)));
  const right = Math.max(...x.map((middle, thing) => middle + half(thing)));
  const side = number === 0 ? 0 : SIZES.side;
  const width = Math.max(right - left + 2 * side, number === 0 ? 0 : box.folded);
  const shift = (width - (right - left)) / 2 - left;
  const bottom = y - SIZES.between + (number === 0 ? 0 : box.out.length ? 4 : SIZES.side);
  return { width, height: bottom, inner, layerOf, tops, x: x.map((middle) => middle + shift) };
}

// All that is to be seen: boxes, nodes and lines, in the pixels of the drawing.
function placed() {
  const sizes = measured(0);
  const columns = inColumns(sizes, STATE.breaks);
  const scene = { ...extent(columns), columns, boxes: [], nodes: [], lines: [], nodeAt: new Map(), boxAt: new Map() };
  const frames = new Map();
  const put = (number, size, left, top) => {
    const box = BOXES[number];
    frames.set(number, { size, left, top });
    if (!STATE.open[number]) return;
    box.members.forEach(([isBox, member], place) => {
      const { width, height } = size.inner[place];
      const [from, to] = size.tops[size.layerOf[place]];
      const at = { left: left + size.x[place] - width / 2, top: top + (from + to - height) / 2, width, height };
      (isBox ? scene.boxAt : scene.nodeAt).set(member, at);
      (isBox ? scene.boxes : scene.nodes).push({ number: member, ...at });
      if (isBox) put(member, size.inner[place], at.left, at.top);
    });
  };
  put(0, sizes, 0, 0);
  scene.lines = lines(scene, frames);
  return scene;
}

// As a newspaper is set in columns, so is a tall drawing: each begins with a layer of the outermost box, see `breaks`.

const GUTTER = 96;
const TURN = 44; // above and below, where lines turn into the next column

function inColumns(sizes, breaks) {
  const box = BOXES[0];
  const half = (thing) => (isPort(box, thing) ? SIZES.line : sizes.inner[thing].width) / 2;
  const columns = [];
  let right = -GUTTER;
  breaks.forEach((first, k) => {
    const last = (breaks[k + 1] ?? box.layers.length) - 1;
    const things = box.layers.slice(first, last + 1).flat();
    const left = Math.min(...things.map((thing) => sizes.x[thing] - half(thing)));
    const end = Math.max(...things.map((thing) => sizes.x[thing] + half(thing)));
    const column = {
      first,
      last,
      gutter: right,
      left: right + GUTTER,
      width: end - left,
      height: sizes.tops[last][1] - sizes.tops[first][0],
    };
    for (const thing of things) sizes.x[thing] += column.left - left;
    const top = sizes.tops[first][0];
    for (let layer = first; layer <= last; layer += 1) sizes.tops[layer] = sizes.tops[layer].map((y) => y - top);
    columns.push(column);
    right = column.left + column.width;
  });
  sizes.columnOf = columns.flatMap((column, k) => Array(column.last - column.first + 1).fill(k));
  return columns;
}

function extent(columns) {
  const end = columns.at(-1);
  const turn = columns.length > 1 ? TURN : 0;
  const height = Math.max(...columns.map((column) => column.height));
  return { width: end.left + end.width, top: -turn, height: height + 2 * turn };
}

// The columns that show all in the window as large as possible. A comparison has one, so that both pictures of a node
// are near each other.
function arrange(width, height) {
  const sizes = measured(0);
  let best = { scale: 0, breaks: [0] }; // a frame that is not shown yet has no size
  for (let count = 1; count <= (FIRST ? 1 : Math.min(24, sizes.tops.length)); count += 1) {
    const breaks = balanced(sizes.tops, count);
    const whole = extent(inColumns({ ...sizes, x: [...sizes.x], tops: [...sizes.tops] }, breaks));
    const scale = Math.min(width / whole.width, height / whole.height, 1.6);
    if (scale > best.scale * 1.12) best = { scale, breaks };
  }
  STATE.breaks = best.breaks;
}

// Where to begin a new column so that all are about equally high.
function balanced(tops, count) {
  const fits = (limit) => {
    const breaks = [0];
    tops.forEach(([, bottom], layer) => {
      if (bottom - tops[breaks.at(-1)][0] > limit && layer > breaks.at(-1)) breaks.push(layer);
    });
    return breaks;
  };
  let [low, high] = [0, tops.at(-1)[1] + 1];
  while (high - low > 1) {
    const limit = (low + high) / 2;
    if (fits(limit).length > count) low = limit;
    else high = limit;
  }
  return fits(high);
}

// The outermost scopes of a meta-loss are its inner steps: open, they are lanes of one width.
function widenLanes(box, inner) {
  const lanes = box.members.flatMap(([isBox, member], place) =>
    isBox && BOXES[member].kind === "scope" && STATE.open[member] ? [inner[place]] : [],
  );
  const width = Math.max(0, ...lanes.map((lane) => lane.width));
  for (const lane of lanes) {
    lane.x = lane.x.map((x) => x + (width - lane.width) / 2);
    lane.width = width;
  }
}
