"use strict";

// Lines: from node to node by the ports of boxes, along trunks, and from column to column.

// The place of the outermost folded box around a node in its way, or that of the node itself.
function seen(node) {
  const way = WAYS[node];
  const folded = way.findIndex(({ box }, depth) => depth > 0 && !STATE.open[box]);
  return folded < 0 ? { key: `n${node}`, depth: way.length - 1 } : { key: `b${way[folded].box}`, depth: folded - 1 };
}

// One line for all edges between the same two things.
function lines(scene, frames) {
  const found = new Map();
  NODES.forEach((node, child) =>
    node.needs.forEach(([parent, , kind]) => {
      const [from, to] = [seen(parent), seen(child)];
      if (from.key === to.key) return;
      const key = `${from.key}>${to.key}`;
      let line = found.get(key);
      if (!line) {
        line = { key, kind, kinds: [0, 0, 0], edges: [], points: route(scene, frames, parent, from, child, to) };
        found.set(key, line);
      }
      line.kind = Math.max(line.kind, kind);
      line.kinds[kind] += 1;
      line.edges.push([parent, child, kind]);
    }),
  );
  const all = [...found.values()];
  const starts = lanes(
    scene,
    all.map((line) => line.points),
  );
  return all.map((line) => ({ ...line, ...curve(scene, starts, line.points), ...bounds(scene, line.points) }));
}

// Out of the parent's boxes by their ports, along the trunk, and into the child's boxes: points, and between two of
// them { column } where the line turns into another column.
function route(scene, frames, parent, from, child, to) {
  const [up, down] = [WAYS[parent], WAYS[child]];
  let shared = 0;
  while (up[shared].box === down[shared].box && up[shared].place === down[shared].place) shared += 1;
  const start = at(scene, from.key);
  const points = [[start.left + start.width / 2, start.top + start.height]];
  for (let depth = from.depth; depth > shared; depth -= 1) {
    const box = BOXES[up[depth].box];
    const port = box.members.length + box.in.length + box.out.indexOf(parent);
    along(points, frames, up[depth].box, up[depth].place, port);
    points.push(portAt(frames, up[depth].box, port, false));
  }
  along(points, frames, up[shared].box, up[shared].place, down[shared].place);
  for (let depth = shared + 1; depth <= to.depth; depth += 1) {
    const box = BOXES[down[depth].box];
    const port = box.members.length + box.in.indexOf(parent);
    points.push(portAt(frames, down[depth].box, port, true));
    along(points, frames, down[depth].box, port, down[depth].place);
  }
  const end = at(scene, to.key);
  points.push([end.left + end.width / 2, end.top]);
  return points;
}

const at = (scene, key) => (key[0] === "n" ? scene.nodeAt : scene.boxAt).get(Number(key.slice(1)));

function portAt(frames, number, port, top) {
  const { size, left, top: y } = frames.get(number);
  return [left + size.x[port], top ? y : y + size.height];
}

// The bends in one box, straight down through their layers.
function along(points, frames, number, a, b) {
  const { size, left, top } = frames.get(number);
  const bends = BOXES[number].trunks[a] ?? [];
  for (let layer = size.layerOf[a] + 1; layer <= size.layerOf[b]; layer += 1) {
    if (size.columnOf && size.columnOf[layer] !== size.columnOf[layer - 1])
      points.push({ column: size.columnOf[layer] });
    if (layer === size.layerOf[b]) break;
    const [from, to] = size.tops[layer];
    const x = left + size.x[bends[layer - size.layerOf[a] - 1]];
    points.push([x, top + from], [x, top + to]);
  }
}

// In the gutters lines run upwards side by side; the rightmost one turns first, so that they do not cross.
function lanes(scene, routes) {
  const starts = scene.columns.map(() => new Set());
  for (const points of routes) points.forEach((point, i) => point.column && starts[point.column].add(points[i - 1][0]));
  return starts.map((set) => [...set].sort((a, b) => b - a));
}

function turn(scene, starts, [x], column, [u, v]) {
  const [before, after] = [scene.columns[column - 1], scene.columns[column]];
  const rank = starts[column].indexOf(x);
  const share = (rank + 1) / (starts[column].length + 1);
  const lane = after.gutter + GUTTER * (0.15 + 0.7 * share);
  const deep = TURN * (0.3 + share); // below, the leftmost lane is the innermost turn; above, the outermost
  const high = -TURN * (1.3 - share);
  const [end, out, back, into] = [before.height, before.height + deep, lane, u].map(f);
  return {
    d: `V${end}C${f(x)} ${out} ${back} ${out} ${back} ${end}V0C${back} ${f(high)} ${into} ${f(high)} ${into} 0V${f(v)}`,
    middle: [lane, Math.min(before.height, after.height) / 2],
  };
}

const f = (x) => x.toFixed(1);

// Smooth, and upright at every point.
function curve(scene, starts, points) {
  const d = [`M${f(points[0][0])} ${f(points[0][1])}`];
  let middle = null;
  for (let i = 1; i < points.length; i += 1) {
    const [before, here] = [points[i - 1], points[i]];
    if (here.column) {
      const turned = turn(scene, starts, before, here.column, points[i + 1]);
      d.push(turned.d);
      middle ??= turned.middle;
      i += 1;
      continue;
    }
    const half = f((before[1] + here[1]) / 2);
    const straight = Math.abs(before[0] - here[0]) < 0.3;
    d.push(straight ? `V${f(here[1])}` : `C${f(before[0])} ${half} ${f(here[0])} ${half} ${f(here[0])} ${f(here[1])}`);
  }
  return { d: d.join(""), middle: middle ?? halfway(points) };
}

function halfway(points) {
  const half = Math.floor((points.length - 1) / 2);
  const [a, b] = [points[half], points[half + 1]];
  return [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
}

// What part of the drawing a line can be in.
function bounds(scene, points) {
  const turns = points.some((point) => point.column);
  const [x, y] = [0, 1].map((axis) => points.filter((point) => !point.column).map((point) => point[axis]));
  const [left, right] = [Math.min(...x), Math.max(...x)];
  if (turns) return { left: left - GUTTER, right: right + GUTTER, top: scene.top, bottom: scene.top + scene.height };
  return { left, right, top: Math.min(...y), bottom: Math.max(...y) };
}
