"""Reverse mode: one walk over the nodes, youngest first, that sums up cotangents along the way."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from minimeta.autodiff import sites, watching
from minimeta.autodiff.node import Node
from minimeta.autodiff.op import Op, Rule
from minimeta.autodiff.primitives import astype, sum_to
from minimeta.autodiff.tensor import Tensor

#: One step of the walk: a node, its finished cotangent, and what its rules sent to the needed parents, by argument.
Step = tuple[Node, Any, list[tuple[int, Any]]]


class Reach(NamedTuple):
    """The part of a graph between some roots and some targets.

    `path` holds the nodes on a way from a root to a target, oldest first; `leads` the numbers of these and the targets.
    `watched` is true when the roots also depend on nodes older than every target: then an enclosing transform is
    recording, and the rules must be recorded for it.
    """

    path: list[Node]
    leads: set[int]
    watched: bool


def reach(roots: Sequence[Node], targets: Sequence[Node]) -> Reach:
    """Find the nodes that lead from `roots` to `targets`. No recursion: chains of any length are walked."""
    leads = {target.number for target in targets}
    oldest = min(leads, default=math.inf)
    found = {root.number: root for root in roots}
    stack = list(found.values())  # not the name of an import: CPython 3.11 would call its methods the slow way
    watched = any(number < oldest for number in found)
    while stack:
        for parent in stack.pop().parents:
            if parent is not None:
                number = parent.number
                if number < oldest:  # older than every target: it cannot depend on one
                    watched = True
                elif number not in found:
                    found[number] = parent
                    stack.append(parent)
    path = []
    for number in sorted(found):
        node = found[number]
        for parent in node.parents:
            if parent is not None and parent.number in leads:
                leads.add(number)
                path.append(node)
                break
    return Reach(path, leads, watched)


def walk(found: Reach, cotangents: dict[int, Any]) -> Iterator[Step]:
    """Walk `found.path` (which is consumed) from its young end and yield (node, cotangent, contributions).

    `cotangents` maps node numbers to the cotangents known so far; a node's own is complete when its turn comes, because
    all its children are younger. What remains at the end belongs to the targets.
    """
    path, leads, watched = found
    while path:
        node = path.pop()
        g = cotangents.pop(node.number, None)
        if g is None:
            continue
        op, inputs, out, parents, static = node.op, node.inputs, node.out, node.parents, node.static
        if watched:  # give the kept arrays their nodes back, so that the rules are recorded as functions of them
            if op.saves_inputs:
                inputs = tuple(map(_with_node, inputs, parents))
            if op.saves_out:
                out = Tensor(out, node)
        args = (g, node if out is None else out, *inputs)  # a node is its own Spec
        rules = op.rules if op.joint is None else _joint(op, args, static)
        contributions = []
        for i, parent in enumerate(parents):
            if parent is None or parent.number not in leads:
                continue
            rule = rules.get(i) or op.rule(i)
            value = rule(*args, **static) if static else rule(*args)
            if value is None:  # zero everywhere
                continue
            array = value.data if type(value) is Tensor else value
            if array.shape != parent.shape:
                value = _reduce(node, i, value, parent.shape)
            if array.dtype is not parent.dtype and array.dtype != parent.dtype:
                value = astype(value, dtype=parent.dtype)
            if watching.active:
                watching.sent(node, i, value)
            contributions.append((i, value))
            known = cotangents.get(parent.number)
            cotangents[parent.number] = value if known is None else known + value
        yield node, g, contributions


def _with_node(array: Any, node: Node | None) -> Any:
    return array if node is None else Tensor(array, node)


def _joint(op: Op, args: tuple[Any, ...], static: dict[str, Any]) -> dict[int, Rule]:
    """Run the rule that gives all gradients at once and hand them out one by one."""
    assert op.joint is not None
    values = op.joint(*args, **static)
    return {i: lambda *args, value=value, **static: value for i, value in enumerate(values)}


def _reduce(node: Node, i: int, value: Any, shape: tuple[int, ...]) -> Any:
    op = node.op
    if not op.broadcasts:
        made = f"; made at {sites.place(node.site)}{sites.stack(node.site)}" if node.site else ""
        raise ValueError(
            f"minimeta.{op.name}: the rule for argument {op.argument(i)!r} returned shape {value.shape}, "
            f"the argument has shape {shape}{made}"
        )
    return sum_to(value, shape=shape)


def pull_back(found: Reach, cotangents: dict[int, Any], targets: Sequence[Node]) -> list[Any]:
    """The cotangents of `targets`, None where there is none; consumes `found.path`.

    Cotangents are plain arrays as long as nobody watches: then rules run on arrays and nothing is recorded.
    """
    known = {number: _as_seed(c, found.watched) for number, c in cotangents.items()}
    deque(walk_in_view(found, known), maxlen=0)  # drains it, holding nothing
    return [known.get(t.number) for t in targets]


def walk_in_view(found: Reach, cotangents: dict[int, Any]) -> Iterator[Step]:
    """As `walk`, before the eyes of whoever looks on."""
    steps = walk(found, cotangents)
    for watcher in watching.watchers:
        steps = watcher.walked(found, steps)
    return steps


def _as_seed(cotangent: Any, watched: bool) -> Any:
    if type(cotangent) is not Tensor:
        return Tensor(cotangent) if watched else cotangent
    return cotangent if watched or cotangent.node is not None else cotangent.data
