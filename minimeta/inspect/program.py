"""The listing: a graph as the program that it is, one line for each node, made to be read and to be compared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from minimeta.autodiff.transforms import ArgNums
from minimeta.inspect.graph import Graph, Held, Vertex
from minimeta.inspect.tracing import trace


def program(what: Any, *args: Any, argnums: ArgNums = 0, order: int = 1) -> str:
    """All that a value was computed from, in the order of its making; arguments as for `minimeta.inspect.steps`.

    A line says name, operation, arguments and options, then dtype and shape, the derivative order where it is not 0,
    with the node whose rule it came from, and the arrays the node keeps for its own rules with their bytes (an array
    that several nodes keep is counted where it comes first). "Let go" is said of nodes that are shown only because
    others came from their rules. Indented lines stand in a scope. A name is an operation's with a count: listings are
    alike where graphs are, so that two can be compared line by line.

    >>> from minimeta import ops
    >>> print(program(lambda x: ops.tanh(x) * x, 0.5))
    x = input  # float64[]
    tanh_1 = tanh(x)  # float64[], holds out 8 B
    multiply_1 = multiply(tanh_1, x)  # float64[], holds x1, x2 8 B
    return multiply_1  # 3 nodes, 2 arrays held, 16 B
    >>> print(program(ops.exp, 0.5, order=2))
    x = input  # float64[]
    alias_1 = alias(x)  # float64[]
    exp_1 = exp(alias_1)  # float64[], holds out 8 B
    multiply_1 = multiply(1.0, exp_1)  # float64[], order 1 by exp_1, holds x1 8 B, x2
    return multiply_1  # 4 nodes, 2 arrays held, 16 B
    """
    traced = trace(what, *args, argnums=argnums, order=order)
    return "\n".join(_lines(traced.graph)) if len(traced.graph) else f"return {traced.value.data}  # a constant"


def _lines(graph: Graph) -> Iterator[str]:
    scopes: tuple[str, ...] = ()
    seen: dict[int, Any] = {}  # the arrays listed by now: an id is good as long as the array lives
    for vertex in graph:
        common = _common(scopes, vertex.origin.scopes)
        for depth, name in enumerate(vertex.origin.scopes[common:], common):
            yield f"{'  ' * depth}{name}:"
        scopes = vertex.origin.scopes
        yield f"{'  ' * len(scopes)}{vertex.name} = {vertex.expression}  # {', '.join(_notes(vertex, graph, seen))}"
    held = sum(array.nbytes for array in seen.values())
    yield f"return {', '.join(map(graph.name, graph.roots))}  # {len(graph)} nodes, {len(seen)} arrays held, {held} B"


def _common(left: tuple[str, ...], right: tuple[str, ...]) -> int:
    """How many scopes two paths share from the outside in."""
    return next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))


def _notes(vertex: Vertex, graph: Graph, seen: dict[int, Any]) -> Iterator[str]:
    yield vertex.type
    order, maker, _ = vertex.origin
    if order:
        yield f"order {order}" if maker is None else f"order {order} by {graph.name(maker)}"
    if not vertex.live:
        yield "let go"
    if vertex.held:
        yield f"holds {', '.join(_held(held, seen) for held in vertex.held)}"


def _held(held: Held, seen: dict[int, Any]) -> str:
    array = held.array
    if id(array) in seen:
        return held.role
    seen[id(array)] = array
    return f"{held.role} {array.nbytes} B"
