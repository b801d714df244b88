"use strict";

// Boxes: an open one is a frame below the lines and a handle above them, a folded one is all handle.

function drawFrame({ number, left, top, width, height }, pane) {
  const group = svg(
    "g",
    { transform: `translate(${f(left + pane.left)} ${f(top)})` },
    svg("rect", { class: "frame", width, height, rx: 10 }),
  );
  group.paint = () => paintBox(group, number, pane);
  group.paint();
  return group;
}

function drawHandle({ number, left, top, width, height }, pane) {
  const box = BOXES[number];
  const open = STATE.open[number];
  const letters = Math.floor((width - 38) / SIZES.bold);
  const name = box.name.length > letters ? `${box.name.slice(0, letters - 1)}…` : box.name;
  const group = svg(
    "g",
    { transform: `translate(${f(left + pane.left)} ${f(top)})` },
    open ? null : svg("rect", { class: "frame", width, height, rx: 10 }),
    svg(
      "g",
      {
        class: "handle",
        tabindex: 0,
        role: "button",
        "aria-expanded": String(open),
        "aria-label": `${box.kind} ${box.name}, ${SUMS[number].nodes} nodes`,
        "data-box": number,
      },
      svg("title", { text: `${box.name}: ${open ? "fold" : "open"}` }),
      svg("rect", {
        class: "grip",
        width: open ? Math.min(width, name.length * SIZES.bold + 40) : width,
        height: open ? SIZES.top - 2 : height,
        rx: 10,
      }),
      svg("path", { class: "sign", d: open ? "M10 13h9" : "M10 15h9M14.5 10.5v9" }),
      svg("text", { class: "name", x: 27, y: open ? 17 : 19, text: name }),
      ...(open ? [] : [foldedFacts(number, width), farBoxName(name, width)]),
    ),
  );
  group.paint = () => paintBox(group, number, pane);
  group.paint();
  return group;
}

// From afar a folded box has its name alone, as large as there is room.
function farBoxName(name, width) {
  const size = Math.min(24, (width - 42) / (0.62 * name.length));
  return svg("text", { class: "far-name", x: 28, y: 20 + size / 4, "font-size": size, text: name });
}

// In a folded box: how much there is, and a bar of how much of which order.
function foldedFacts(number, width) {
  const sums = SUMS[number];
  const facts = STATE.colour === "bytes" ? amount(sums.bytes) : `${sums.nodes} node${sums.nodes === 1 ? "" : "s"}`;
  const bar = svg("g", { class: "shares" });
  let x = 12;
  sums.orders.forEach((count, order) => {
    const w = ((width - 24) * count) / sums.nodes;
    bar.append(
      svg("rect", {
        class: tint(order, sums.bytes, MOST_BOX_BYTES, sums.finite),
        x,
        y: 43,
        width: w,
        height: 6,
      }),
    );
    x += w;
  });
  return svg(
    "g",
    {},
    svg("text", { class: "facts", x: 12, y: 36, text: sums.finite ? facts : `${facts}  ! NaN/Inf` }),
    bar,
  );
}

function paintBox(group, number, pane) {
  const node = active();
  const holds = node !== null && WAYS[node].some(({ box }) => box === number);
  const names = ["box", BOXES[number].kind, STATE.open[number] ? "open" : "folded"];
  if (holds && !(pane.first && taken() && !pane.walk.own.has(node))) names.push(taken() ? "active-backward" : "active");
  if (!STATE.open[number] && STATE.step > 0 && STATE.step <= FORWARD && !computed(firstIn(number))) names.push("later");
  group.setAttribute("class", names.join(" "));
}

function firstIn(number) {
  const [isBox, member] = BOXES[number].members[0];
  return isBox ? firstIn(member) : member;
}
