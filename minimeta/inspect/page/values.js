"use strict";

// Making elements. All text comes in by textContent, so that whatever a name holds is shown, never read as markup.

const byId = (id) => document.getElementById(id);

const SVG = "http://www.w3.org/2000/svg";

function filled(made, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "text") made.textContent = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const svg = (tag, attributes = {}, ...children) => filled(document.createElementNS(SVG, tag), attributes, children);
const el = (tag, attributes = {}, ...children) => filled(document.createElement(tag), attributes, children);

// Arrays as they came from Python: {type, size, norm, entries | map, columns, bars, low, high, mean, nan, inf}.

function shown(x, digits = 5) {
  x = Number(x);
  if (Number.isNaN(x)) return "NaN";
  if (!Number.isFinite(x)) return x > 0 ? "∞" : "−∞";
  if (x === 0) return "0";
  const size = Math.abs(x);
  const text =
    size < 1e-3 || size >= 10 ** (digits + 1) ? x.toExponential(digits > 3 ? digits - 1 : 1) : x.toPrecision(digits);
  const [mantissa, power] = text.split("e");
  const short = mantissa.includes(".") ? mantissa.replace(/\.?0+$/, "") : mantissa;
  return (power ? `${short}e${power.replace("+", "")}` : short).replace(/^-/, "−");
}

const isFinite_ = (value) => !value.nan && !value.inf;

// The shape of float64[10, 8] as 10×8; nothing for a number.
const shape = (type) => type.slice(type.indexOf("[") + 1, -1).replaceAll(", ", "×");

const amount = (bytes) =>
  bytes >= 1e6 ? `${shown(bytes / 1e6, 3)} MB` : bytes >= 1e3 ? `${shown(bytes / 1e3, 3)} kB` : `${bytes} B`;

// In few letters: a number itself, of an array the norm.
function brief(value) {
  if (!isFinite_(value)) return value.nan ? "NaN" : "Inf";
  return value.size === 1 ? shown(value.entries[0], 3) : `‖${shown(value.norm, 3)}‖`;
}

// Cells of a heat map from -1 to 1, null where it is not finite.
function cells(value) {
  if (value.map !== undefined) {
    const half = (CONTENT.letters.length - 1) / 2;
    return [...value.map].map((letter) => (letter === "!" ? null : CONTENT.letters.indexOf(letter) / half - 1));
  }
  const top = Number(value.top) || 1;
  return value.entries.map((x) => (Number.isFinite(Number(x)) ? Number(x) / top : null));
}

const SHADES = 8;

// How a cell is coloured, as a class and the share of the class's colour.
function shade(cell) {
  if (cell === null) return "broken 100";
  return `${cell < 0 ? "minus" : "plus"} ${Math.round(Math.abs(cell) * SHADES) * (100 / SHADES)}`;
}

function tinted(made, shade) {
  const [side, part] = shade.split(" ");
  made.classList.add(side);
  made.style.setProperty("--part", `${part}%`);
  return made;
}

// A heat map: one path for all cells of a shade, so that many of them stay cheap.
function heatMap(value, x, y, width, height) {
  const all = cells(value);
  const columns = Math.max(value.columns, 1);
  const rows = Math.max(Math.ceil(all.length / columns), 1);
  const [w, h] = [width / columns, height / rows];
  const paths = new Map();
  all.forEach((cell, i) => {
    const left = x + (i % columns) * w;
    const top = y + Math.floor(i / columns) * h;
    const piece = `M${left.toFixed(2)} ${top.toFixed(2)}h${w.toFixed(2)}v${h.toFixed(2)}h${(-w).toFixed(2)}z`;
    paths.set(shade(cell), (paths.get(shade(cell)) ?? "") + piece);
  });
  return svg("g", { class: "map" }, ...[...paths].map(([shade, d]) => tinted(svg("path", { d }), shade)));
}

function histogram(value, x, y, width, height) {
  const bars = value.bars ?? [1];
  const most = Math.max(...bars, 1);
  const w = width / bars.length;
  const d = bars.map((count, i) => {
    const h = count ? Math.max((count / most) * height, 1) : 0;
    return `M${(x + i * w + 0.5).toFixed(2)} ${y + height}v${(-h).toFixed(2)}h${(w - 1).toFixed(2)}v${h.toFixed(2)}z`;
  });
  return svg("g", { class: "bars" }, svg("path", { d: d.join("") }));
}

// A value in the corner of a node.
function cell(value, mode, x, y, width, height) {
  if (mode === "map") return heatMap(value, x, y, width, height);
  if (mode === "bars" && value.size > 1) return histogram(value, x, y, width, height);
  return svg("text", {
    x: x + width / 2,
    y: y + height - 3.5,
    class: isFinite_(value) ? "brief" : "brief broken",
    text: brief(value),
  });
}

// A value in full, for the panel.
function whole(value, mode) {
  const facts = [value.type];
  if (value.size > 1)
    facts.push(`norm ${shown(value.norm)}`, `mean ${shown(value.mean)}`, `${shown(value.low)} … ${shown(value.high)}`);
  if (!isFinite_(value)) facts.push(`${value.nan} NaN, ${value.inf} Inf`);
  const picture = el("div", { class: "value" }, el("p", { class: "facts", text: facts.join("  ·  ") }));
  if (value.size === 0) return picture;
  if (mode === "bars" && value.bars) {
    picture.append(svg("svg", { viewBox: "0 0 320 64", class: "picture" }, histogram(value, 0, 0, 320, 62)));
  } else if (mode === "map" || value.map !== undefined) {
    const rows = cells(value).length / value.columns;
    const height = Math.min(Math.max((320 * rows) / value.columns, 16), 200);
    picture.append(svg("svg", { viewBox: `0 0 320 ${height}`, class: "picture" }, heatMap(value, 0, 0, 320, height)));
  } else picture.append(table(value));
  return picture;
}

const COLUMNS = 5;

// Entry by entry: a vector wraps, a matrix has its own columns, and scrolls if they are many.
function table(value) {
  if (value.size === 1) return el("p", { class: "number", title: value.entries[0], text: shown(value.entries[0], 9) });
  const all = cells(value);
  const wide = value.columns > COLUMNS && value.columns < value.size;
  const grid = el("div", { class: "entries" });
  grid.style.gridTemplateColumns = wide
    ? `repeat(${value.columns}, 64px)`
    : `repeat(${Math.min(value.columns, COLUMNS)}, minmax(0, 1fr))`;
  value.entries.forEach((x, i) => grid.append(tinted(el("span", { title: x, text: shown(x, 4) }), shade(all[i]))));
  return wide ? el("div", { class: "scroll", tabindex: 0 }, grid) : grid;
}
