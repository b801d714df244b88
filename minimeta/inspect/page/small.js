"use strict";

// The whole drawing in small, with the window in it, unless the window shows all.
function drawSmall() {
  const rects = (things) =>
    panes
      .flatMap((pane) => things.map(({ left, top, width, height }) => rectangle(left + pane.left, top, width, height)))
      .join("");
  const { left, top, width, height } = total();
  SMALL.setAttribute("viewBox", `${left - 20} ${top - 20} ${width + 40} ${height + 40}`);
  SMALL.replaceChildren(
    svg("path", { class: "frames", d: rects(scene.boxes) }),
    svg("path", { class: "nodes", d: rects(scene.nodes) }),
    svg("path", { class: "dot" }),
    svg("rect", { class: "window" }),
  );
}

const rectangle = (left, top, width, height) => `M${f(left)} ${f(top)}h${f(width)}v${f(height)}h${f(-width)}z`;

function moveSmall() {
  const { x, y, scale } = STATE.camera;
  SMALL.classList.toggle("needless", showsAll(STATE.camera));
  const shown = { x: -x / scale, y: -y / scale, width: STAGE.clientWidth / scale, height: STAGE.clientHeight / scale };
  for (const [key, number] of Object.entries(shown)) SMALL.lastChild.setAttribute(key, number);
  const node = active();
  const place = node === null ? null : at(scene, seen(node).key);
  SMALL.querySelector(".dot").classList.toggle("backward", taken() > 0);
  SMALL.querySelector(".dot").setAttribute(
    "d",
    place ? rectangle(place.left, place.top, place.width, place.height) : "",
  );
}
