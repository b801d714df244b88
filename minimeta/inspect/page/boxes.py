"""From boxes within boxes to a drawing of each, with the ports by which lines pass through the edges of boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minimeta.inspect.graph import Vertex
from minimeta.inspect.page.groups import Group
from minimeta.inspect.page.layout import draw

#: Sizes in pixels, which the page's script has from here.
SIZES = {
    "letter": 6.7,
    "small": 5.5,
    "bold": 7.9,
    "node": 37,
    "folded": 56,
    "narrow": 112,
    "wide": 240,
    "side": 14,
    "top": 26,
    "between": 19,
    "line": 10,
}

#: In a drawing, something by what it is, "member", "in" or "out", and its place among those.
Thing = tuple[str, int]


class Box:
    """A group with what its drawing needs: its members, the nodes that come in and go out by ports, and the links."""

    def __init__(self, group: Group, parent: int | None) -> None:
        self.group = group
        self.parent = parent
        self.members: list[tuple[bool, int]] = []  # whether a box, and the number of the box or node
        self.ports_in: set[int] = set()
        self.ports_out: set[int] = set()
        self.links: set[tuple[Thing, Thing]] = set()


def boxes(whole: Group) -> list[Box]:
    """All boxes, outer ones before those in them, without links."""
    found: list[Box] = []

    def add(group: Group, parent: int | None) -> int:
        number = len(found)
        found.append(box := Box(group, parent))
        for member in group.members:
            box.members.append((True, add(member, number)) if isinstance(member, Group) else (False, member))
        return number

    add(whole, None)
    return found


def link(found: list[Box], edges: Sequence[tuple[int, int]]) -> None:
    """Lead every edge (parent, child) from the parent out of its boxes and into the child's."""
    way: dict[int, list[tuple[int, int]]] = {}  # of a node: the boxes around it, outermost first, and its place there
    inside: dict[int, list[tuple[int, int]]] = {0: []}
    for number, box in enumerate(found):
        for place, (is_box, member) in enumerate(box.members):
            (inside if is_box else way)[member] = [*inside[number], (number, place)]
    for parent, child in edges:
        up, down = way[parent], way[child]
        shared = 0
        while up[shared][0] == down[shared][0] and up[shared][1] == down[shared][1]:
            shared += 1
        (common, a), (_, b) = up[shared], down[shared]
        found[common].links.add((("member", a), ("member", b)))
        for number, place in up[shared + 1 :]:
            found[number].ports_out.add(parent)
            found[number].links.add((("member", place), ("out", parent)))
        for number, place in down[shared + 1 :]:
            found[number].ports_in.add(parent)
            found[number].links.add((("in", parent), ("member", place)))


def drawings(whole: Group, edges: Sequence[tuple[int, int]], widths: Sequence[float], open_groups: list[Group]) -> Any:
    """Every box as JSON, outer ones first: its name, what is in it, and how it is drawn."""
    found = boxes(whole)
    link(found, edges)
    is_open = {id(group) for group in open_groups}
    box_widths = [0.0] * len(found)
    written: list[Any] = [None] * len(found)
    for number in range(len(found) - 1, -1, -1):  # inner ones first: outer drawings need their widths
        box = found[number]
        ports_in, ports_out = sorted(box.ports_in), sorted(box.ports_out)
        first_in, first_out = len(box.members), len(box.members) + len(ports_in)
        places: dict[Thing, int] = {("member", i): i for i in range(len(box.members))}
        places |= {("in", node): first_in + i for i, node in enumerate(ports_in)}
        places |= {("out", node): first_out + i for i, node in enumerate(ports_out)}
        sizes = [box_widths[member] if is_box else widths[member] for is_box, member in box.members]
        links = [(places[a], places[b]) for a, b in box.links]
        drawing = draw(sizes, len(ports_in), len(ports_out), links)
        opened = id(box.group) in is_open
        folded = folded_width(box.group.name)
        box_widths[number] = max(drawing.width + 2 * SIZES["side"], folded) if opened else folded
        written[number] = {
            "name": box.group.name,
            "kind": box.group.kind,
            "parent": box.parent,
            "open": opened,
            "members": [[int(is_box), member] for is_box, member in box.members],
            "in": ports_in,
            "out": ports_out,
            "layers": drawing.layers,
            "x": drawing.x,
            "widths": drawing.widths[:first_in],
            "trunks": {str(a): bends for a, bends in drawing.trunks.items()},
            "width": drawing.width,
            "folded": folded,
        }
    return written


def node_width(vertex: Vertex) -> float:
    """Wide enough for its name and shape."""
    shape = "x".join(map(str, vertex.node.shape))
    return _within(SIZES["letter"] * len(vertex.name) + SIZES["small"] * len(shape) + 48, SIZES["narrow"])


def folded_width(name: str) -> float:
    """Of a box that is closed: wide enough for its name, and for how much is in it."""
    return _within(SIZES["bold"] * len(name) + 40, 1.2 * SIZES["narrow"])


def _within(width: float, least: float) -> float:
    return round(min(max(width, least), SIZES["wide"]), 1)
