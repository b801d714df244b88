"""Who looks on: debug mode and the recordings of `minimeta.inspect`. The engine asks only whether there is anybody.

Watchers are for one thread at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from minimeta.autodiff.sites import user_site

if TYPE_CHECKING:
    from minimeta.autodiff.backward import Reach, Step
    from minimeta.autodiff.node import Node


class Watcher:
    """What can be seen of the engine at work; each watcher takes of it what it needs."""

    def made(self, name: str, node: Node | None, out: Any) -> None:
        """Operation `name` gave the array `out`; `node` is what was recorded of it, if anything."""

    def sent(self, node: Node, i: int, value: Any) -> None:
        """The rule of argument `i` of `node` returned `value`."""

    def walked(self, found: Reach, steps: Iterator[Step]) -> Iterator[Step]:
        """A backward walk over `found.path` begins: whoever takes its steps gets them from this iterator."""
        return steps


#: Those who look on at present, and the scopes that are open while there is anybody.
watchers: list[Watcher] = []
scopes: list[str] = []

#: Whether there is anybody. Asked for every node: of a list this would cost the engine some 3 % of its time.
active = False


@contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    """Here `watcher` looks on."""
    global active
    watchers.append(watcher)
    active = True
    try:
        yield
    finally:
        watchers.remove(watcher)
        active = bool(watchers)


@contextmanager
def scope(name: str) -> Iterator[None]:
    """Group what is recorded here under a name, for those who look on; scopes nest.

    >>> from minimeta import inspect
    >>> def f(x):
    ...     with inspect.scope("square"):
    ...         return x * x
    >>> with inspect.recording() as record:
    ...     slope = minimeta.grad(f)(3.0)
    >>> record.origin(record.nodes[-1]).scopes
    ('square',)
    """
    if not active:
        yield
        return
    scopes.append(name)
    try:
        yield
    finally:
        scopes.pop()


def made(name: str, node: Node | None, out: Any) -> None:
    """Tell everybody, after noting on `node` where in the user's code it was made."""
    if node is not None:
        node.site = user_site()
    for watcher in watchers:
        watcher.made(name, node, out)


def sent(node: Node, i: int, value: Any) -> None:
    """Tell everybody."""
    for watcher in watchers:
        watcher.sent(node, i, value)
