"use strict";

// Search: nodes by name, operation or expression, boxes by name.

const FOUND = byId("found");

function search(text) {
  const words = text.trim().toLowerCase();
  const matches = (name) => name.toLowerCase().includes(words);
  const boxes = BOXES.flatMap((box, number) =>
    number && matches(box.name) ? [{ box: number, name: box.name, about: `${SUMS[number].nodes} nodes` }] : [],
  );
  const nodes = NODES.flatMap((node, i) =>
    matches(node.name) || matches(node.expression) ? [{ node: i, name: node.name, about: node.expression }] : [],
  );
  nodes.sort((a, b) => matches(b.name) - matches(a.name));
  return words ? [...boxes.slice(0, 4), ...nodes.slice(0, 10)] : [];
}

function showFound(text) {
  const hits = search(text);
  FOUND.replaceChildren(
    ...hits.map((hit, i) =>
      el(
        "li",
        {
          role: "option",
          id: `hit${i}`,
          "aria-selected": String(i === 0),
          onpointerdown: (event) => {
            event.preventDefault();
            goToHit(hit);
          },
        },
        el("b", { text: hit.name }),
        el("span", { text: hit.about }),
      ),
    ),
  );
  if (text.trim() && !hits.length) FOUND.append(el("li", { class: "none", text: "nothing found" }));
  FOUND.hidden = !text.trim();
  byId("search").setAttribute("aria-expanded", String(!FOUND.hidden));
}

function goToHit(hit) {
  if (hit.node !== undefined) select(hit.node);
  else {
    const first = firstIn(hit.box);
    STATE.open[hit.box] = true;
    reveal(first);
    refresh();
  }
  byId("search").blur();
  FOUND.hidden = true;
}

function searchKeys(event) {
  const options = [...FOUND.children];
  const chosen = options.findIndex((option) => option.getAttribute("aria-selected") === "true");
  if (event.key === "Enter" && chosen >= 0) goToHit(search(event.target.value)[chosen]);
  else if (event.key === "Escape") event.target.blur();
  else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    const next = (chosen + (event.key === "ArrowDown" ? 1 : -1) + options.length) % options.length;
    options.forEach((option, i) => option.setAttribute("aria-selected", String(i === next)));
    event.target.setAttribute("aria-activedescendant", `hit${next}`);
  } else return;
  event.preventDefault();
}
