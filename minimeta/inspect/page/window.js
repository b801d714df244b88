"use strict";

// The window.

const MARGIN = { left: 28, right: 28, top: 52, bottom: 50 }; // for what lies above the drawing
const EDGE = 170; // so far from the window's edge the active node is kept
const SMALLEST = 0.005;
const READABLE = FIRST ? 0.7 : 0.85;

function look(camera, quick = false) {
  const from = { ...STATE.camera };
  const start = performance.now();
  const last = quick || STILL.matches ? 0 : 220;
  const move = (now) => {
    if (look.current !== camera) return;
    const part = last ? Math.min(Math.max((now - start) / last, 0), 1) : 1; // a frame may have begun before `start`
    const eased = 1 - (1 - part) ** 3;
    for (const key of ["x", "y", "scale"]) STATE.camera[key] = from[key] + (camera[key] - from[key]) * eased;
    render();
    if (part < 1) requestAnimationFrame(move);
  };
  look.current = camera;
  move(start);
}

const room = () => [STAGE.clientWidth - MARGIN.left - MARGIN.right, STAGE.clientHeight - MARGIN.top - MARGIN.bottom];

function fit() {
  const [w, h] = room();
  const { left, top, width, height } = total();
  const scale = Math.max(Math.min(w / width, h / height, 1.6), SMALLEST);
  look(
    {
      scale,
      x: MARGIN.left + (w - width * scale) / 2 - left * scale,
      y: MARGIN.top + (h - height * scale) / 2 - top * scale,
    },
    true,
  );
}

// Into columns anew, and all of it into the window.
function settle() {
  arrange(...room());
  relayout();
  fit();
}

// Move as little as needed, and so near that the node can be read; of a comparison both pictures of it.
function bringIn(node) {
  const { left, top, width, height } = at(scene, seen(node).key);
  const [w, h] = [STAGE.clientWidth, STAGE.clientHeight];
  const whole = width + panes.at(-1).left;
  const goal = look.current ?? STATE.camera;
  const scale = Math.max(goal.scale, Math.min(READABLE, (w - MARGIN.left - MARGIN.right) / whole));
  const middle = scale !== goal.scale;
  const x = middle ? w / 2 - (left + whole / 2) * scale : goal.x;
  const y = middle ? h / 2 - (top + height / 2) * scale : goal.y;
  const edge = showsAll({ x, y, scale }) ? 0 : EDGE;
  look({
    x: x + inside(x + left * scale, whole * scale, w, edge),
    y: y + inside(y + top * scale, height * scale, h, edge),
    scale,
  });
}

// Whether the whole drawing is in the window.
function showsAll({ x, y, scale }) {
  const { left, top, width, height } = total();
  const within = (start, size, window) => start >= 0 && start + size <= window;
  const across = within(x + left * scale, width * scale, STAGE.clientWidth);
  return across && within(y + top * scale, height * scale, STAGE.clientHeight);
}

// How far to move something so that it is within the window, not near its edge where there is room.
function inside(start, size, window, wanted) {
  const edge = Math.max(Math.min(wanted, (window - size) / 2), 0);
  return Math.min(Math.max(start, edge), window - edge - size) - start;
}

function zoom(factor, [x, y] = [STAGE.clientWidth / 2, STAGE.clientHeight / 2]) {
  const { camera } = STATE;
  const scale = Math.min(Math.max(camera.scale * factor, SMALLEST), 4);
  const real = scale / camera.scale;
  look({ scale, x: x - (x - camera.x) * real, y: y - (y - camera.y) * real }, true);
}

function dragging() {
  let from = null;
  STAGE.addEventListener("pointerdown", (event) => {
    from = { x: event.clientX, y: event.clientY, camera: { ...STATE.camera }, moved: false, target: event.target };
  });
  addEventListener("pointermove", (event) => {
    if (!from) return;
    const [dx, dy] = [event.clientX - from.x, event.clientY - from.y];
    from.moved ||= Math.hypot(dx, dy) > 4;
    STAGE.classList.toggle("dragged", from.moved);
    if (from.moved) look({ ...from.camera, x: from.camera.x + dx, y: from.camera.y + dy }, true);
  });
  addEventListener("pointerup", () => {
    if (from && !from.moved) press(from.target);
    from = null;
    STAGE.classList.remove("dragged");
  });
  STAGE.addEventListener("focusin", ({ target }) => {
    if (target.dataset.node && target.matches(":focus-visible")) bringIn(Number(target.dataset.node));
  });
  STAGE.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const box = STAGE.getBoundingClientRect();
      zoom(Math.exp(-event.deltaY / 500), [event.clientX - box.left, event.clientY - box.top]);
    },
    { passive: false },
  );
}

function press(target) {
  const node = target.closest("[data-node]");
  const box = target.closest("[data-box]");
  if (node) select(Number(node.dataset.node));
  else if (box) toggle(Number(box.dataset.box));
}
