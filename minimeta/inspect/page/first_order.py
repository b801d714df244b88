"""What a first-order method leaves out of a graph: every way from the result back that meets a derivative.

First-order MAML takes inner gradients as constants. What it differentiates are the ways from the result to the
variables that run through the forward pass alone; all other edges that a backward walk would take are of second order.
"""

from __future__ import annotations

from typing import NamedTuple

from minimeta.autodiff.backward import Reach
from minimeta.autodiff.node import Node
from minimeta.inspect.graph import Graph

#: From a node to its i-th parent, by the node's number.
Edge = tuple[int, int]


class Ways(NamedTuple):
    """The edges of a backward walk, and those of them that lie on a way through forward nodes alone."""

    all: set[Edge]
    first: set[Edge]

    @property
    def second(self) -> set[Edge]:
        return self.all - self.first


def ways(graph: Graph, found: Reach) -> Ways:
    """The edges of the walk over `found`, and the first-order ones among them."""
    narrow = first_order(graph, found)
    roots = {root.number for root in graph.roots}
    return Ways(_edges(found, roots), _edges(narrow, roots))


def first_order(graph: Graph, found: Reach) -> Reach:
    """What is left of the path when all derivatives are constants: the engine's walk over it is a first-order method's.

    >>> from minimeta.inspect.tracing import trace
    >>> def left(traced):
    ...     return [traced.graph.name(node) for node in first_order(traced.graph, traced.reach()).path]
    >>> left(trace(lambda x: x * x - 0.1 * minimeta.grad(lambda x: x**3)(x), 2.0))
    ['multiply_1', 'subtract_1']
    """
    on_path = {node.number for node in found.path}
    targets = {number for number in found.leads if number not in on_path}
    leads, path = set(targets), []
    for node in found.path:
        if graph[node].origin.order == 0 and _leading(node, leads):
            leads.add(node.number)
            path.append(node)
    edges = _edges(Reach(path, leads, found.watched), {root.number for root in graph.roots})
    reached = {number for number, _ in edges}
    return Reach([node for node in path if node.number in reached], targets | reached, found.watched)


def _leading(node: Node, leads: set[int]) -> list[tuple[int, Node]]:
    parents = enumerate(node.parents)
    return [(i, parent) for i, parent in parents if parent is not None and parent.number in leads]


def _edges(found: Reach, roots: set[int]) -> set[Edge]:
    reached, edges = set(roots), set()
    for node in reversed(found.path):
        if node.number in reached:
            for i, parent in _leading(node, found.leads):
                edges.add((node.number, i))
                reached.add(parent.number)
    return edges
