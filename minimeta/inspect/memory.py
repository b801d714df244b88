"""Where the memory goes: which arrays a graph keeps, who keeps them and why, and how that changes with time."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from typing import Any, NamedTuple

from minimeta.autodiff.backward import walk_in_view
from minimeta.autodiff.node import Node
from minimeta.autodiff.transforms import ArgNums
from minimeta.autodiff.watching import watched_by
from minimeta.inspect.graph import Graph, describe, held, owner
from minimeta.inspect.recording import Event, Recording
from minimeta.inspect.tracing import trace

_ROWS, _BARS = 20, " ▁▂▃▄▅▆▇█"
_WIDTH = 60  # characters of a timeline


class Kept(NamedTuple):
    """An array in memory: the name of the node whose value it is, or "constant", and who keeps it as what."""

    name: str
    type: str
    nbytes: int
    keepers: tuple[str, ...]


class Moment(NamedTuple):
    """What has just happened ("made" or "walked"), to which node, and how much the graph keeps from then on."""

    kind: str
    name: str
    nbytes: int


class Memory(NamedTuple):
    """The arrays that a graph keeps when it keeps most, largest first, and its bytes after each node made or walked.

    `print` shows both. A `timeline` is empty where nothing was recorded.
    """

    kept: list[Kept]
    timeline: list[Moment]

    @property
    def nbytes(self) -> int:
        """The bytes of all that is kept; with a timeline, its highest point."""
        return sum(array.nbytes for array in self.kept)

    def __str__(self) -> str:
        shown, rest = self.kept[:_ROWS], self.kept[_ROWS:]
        width = max(map(len, ("array", *map(_label, shown))))
        lines = [f"{'bytes':>12}  {'array':<{width}}  kept by"]
        lines += [f"{row.nbytes:12,}  {_label(row):<{width}}  {', '.join(row.keepers)}" for row in shown]
        if rest:
            lines.append(f"{sum(array.nbytes for array in rest):12,}  in {len(rest)} more")
        lines.append(f"{self.nbytes:12,}  in all")
        if self.timeline:
            peak = max(range(len(self.timeline)), key=lambda i: self.timeline[i].nbytes)
            moment = self.timeline[peak]
            lines.append(f"|{_bars([m.nbytes for m in self.timeline])}| most after {moment.name} was {moment.kind}")
        return "\n".join(lines)


def memory(what: Any, *args: Any, argnums: ArgNums = 0, order: int = 1) -> Memory:
    """Who keeps how many bytes and why: of a function and its derivative, of a Tensor's graph, of a recording.

    `memory(f, *args)` runs f and its backward walk (arguments as for `minimeta.inspect.steps`), and so shows how memory
    grows and shrinks; so does `memory(record)` of everything that was recorded, such as a training step. `memory(y)`
    shows what the graph of the Tensor y keeps now. An array that several nodes keep is counted once, a view as the
    array it is a view of. Parameters and data that rules need are counted too, though others keep them as well. What
    is kept only because a function under way still has a Tensor of it in hand is not counted.

    Raises TypeError for anything else.

    >>> from minimeta import ops
    >>> print(memory(lambda x: (ops.tanh(x) * x).sum(), np.ones(100)))
           bytes  array                kept by
             800  tanh_1 float64[100]  tanh_1 (out), multiply_1 (x1)
             800  x float64[100]       multiply_1 (x2)
           1,600  in all
    | ▄███▄ | most after multiply_1 was made
    """
    if isinstance(what, Recording):
        return _over_time(what.events, Graph(what.nodes, what))
    traced = trace(what, *args, argnums=argnums, order=order)
    if not callable(what):
        return Memory(_kept(traced.graph, [vertex.node for vertex in traced.graph]), [])
    record = traced.record
    assert record is not None
    count = len(record.nodes)
    with watched_by(record):
        found = traced.reach()
        deque(walk_in_view(found, traced.seed(found.watched)), maxlen=0)
    computed_again = record.nodes[count:]  # by checkpoints
    return _over_time(record.events, Graph([*traced.graph.roots, *computed_again], record, traced.names))


def _over_time(events: list[Event], graph: Graph) -> Memory:
    """The bytes kept after each event, and the arrays kept when they are most."""
    until = _lifetimes(events)
    leaving = defaultdict[int, list[Node]](list)
    for kind, node in events:
        if kind == "made":
            leaving[until[node.number]].append(node)
    timeline, now, keepers = [], 0, Counter[int]()
    for i, (kind, node) in enumerate(events):
        for array, _ in held(node) if kind == "made" else ():
            keepers[id(array)] += 1
            now += array.nbytes if keepers[id(array)] == 1 else 0
        for gone in leaving[i]:
            for array, _ in held(gone):
                keepers[id(array)] -= 1
                now -= array.nbytes if keepers[id(array)] == 0 else 0
        timeline.append(Moment(kind, graph.name(node), now))
    peak = max(range(len(timeline)), key=lambda i: timeline[i].nbytes, default=0)
    made = (event.node for event in events[: peak + 1] if event.kind == "made")
    return Memory(_kept(graph, [node for node in made if until[node.number] > peak]), timeline)


def _lifetimes(events: list[Event]) -> dict[int, int]:
    """When each node goes, by number: with the last walk over it, but not before the nodes that were made from it."""
    until = {event.node.number: i for i, event in enumerate(events)}
    nodes = {event.node.number: event.node for event in events}
    for number in sorted(nodes, reverse=True):
        for parent in nodes[number].parents:
            if parent is not None and parent.number in until:
                until[parent.number] = max(until[parent.number], until[number])
    return until


def _kept(graph: Graph, nodes: list[Node]) -> list[Kept]:
    """The arrays that `nodes` keep, largest first."""
    names = {id(owner(v.value)): v.name for v in reversed(graph.vertices) if v.value is not None}
    arrays: dict[int, Any] = {}
    keepers = defaultdict[int, list[str]](list)
    for node in nodes:
        for array, role in held(node):
            arrays[id(array)] = array
            keepers[id(array)].append(f"{graph.name(node)} ({role})")
    kept = [
        Kept(names.get(key, "constant"), describe(array), array.nbytes, tuple(keepers[key]))
        for key, array in arrays.items()
    ]
    return sorted(kept, key=lambda array: -array.nbytes)


def _label(array: Kept) -> str:
    return f"{array.name} {array.type}"


def _bars(heights: list[int]) -> str:
    """A timeline of at most so many characters, each as high as the highest of its part."""
    width = min(_WIDTH, len(heights))
    top = max(heights) or 1
    parts = [heights[i * len(heights) // width : (i + 1) * len(heights) // width] for i in range(width)]
    return "".join(_BARS[-(-max(part) * (len(_BARS) - 1) // top)] for part in parts)
