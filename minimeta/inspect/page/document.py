"""What a page shows, as JSON: nodes, their boxes laid out, the steps of the walk, and every array once."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from traceback import FrameSummary
from typing import Any

import minimeta
from minimeta.autodiff.backward import Reach
from minimeta.inspect.graph import Vertex
from minimeta.inspect.page.boxes import SIZES, drawings, node_width
from minimeta.inspect.page.first_order import Ways, first_order, ways
from minimeta.inspect.page.groups import grouped, opened
from minimeta.inspect.page.values import LETTERS, Detail, encode
from minimeta.inspect.steps import Contribution, Steps
from minimeta.inspect.tracing import Trace

#: As many nodes and boxes are to be seen at first, if folding can do it.
VISIBLE = 150


class Table:
    """Things that occur again and again, each written once and referred to by its place."""

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self._places: dict[str, int] = {}

    def place(self, row: Any) -> int:
        key = json.dumps(row)
        if key not in self._places:
            self._places[key] = len(self.rows)
            self.rows.append(row)
        return self._places[key]


class Document:
    """A trace as JSON. `compared` adds the walk of the first-order method."""

    def __init__(self, traced: Trace, title: str, compared: bool = False) -> None:
        self._graph = traced.graph
        self._detail = Detail.of(len(self._graph))
        self._values, self._rules, self._sites = Table(), Table(), Table()
        self._seen: dict[int, tuple[Any, int]] = {}  # by id, and kept alive, so that ids stay theirs
        self._index = {vertex.node.number: i for i, vertex in enumerate(self._graph)}
        found = traced.reach()
        self.content = {
            "title": title,
            "sizes": SIZES,
            "letters": LETTERS,
            "compared": compared,
            "nodes": self._nodes(ways(self._graph, found)),
            "targets": [self._index[t.number] for t in traced.targets if t.number in self._index],
            "roots": [self._index[root.number] for root in self._graph.roots],
            "result": self._value(traced.value),
            "steps": self._steps(traced, None),
            "first": self._steps(traced, first_order(self._graph, found)) if compared else [],
            "boxes": self._boxes(),
            "values": self._values.rows,
            "rules": self._rules.rows,
            "sites": self._sites.rows,
        }

    def _value(self, value: Any) -> int | None:
        if value is None:
            return None
        if id(value) not in self._seen:
            self._seen[id(value)] = value, self._values.place(encode(value, self._detail))
        return self._seen[id(value)][1]

    def _nodes(self, edges: Ways) -> list[dict[str, Any]]:
        buffers: dict[int, int] = {}
        second = edges.second
        return [self._node(vertex, edges, second, buffers) for vertex in self._graph]

    def _node(self, vertex: Vertex, edges: Ways, second: set[tuple[int, int]], buffers: dict[int, int]) -> dict:
        node, maker = vertex.node, vertex.origin.maker
        index = self._index[node.number]
        held, own = [], 0
        for array, role in vertex.held:
            first = buffers.setdefault(id(array), index)
            held.append([role, array.nbytes, None if first == index else first])
            own += array.nbytes if first == index else 0
        return {
            "name": vertex.name,
            "op": node.op.name,
            "input": vertex.is_input,
            "live": vertex.live,
            "expression": _cut(vertex.expression, 300),
            "type": vertex.type,
            "order": vertex.origin.order,
            "maker": self._maker(maker),
            "scopes": list(vertex.origin.scopes),
            "site": self._site(node.site[0]) if node.site else None,
            "held": held,
            "bytes": own,
            "value": self._value(vertex.value),
            "needs": [
                [self._index[parent.number], node.op.argument(i), _kind((node.number, i), edges, second)]
                for i, parent in enumerate(node.parents)
                if parent is not None
            ],
        }

    def _site(self, frame: FrameSummary) -> int:
        """A line of code: file and line, and what is written there."""
        roots = (os.getcwd(), os.path.dirname(os.path.dirname(minimeta.__file__)))
        root = next((root for root in roots if frame.filename.startswith(root + os.sep)), "")
        file = frame.filename[len(root) + 1 :] if root else frame.filename
        return self._sites.place([f"{file}:{frame.lineno}", frame.line or ""])

    def _maker(self, maker: Any) -> Any:
        """A node of the graph by its number, another by what it is."""
        if maker is None:
            return None
        return self._index.get(maker.number, self._graph.name(maker))

    def _steps(self, traced: Trace, found: Reach | None) -> list[dict[str, Any]]:
        return [
            {
                "node": self._index[step.node.number],
                "cotangent": self._value(step.cotangent),
                "sent": [self._sent(sent) for sent in step.contributions],
            }
            for step in Steps(traced, found)
        ]

    def _sent(self, sent: Contribution) -> dict[str, Any]:
        source = sent.source
        return {
            "argument": sent.argument,
            "to": self._index[sent.parent.number],
            "value": self._value(sent.value),
            "total": self._value(sent.total),
            "rule": self._rules.place([str(source) if source.line else source.file, source.text]),
        }

    def _boxes(self) -> Any:
        graph = self._graph
        names = [vertex.name for vertex in graph]
        needs = [sorted(self._parents(vertex)) for vertex in graph]
        whole = grouped([vertex.origin.scopes for vertex in graph], names, needs)
        edges = [(parent, child) for child, parents in enumerate(needs) for parent in parents]
        widths = [node_width(vertex) for vertex in graph]
        return drawings(whole, edges, widths, opened(whole, VISIBLE))

    def _parents(self, vertex: Vertex) -> set[int]:
        return {self._index[parent.number] for parent in vertex.node.parents if parent is not None}


def _kind(edge: tuple[int, int], edges: Ways, second: Iterable[tuple[int, int]]) -> int:
    """0: no derivative goes back along this edge; 1: one does; 2: one of second order."""
    return 0 if edge not in edges.all else 2 if edge in second else 1


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def embedded(content: dict[str, Any]) -> str:
    """JSON that may stand in an HTML page: no character of it can end the element that holds it or begin another.

    >>> embedded({"name": "</script>"})
    '{"name":"\\\\u003c/script\\\\u003e"}'
    """
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)  # all that is not ASCII as \uXXXX
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
