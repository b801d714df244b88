"use strict";

// Stepping, looking, searching: what the reader does.

const SLIDER = byId("slider");
const STILL = matchMedia("(prefers-reduced-motion: reduce)");

// Steps.

function goTo(step) {
  STATE.step = Math.min(Math.max(step, 0), STEPS);
  STATE.selected = null;
  const node = active();
  if (node !== null && byId("follow").checked) reveal(node);
  refresh();
}

function refresh() {
  SLIDER.value = STATE.step;
  SLIDER.classList.toggle("backward", taken() > 0);
  const words = inWords();
  byId("caption").textContent = words;
  SLIDER.setAttribute("aria-valuetext", words);
  paint();
  render();
  showPanel();
}

function inWords() {
  const node = active();
  if (node === null) return "the whole graph";
  const name = NODES[node].name;
  if (!taken()) return `forward ${STATE.step} of ${FORWARD}: ${name}`;
  return `backward ${taken()} of ${WALK.steps.length}: ${name}`;
}

let timer = null;

function play(on = timer === null) {
  clearInterval(timer);
  timer = on ? setInterval(() => (STATE.step < STEPS ? goTo(STATE.step + 1) : play(false)), 650) : null;
  if (on && STATE.step === STEPS) goTo(0);
  byId("play").classList.toggle("playing", on);
  byId("play").setAttribute("aria-label", on ? "Pause" : "Play");
}

// Boxes.

function toggle(number) {
  const before = scene.boxAt.get(number);
  STATE.open[number] = !STATE.open[number];
  STATE.followed.delete(number);
  relayout();
  const after = scene.boxAt.get(number);
  const { x, y, scale } = STATE.camera; // the box stays where it is
  const moved = before.left + before.width / 2 - after.left - after.width / 2;
  look({ x: x + moved * scale, y: y + (before.top - after.top) * scale, scale }, true);
  refresh();
  drawn.get(`0b${number}`)?.querySelector(".handle").focus({ preventScroll: true });
}

function toggleAll() {
  const fold = STATE.open.slice(1).every((open) => open);
  STATE.open = STATE.open.map((_, number) => number === 0 || !fold);
  STATE.followed.clear();
  settle();
  refresh();
}

// Open the boxes around a node, fold those that were opened for an earlier one, and move there.
function reveal(node) {
  const around = WAYS[node].map(({ box }) => box);
  const folded = around.filter((box) => !STATE.open[box]);
  const left = [...STATE.followed].filter((box) => !around.includes(box));
  for (const box of folded) STATE.followed.add(box);
  for (const box of left) STATE.followed.delete(box);
  folded.forEach((box) => (STATE.open[box] = true));
  left.forEach((box) => (STATE.open[box] = false));
  if (folded.length || left.length) relayout();
  bringIn(node);
}

function select(node) {
  STATE.selected = node === active() ? null : node;
  reveal(node);
  refresh();
}

// Keys.

const KEYS = {
  ArrowRight: () => goTo(STATE.step + 1),
  ArrowLeft: () => goTo(STATE.step - 1),
  Home: () => {
    goTo(0);
    fit();
  },
  End: () => goTo(STEPS),
  " ": () => play(),
  "/": () => byId("search").select(),
  "+": () => zoom(1.25),
  "=": () => zoom(1.25),
  "-": () => zoom(0.8),
  0: () => fit(),
  f: () => fit(),
  o: () => toggleAll(),
  d: () => changeTheme(),
  "?": () => byId("keys").showModal(),
  Escape: () => {
    STATE.selected = null;
    if (active() !== null) reveal(active());
    refresh();
  },
  Enter: () => document.activeElement.closest(".node, .handle") && press(document.activeElement),
};

function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("keys").open) return;
  const on = event.target;
  if (on === byId("search") || on.tagName === "SELECT") return;
  if (on.tagName === "BUTTON" && (event.key === " " || event.key === "Enter")) return;
  if (on.type === "checkbox" && event.key === " ") return;
  const action = KEYS[event.key];
  if (!action) return;
  event.preventDefault();
  action();
}

function changeTheme() {
  const dark =
    getComputedStyle(document.documentElement).colorScheme === "dark" ||
    (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = dark ? "light" : "dark";
}

// The legend: what the colours and lines mean.

function showLegend() {
  const orders = [...new Set(NODES.map((node) => Math.min(node.order, 4)))].sort();
  const item = (name, words) => el("span", {}, el("i", { class: name }), words);
  const colours = {
    order: () =>
      orders.map((order) =>
        item(`chip order${order}`, order ? `order ${order}${order === 4 ? " and more" : ""}` : "order 0: forward"),
      ),
    bytes: () => [
      item("chip weight0", "holds nothing"),
      item("chip weight3", ""),
      item("chip weight6", `holds most: ${amount(MOST_BYTES)}`),
    ],
    finite: () => [item("chip good", "✓ finite"), item("chip bad", "! NaN or Inf")],
  }[STATE.colour]();
  const kinds = new Set(NODES.flatMap((node) => node.needs.map((need) => need[2])));
  const rows = [
    ["stroke kind1", "walked back", 1],
    ["stroke kind2", orders.at(-1) > 1 ? "second order and higher" : "second order", 2],
    ["stroke kind0", "forward only", 0],
  ];
  const sides = [
    el("b", { class: "forward", text: "value" }),
    el("b", { class: "backward", text: "cotangent" }),
    el("span", { text: "‖norm‖" }),
  ];
  byId("legend").replaceChildren(
    ...colours,
    ...sides,
    ...rows.filter(([, , kind]) => kinds.has(kind)).map(([name, words]) => item(name, words)),
  );
}

function redraw() {
  relayout();
  showLegend();
  refresh();
}

function start() {
  byId("title").textContent = CONTENT.title;
  byId("about").textContent = `${NODES.length} nodes`;
  SLIDER.max = STEPS;
  byId("forward").textContent = "forward";
  byId("backward").textContent = WALK.steps.length ? "backward" : "";
  byId("forward").style.flexGrow = FORWARD;
  byId("backward").style.flexGrow = WALK.steps.length;
  SLIDER.addEventListener("input", () => goTo(Number(SLIDER.value)));
  const buttons = {
    first: KEYS.Home,
    back: KEYS.ArrowLeft,
    play: () => play(),
    next: KEYS.ArrowRight,
    last: KEYS.End,
    in: KEYS["+"],
    out: KEYS["-"],
    fit,
    unfold: toggleAll,
    theme: changeTheme,
    help: KEYS["?"],
  };
  for (const [id, action] of Object.entries(buttons)) byId(id).addEventListener("click", () => action());
  byId("unfold").hidden = BOXES.length < 2;
  byId("colour").addEventListener("change", (event) => {
    STATE.colour = event.target.value;
    redraw();
  });
  byId("values").addEventListener("change", (event) => {
    STATE.values = event.target.value;
    refresh();
  });
  byId("search").addEventListener("input", (event) => showFound(event.target.value));
  byId("search").addEventListener("keydown", searchKeys);
  byId("search").addEventListener("blur", () => (FOUND.hidden = true));
  addEventListener("keydown", keys);
  addEventListener("resize", () => (STATE.step ? render() : settle()));
  dragging();
  settle();
  showLegend();
  refresh();
}

start();
