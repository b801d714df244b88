"""Drawings are layered: lines lead downwards, nothing overlaps, all is there once; and boxes are made of runs."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from minimeta.inspect.page import groups, layout
from minimeta.inspect.page.boxes import boxes, drawings, link


@st.composite
def graphs(draw: Any) -> list[list[int]]:
    """What each node needs, by number: older nodes, each once."""
    count = draw(st.integers(1, 25))
    return [sorted(draw(st.sets(st.integers(0, i - 1), max_size=3))) if i else [] for i in range(count)]


@st.composite
def drawn(draw: Any) -> tuple[list[float], int, int, set[tuple[int, int]]]:
    """What `layout.draw` takes: widths of members, ports in and out, and links."""
    needs = draw(graphs())
    count = len(needs)
    ports_in, ports_out = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    members = st.integers(0, count - 1)
    links = {(a, b) for b, parents in enumerate(needs) for a in parents}
    links |= {(count + i, draw(members)) for i in range(ports_in)}
    links |= {(draw(members), count + ports_in + i) for i in range(ports_out)}
    widths = draw(st.lists(st.floats(60, 400), min_size=count, max_size=count))
    return widths, ports_in, ports_out, links


@given(drawn())
def test_a_drawing_is_layered(case):
    widths, ports_in, ports_out, links = case
    drawing = layout.draw(*case)
    layer = {thing: k for k, row in enumerate(drawing.layers) for thing in row}
    bends = [bend for trunk in drawing.trunks.values() for bend in trunk]
    things = [*range(len(widths) + ports_in + ports_out), *bends]
    assert sorted(thing for row in drawing.layers for thing in row) == sorted(things)  # all of it, once
    for a, b in links:
        assert layer[a] < layer[b]
        trunk = drawing.trunks.get(a, [])[: layer[b] - layer[a] - 1]
        assert [layer[bend] for bend in trunk] == list(range(layer[a] + 1, layer[b]))  # a bend in every layer between
    for row in drawing.layers:
        for a, b in itertools.pairwise(row):
            assert drawing.x[b] - drawing.x[a] >= (drawing.widths[a] + drawing.widths[b]) / 2 + layout.LINE - 0.11
    edges = [(x - w / 2, x + w / 2) for x, w in zip(drawing.x, drawing.widths, strict=True)]
    assert min(left for left, _ in edges) >= -0.06
    assert max(right for _, right in edges) <= drawing.width + 0.06
    ports = range(len(widths), len(widths) + ports_in)
    assert not ports_in or drawing.layers[0] == list(ports)
    assert not ports_out or drawing.layers[-1] == list(range(ports.stop, ports.stop + ports_out))


def test_two_chains_do_not_cross_and_are_straight():
    """0 -> 2 -> 4 and 1 -> 3 -> 5, and a long line from 0 to the end."""
    drawing = layout.draw([100] * 7, 0, 0, [(0, 2), (2, 4), (1, 3), (3, 5), (4, 6), (0, 6)])
    assert drawing.x[1] == drawing.x[3] == drawing.x[5]
    trunk = drawing.trunks[0]
    assert len(trunk) == 2
    assert drawing.x[trunk[0]] == drawing.x[trunk[1]]


def test_crossed_lines_are_uncrossed():
    """Two lines that cross when things stand by age; sorted, they do not."""
    above = {2: [1], 3: [0]}
    assert layout._crossings([[0, 1], [2, 3]], above) == 1
    assert layout.draw([100] * 4, 0, 0, [(1, 2), (0, 3)]).layers in ([[0, 1], [3, 2]], [[1, 0], [2, 3]])


@given(graphs(), st.lists(st.sampled_from([(), ("a",), ("a", "b"), ("c",)]), min_size=25, max_size=25))
def test_boxes_hold_runs_and_every_edge_has_a_way(needs, scopes):
    count = len(needs)
    whole = groups.grouped(scopes[:count], [f"n{i}" for i in range(count)], needs)
    assert whole.nodes == list(range(count))
    for group in whole:
        assert group.nodes == list(range(group.nodes[0], group.nodes[-1] + 1))
    for group in whole:
        if group.kind == "scope":
            assert all(group.name in scopes[node] for node in group.nodes)
    edges = [(a, b) for b, parents in enumerate(needs) for a in parents]
    found = boxes(whole)
    link(found, edges)
    for a, b in edges:  # it leaves every box that holds a but not b by a port, and comes into those with b but not a
        for box in found:
            nodes = box.group.nodes
            assert (a in nodes and b not in nodes) <= (a in box.ports_out)
            assert (b in nodes and a not in nodes) <= (a in box.ports_in)
    written = drawings(whole, edges, [100.0] * count, groups.opened(whole, 10))
    assert sorted(member for box in written for is_box, member in box["members"] if not is_box) == list(range(count))
    assert sorted(member for box in written for is_box, member in box["members"] if is_box) == [*range(1, len(written))]


def test_a_crowd_is_divided_where_little_passes():
    """150 rounds of 7 nodes; from round to round only the last one's result is needed."""
    needs: list[list[int]] = []
    for _ in range(150):
        start = len(needs)
        needs += [[start - 1] if start else [], *([start] for _ in range(5)), [start + k for k in range(1, 6)]]
    count = len(needs)
    whole = groups.grouped([()] * count, [f"n{i}" for i in range(count)], needs)
    stretches = [member for member in whole.members if isinstance(member, groups.Group)]
    assert len(stretches) > 8
    assert all(group.nodes[0] % 7 in (0, 1) for group in stretches)  # the first of a round is needed by all of it
    assert all(len(group.members) <= 2 * groups.HANDFUL for group in whole)
    assert whole.nodes == list(range(count))


def test_few_are_seen_at_first():
    scopes = [(f"outer {i // 100}", f"inner {i // 10}") for i in range(2000)]
    whole = groups.grouped(scopes, [""] * 2000, [[i - 1] if i else [] for i in range(2000)])
    assert [group.name for group in groups.opened(whole, 150)] == [""]  # 20 outer boxes; 200 inner ones are too many
    assert len(groups.opened(whole, 250)) == 21
    assert len(groups.opened(whole, 10_000)) == 1 + 20 + 200
