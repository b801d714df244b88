"""Recordings: which pass of differentiation made a node, by whose rule, in which scope, with which value."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from minimeta.autodiff.backward import Reach, Step
from minimeta.autodiff.node import Node
from minimeta.autodiff.watching import Watcher, scopes, watched_by, watchers


class Origin(NamedTuple):
    """Where a node comes from: `order` 0 is a forward pass, k the k-th backward pass over what came before.

    `maker` is the node whose rule made it (None at order 0), `scopes` the names it was made under, outermost first.
    """

    order: int
    maker: Node | None
    scopes: tuple[str, ...]


class Event(NamedTuple):
    """Something that happened to a node: it was "made", or its rules have been "walked" over."""

    kind: str
    node: Node


class Recording(Watcher):
    """What was seen of the engine: every node, its origin and value, and all that happened, in order.

    It keeps all arrays alive. `recording()` makes one.
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.values: dict[int, Any] = {}
        self.events: list[Event] = []
        self._origins: dict[int, Origin] = {}
        self._within: list[int] = []  # the orders of the walks whose rules are running

    def origin(self, node: Node) -> Origin:
        """Where a node comes from; one that was made before the recording counts as forward."""
        return self._origins.get(node.number, Origin(0, None, ()))

    def order(self, node: Node) -> int:
        """0 for a node of a forward pass, k for one that the k-th backward pass made."""
        return self.origin(node).order

    def made(self, name: str, node: Node | None, out: Any) -> None:
        if node is not None:
            self.nodes.append(node)
            self.values[node.number] = out
            self.events.append(Event("made", node))
            # a rule that computes a forward pass again belongs to its backward pass
            self._origins[node.number] = Origin(self._within[-1] if self._within else 0, None, tuple(scopes))

    def walked(self, found: Reach, steps: Iterator[Step]) -> Iterator[Step]:
        outer = self._within[-1] if self._within else 0
        order = outer or 1 + max(map(self.order, found.path), default=0)
        while True:
            before = len(self.nodes)
            self._within.append(order)
            try:
                step = next(steps, None)
            finally:
                self._within.pop()
            if step is None:
                return
            node = step[0]
            for made in self.nodes[before:]:
                if self.origin(made).maker is None:
                    self._origins[made.number] = self.origin(made)._replace(maker=node)
            self.events.append(Event("walked", node))
            yield step


@contextmanager
def recording() -> Iterator[Recording]:
    """Record everything the engine does here, with all values; for one thread at a time.

    >>> import minimeta
    >>> with recording() as record:
    ...     slope = minimeta.grad(minimeta.grad(lambda x: x * x * x))(2.0)
    >>> [(node.op.name, record.order(node)) for node in record.nodes]
    [('alias', 0), ('alias', 0), ('multiply', 0), ('multiply', 0), ('multiply', 1), ('multiply', 1), ...]
    """
    record = Recording()
    with watched_by(record):
        yield record


def current() -> Recording | None:
    """The recording that is being made, the innermost of several."""
    return next((watcher for watcher in reversed(watchers) if isinstance(watcher, Recording)), None)
