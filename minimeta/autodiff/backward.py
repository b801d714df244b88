"""Reverse mode: one walk over the nodes, youngest first, that sums up cotangents along the way."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

from minimeta.autodiff import debugging
from minimeta.autodiff.node import Node
from minimeta.autodiff.op import Rule
from minimeta.autodiff.primitives import astype, sum_to
from minimeta.autodiff.tensor import Tensor

_number = attrgetter("number")


#: One step of the walk: a node, its finished cotangent, and what its rules sent to each needed parent.
Step = tuple[Node, Any, list[tuple[Node, Any]]]


class Reach(NamedTuple):
    """The part of a graph between some roots and some targets.

    `path` holds the nodes on a way from a root to a target, oldest first. `watched` is true when the roots also depend
    on nodes older than every target: then an enclosing transform is recording, and the rules must be recorded for it.
    """

    path: list[Node]
    watched: bool


def reach(roots: Sequence[Node], targets: Sequence[Node]) -> Reach:
    """Find the nodes that lead from `roots` to `targets`. No recursion: chains of any length are walked."""
    oldest = min((t.number for t in targets), default=0)
    watched = False
    seen = {root.number for root in roots}
    stack = list({root.number: root for root in roots}.values())
    found = []
    while stack:
        node = stack.pop()
        found.append(node)
        for parent in node.parents:
            if parent is not None:
                number = parent.number
                if number < oldest:  # older than every target: it cannot depend on one
                    watched = True
                elif number not in seen:
                    seen.add(number)
                    stack.append(parent)
    found.sort(key=_number)
    leads = {t.number for t in targets}
    path = []
    for node in found:
        if node.number in leads:
            path.append(node)
        else:
            for parent in node.parents:
                if parent is not None and parent.number in leads:
                    leads.add(node.number)
                    path.append(node)
                    break
    return Reach(path, watched)


def walk(path: list[Node], cotangents: dict[int, Any], targets: set[int], watched: bool) -> Iterator[Step]:
    """Walk `path` (oldest first; it is consumed) from its young end and yield (node, cotangent, contributions).

    `cotangents` maps node numbers to the cotangents known so far; a node's own is complete when its turn comes, because
    all its children are younger. What remains at the end belongs to the targets.
    """
    needed = {node.number for node in path}
    while path:
        node = path.pop()
        if node.number in targets or node.number not in cotangents:
            continue
        g = cotangents.pop(node.number)
        op, inputs, out, parents, static = node.op, node.inputs, node.out, node.parents, node.static
        if watched:  # give the kept arrays their nodes back, so that the rules are recorded as functions of them
            if op.saves_inputs:
                inputs = [a if p is None else Tensor(a, p) for a, p in zip(inputs, parents)]  # noqa: B905
            if op.saves_out:
                out = Tensor(out, node)
        if out is None:
            out = node  # as a Spec
        rules = op.rules if op.joint is None else _joint(node, g, out, inputs)
        contributions = []
        for i, parent in enumerate(parents):
            if parent is None or parent.number not in needed:
                continue
            rule = rules.get(i) or op.rule(i)
            value = rule(g, out, *inputs, **static) if static else rule(g, out, *inputs)
            if value is None:  # zero everywhere
                continue
            array = value.data if type(value) is Tensor else value
            if array.shape != parent.shape:
                value = _reduce(node, i, value, parent.shape)
            if array.dtype is not parent.dtype and array.dtype != parent.dtype:
                value = astype(value, dtype=parent.dtype)
            if debugging.active:
                debugging.check_rule(node, op.argument(i), value)
            contributions.append((parent, value))
            known = cotangents.get(parent.number)
            cotangents[parent.number] = value if known is None else known + value
        yield node, g, contributions


def _joint(node: Node, g: Any, out: Any, inputs: tuple[Any, ...]) -> dict[int, Rule]:
    """Run the rule that gives all gradients at once and hand them out one by one."""
    assert node.op.joint is not None
    values = node.op.joint(g, out, *inputs, **node.static)
    return {i: lambda *args, value=value, **static: value for i, value in enumerate(values)}


def _reduce(node: Node, i: int, value: Any, shape: tuple[int, ...]) -> Any:
    if not node.op.broadcasts:
        raise ValueError(
            f"minimeta.{node.op.name}: the rule for argument {node.op.argument(i)!r} returned shape {value.shape}, "
            f"the argument has shape {shape}"
        )
    return sum_to(value, shape=shape)


def pull_back(found: Reach, cotangents: dict[int, Any], targets: Sequence[Node]) -> list[Any]:
    """The cotangents of `targets`, None where there is none; consumes `found.path`.

    Cotangents are plain arrays as long as nobody watches: then rules run on arrays and nothing is recorded.
    """
    known = {number: _as_seed(c, found.watched) for number, c in cotangents.items()}
    deque(walk(found.path, known, {t.number for t in targets}, found.watched), maxlen=0)  # drains it, holding nothing
    return [known.get(t.number) for t in targets]


def _as_seed(cotangent: Any, watched: bool) -> Any:
    if type(cotangent) is not Tensor:
        return Tensor(cotangent) if watched else cotangent
    return cotangent if watched or cotangent.node is not None else cotangent.data
