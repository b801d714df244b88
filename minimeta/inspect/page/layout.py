"""A layered drawing of a box (after Sugiyama): every line leads downwards, crosses few others, and is rather straight.

Each box is a drawing of its own, of its nodes and inner boxes; so one can be opened without the others changing. Lines
from outside come in by ports on its upper edge and leave by ports on its lower edge, one per node that is needed. All
lines from one thing to things further down share a trunk with one bend per layer.

The layers and the order within them are found here, and the horizontal places; the vertical ones follow from the
heights of the layers, which change when a box is opened.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

#: Pixels between two neighbours, and how wide a line counts.
GAP = 18
LINE = 8

SWEEPS = 12

#: How much two neighbours want to be below each other, by how many of them are bends.
PULLS = (4.0, 0.5, 8.0)


class Drawing(NamedTuple):
    """A box laid out: things are members first, then ports in, ports out, and bends, by number.

    `layers` holds the things from top to bottom, each from left to right; `x` the middle of each and `width` of the
    whole. `trunks[a]` are the bends below thing a, one per layer.
    """

    layers: list[list[int]]
    x: list[float]
    widths: list[float]
    trunks: dict[int, list[int]]
    width: float


def draw(widths: Sequence[float], ports_in: int, ports_out: int, links: Iterable[tuple[int, int]]) -> Drawing:
    """Lay out members of the given widths, oldest first, then the ports; `links` lead from thing to thing, downwards.

    >>> drawing = draw([100, 100, 100], 0, 0, [(0, 1), (1, 2), (0, 2)])
    >>> drawing.layers, drawing.trunks
    ([[0], [3, 1], [2]], {0: [3]})
    """
    links = sorted(set(links))
    members = len(widths)
    layer = _layers(members, ports_in, ports_out, links)
    all_widths = [*widths, *[LINE] * (ports_in + ports_out)]
    trunks, segments = _bends(layer, links)
    all_widths += [LINE] * (len(layer) - len(all_widths))
    rows: list[list[int]] = [[] for _ in range(max(layer, default=-1) + 1)]
    for thing in _by_age(layer, trunks):
        rows[layer[thing]].append(thing)
    fixed = set(range(members, members + ports_in + ports_out))
    rows = _uncross(rows, segments, fixed)
    x = _places(rows, segments, all_widths, firm=len(widths) + ports_in + ports_out)
    _straighten(x, rows, all_widths, trunks.values())
    left = min((a - w / 2 for a, w in zip(x, all_widths, strict=True)), default=0)
    x = [round(a - left, 1) for a in x]
    right = max((a + w / 2 for a, w in zip(x, all_widths, strict=True)), default=0)
    return Drawing(rows, x, all_widths, trunks, right)


def _layers(members: int, ports_in: int, ports_out: int, links: list[tuple[int, int]]) -> list[int]:
    """Below all that is needed; what needs nothing is moved down to where it is needed first."""
    needs: dict[int, list[int]] = defaultdict(list)
    needed: dict[int, list[int]] = defaultdict(list)
    for a, b in links:
        needs[b].append(a)
        needed[a].append(b)
    top = 1 if ports_in else 0
    layer = [top] * members + [0] * ports_in
    for thing in range(members):
        layer[thing] = max((layer[a] + 1 for a in needs[thing]), default=top)
    last = max(layer, default=-1) + 1
    layer += [last] * ports_out
    for thing in range(members):
        if not needs[thing] and needed[thing]:
            layer[thing] = min(layer[b] for b in needed[thing]) - 1
    return layer


def _bends(layer: list[int], links: list[tuple[int, int]]) -> tuple[dict[int, list[int]], list[tuple[int, int]]]:
    """Add the bends of long links to `layer`; the trunks, and all links cut into pieces from one layer to the next."""
    trunks: dict[int, list[int]] = {}
    depth: dict[int, int] = defaultdict(int)
    for a, b in links:
        depth[a] = max(depth[a], layer[b] - layer[a] - 1)
    segments: set[tuple[int, int]] = set()
    for a, bends in depth.items():
        if bends:
            trunks[a] = list(range(len(layer), len(layer) + bends))
            layer += range(layer[a] + 1, layer[a] + 1 + bends)
            segments.update(zip([a, *trunks[a]], trunks[a], strict=False))
    for a, b in links:
        segments.add(([a, *trunks.get(a, ())][layer[b] - layer[a] - 1], b))
    return trunks, sorted(segments)


def _by_age(layer: list[int], trunks: dict[int, list[int]]) -> list[int]:
    """All things, bends where that stands from which they come."""
    age = [float(thing) for thing in range(len(layer))]
    for source, bends in trunks.items():
        for bend in bends:
            age[bend] = source + 0.5
    return sorted(range(len(layer)), key=age.__getitem__)


def _neighbours(segments: list[tuple[int, int]]) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    above: dict[int, list[int]] = defaultdict(list)
    below: dict[int, list[int]] = defaultdict(list)
    for a, b in segments:
        above[b].append(a)
        below[a].append(b)
    return above, below


def _uncross(rows: list[list[int]], segments: list[tuple[int, int]], fixed: set[int]) -> list[list[int]]:
    """Sort each layer by where its neighbours lie in the one before, down and up again, and keep the best seen."""
    above, below = _neighbours(segments)
    rows = [list(row) for row in rows]
    best, fewest = [list(row) for row in rows], _crossings(rows, above)
    for sweep in range(SWEEPS):
        downwards = sweep % 2 == 0
        neighbours = above if downwards else below
        place: dict[int, float] = {}
        for row in rows if downwards else reversed(rows):
            if row and row[0] not in fixed:
                wanted = {a: _mean([place[b] for b in neighbours[a]], i) for i, a in enumerate(row)}
                row.sort(key=wanted.__getitem__)
            place.update((a, i) for i, a in enumerate(row))
        count = _crossings(rows, above)
        if count < fewest:
            best, fewest = [list(row) for row in rows], count
        if not fewest:
            break
    return best


def _mean(places: list[float], otherwise: float) -> float:
    return sum(places) / len(places) if places else otherwise


def _crossings(rows: list[list[int]], above: dict[int, list[int]]) -> int:
    """Pairs of lines that cross: inversions among their upper ends, when sorted by their lower ones."""
    count = 0
    place = {a: i for row in rows for i, a in enumerate(row)}
    for row in rows:
        seen: list[int] = []
        for thing in row:
            ends = [place[a] for a in above.get(thing, ())]
            count += sum(len(seen) - bisect_right(seen, end) for end in ends)
            for end in ends:
                insort(seen, end)
    return count


def _places(rows: list[list[int]], segments: list[tuple[int, int]], widths: list[float], firm: int) -> list[float]:
    """Move all towards their neighbours above, then below, and so on; bends most of all, so that trunks are straight.

    `firm` is the number of the first bend.
    """
    pulls = [
        {a: [(b, PULLS[(a >= firm) + (b >= firm)]) for b in near] for a, near in side.items()}
        for side in _neighbours(segments)
    ]
    all_offsets = [_offsets(row, widths) for row in rows]
    x = [0.0] * len(widths)
    for row, offsets in zip(rows, all_offsets, strict=True):
        for thing, offset in zip(row, offsets, strict=True):
            x[thing] = offset - offsets[-1] / 2
    for sweep in range(SWEEPS):
        sides = pulls if sweep >= SWEEPS - 4 else [pulls[sweep % 2]]
        for k in range(len(rows)) if sweep % 2 == 0 else reversed(range(len(rows))):
            _settle(rows[k], all_offsets[k], sides, x)
    return x


def _settle(
    row: list[int], offsets: list[float], sides: list[dict[int, list[tuple[int, float]]]], x: list[float]
) -> None:
    """Move the things of a layer as near to where they are pulled as their order and widths allow."""
    wanted, weights = [], []
    for a, offset in zip(row, offsets, strict=True):
        weight = total = 0.0
        for side in sides:
            for b, pull in side.get(a, ()):
                total += x[b] * pull
                weight += pull
        wanted.append((total / weight if weight else x[a]) - offset)
        weights.append(weight or 0.1)
    for a, start, offset in zip(row, _monotone(wanted, weights), offsets, strict=True):
        x[a] = start + offset


def _straighten(x: list[float], rows: list[list[int]], widths: list[float], trunks: Iterable[list[int]]) -> None:
    """Put as many bends of a trunk below each other as their neighbours leave room for."""
    left_of, right_of = {}, {}
    for row in rows:
        for a, b in itertools.pairwise(row):
            left_of[b], right_of[a] = a, b

    def room(bend: int) -> tuple[float, float]:
        a, b = left_of.get(bend), right_of.get(bend)
        least = -math.inf if a is None else x[a] + _apart(a, bend, widths)
        most = math.inf if b is None else x[b] - _apart(bend, b, widths)
        return min(least, x[bend]), max(most, x[bend])  # rounding

    for bends in trunks:
        run: list[int] = []
        low, high = -math.inf, math.inf
        for bend in [*bends, None]:
            least, most = (math.inf, -math.inf) if bend is None else room(bend)
            if max(low, least) > min(high, most):  # the run ends: there is no line through all of it
                middle = sum(x[b] for b in run) / len(run)
                for b in run:
                    x[b] = min(max(middle, low), high)
                run, low, high = [], -math.inf, math.inf
            if bend is not None:
                run.append(bend)
                low, high = max(low, least), min(high, most)


def _offsets(row: list[int], widths: list[float]) -> list[float]:
    """How far each is from the first when they stand as close as may be."""
    return [0.0, *itertools.accumulate(_apart(a, b, widths) for a, b in itertools.pairwise(row))]


def _apart(a: int, b: int, widths: list[float]) -> float:
    """The least distance of the middles of two neighbours; lines come closer to each other than to anything else."""
    gap = GAP if max(widths[a], widths[b]) > LINE else LINE
    return (widths[a] + widths[b]) / 2 + gap


def _monotone(wanted: list[float], weights: list[float]) -> list[float]:
    """The never falling sequence nearest to `wanted` in the weighted sum of squares: neighbours that fall are pooled.

    >>> _monotone([1.0, 3.0, 2.0], [1.0, 1.0, 1.0])
    [1.0, 2.5, 2.5]
    """
    pools: list[tuple[float, float, int]] = []  # mean, weight, how many
    for mean, weight in zip(wanted, weights, strict=True):
        count = 1
        while pools and pools[-1][0] > mean:
            before, heavy, more = pools.pop()
            mean = (mean * weight + before * heavy) / (weight + heavy)
            weight, count = weight + heavy, count + more
        pools.append((mean, weight, count))
    return [mean for mean, _, count in pools for _ in range(count)]
