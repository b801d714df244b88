"""A graph laid open: its nodes in creation order under stable names, with what each holds in memory and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from minimeta import backend
from minimeta.autodiff.node import Node, Spec
from minimeta.inspect.recording import Origin, Recording


class Held(NamedTuple):
    """An array that a node keeps for its rules, of a view the one behind it; `role` is an argument's name or "out"."""

    array: Any
    role: str


class Vertex(NamedTuple):
    """A node with its name, the names of its arguments (or what stands there), its origin, and its value if known.

    One that is not `live` is there to show whose rules others came from: nothing needs it any more.
    """

    name: str
    node: Node
    arguments: tuple[str, ...]
    origin: Origin
    value: Any
    live: bool

    @property
    def expression(self) -> str:
        """The operation and its arguments as one would write them."""
        if self.is_input:
            return "input"
        options = [f"{name}={_short(value)}" for name, value in self.node.static.items()]
        return f"{self.node.op.name}({', '.join([*self.arguments, *options])})"

    @property
    def is_input(self) -> bool:
        """Whether the graph begins here: an array under a name, not the result of an operation."""
        return _is_input(self.node)

    @property
    def type(self) -> str:
        return describe(self.node)

    @property
    def held(self) -> list[Held]:
        """The arrays that the node keeps; several nodes may keep the same."""
        return held(self.node) if self.live else []


class Graph:
    """All that some nodes depend on, and all whose rules made it, oldest first.

    A name is the operation's and a count, so that a node more changes few of the others' names; inputs have the names
    given for them.
    """

    def __init__(self, roots: Iterable[Node], record: Recording | None = None, names: dict[int, str] | None = None):
        self.roots = list(roots)
        self.names: dict[int, str] = dict(names or {})
        live = _ancestors(self.roots)
        nodes = live if record is None else _with_makers(live, record)
        counts, taken = Counter[str](), set(self.names.values())
        for node in nodes.values():
            if node.number not in self.names:
                self.names[node.number] = _free("input" if _is_input(node) else node.op.name, counts, taken)
        self.vertices = [self._vertex(node, record, number in live) for number, node in nodes.items()]
        self.by_number = {vertex.node.number: vertex for vertex in self.vertices}

    def _vertex(self, node: Node, record: Recording | None, live: bool) -> Vertex:
        arguments = tuple(
            _constant(x) if parent is None else self.names[parent.number]
            for parent, x in zip(node.parents, node.inputs, strict=True)
        )
        origin = Origin(0, None, ()) if record is None else record.origin(node)
        value = node.out if record is None else record.values.get(node.number, node.out)
        return Vertex(self.names[node.number], node, arguments, origin, value, live)

    def __len__(self) -> int:
        return len(self.vertices)

    def __iter__(self) -> Iterator[Vertex]:
        return iter(self.vertices)

    def __getitem__(self, node: Node) -> Vertex:
        return self.by_number[node.number]

    def name(self, node: Node) -> str:
        """The name of a node; outside the graph only inputs have one, and others are called after their operation."""
        return self.names.get(node.number, f"{node.op.name} outside this graph")


def _ancestors(roots: Iterable[Node]) -> dict[int, Node]:
    """The nodes that `roots` depend on, and themselves, by number, oldest first."""
    found = {root.number: root for root in roots}
    stack = list(found.values())
    while stack:
        for parent in stack.pop().parents:
            if parent is not None and parent.number not in found:
                found[parent.number] = parent
                stack.append(parent)
    return dict(sorted(found.items()))


def _with_makers(nodes: dict[int, Node], record: Recording) -> dict[int, Node]:
    """The nodes, those whose rules made them, and what these depend on."""
    makers = [record.origin(node).maker for node in nodes.values()]
    missing = [maker for maker in makers if maker is not None and maker.number not in nodes]
    return _with_makers(_ancestors([*nodes.values(), *missing]), record) if missing else nodes


def _free(stem: str, counts: Counter[str], taken: set[str]) -> str:
    while True:
        counts[stem] += 1
        name = f"{stem}_{counts[stem]}"
        if name not in taken:
            return name


def _is_input(node: Node) -> bool:
    return node.op.name == "alias" and node.parents == (None,)


def _is_array(x: Any) -> bool:
    return not isinstance(x, Spec) and hasattr(x, "shape")


def _constant(x: Any) -> str:
    """What stands for an argument that is no node: a number itself, of an array its dtype and shape."""
    return describe(x) if hasattr(x, "shape") and (x.shape or isinstance(x, Spec)) else _short(x)


def _short(value: Any) -> str:
    """An option as one would write it, not too long."""
    text = describe(value) if _is_array(value) and value.ndim else repr(value.item() if _is_array(value) else value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def describe(x: Any) -> str:
    """dtype and shape: float32[5, 3]."""
    return f"{x.dtype}[{', '.join(map(str, x.shape))}]"


def held(node: Node) -> list[Held]:
    """The arrays that a node keeps."""
    arrays = [(x, node.op.argument(i)) for i, x in enumerate(node.inputs) if _is_array(x)]
    arrays += [] if node.out is None else [(node.out, "out")]
    return [Held(owner(array), role) for array, role in arrays]


def owner(array: Any) -> Any:
    """The array that owns the memory of a view."""
    while getattr(array, "base", None) is not None and hasattr(array.base, "nbytes"):
        array = array.base
    return array


def host(array: Any) -> np.ndarray:
    """The array, or that of a Tensor, on the host."""
    return np.asarray(backend.asnumpy(array.data if hasattr(array, "node") else array))
