"""The stepper: the engine's own backward walk, one node at a time."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from functools import lru_cache
from types import CodeType
from typing import Any, NamedTuple

import numpy as np

from minimeta import tree
from minimeta.autodiff.backward import Reach, walk_in_view
from minimeta.autodiff.node import Node
from minimeta.autodiff.op import Op
from minimeta.autodiff.transforms import ArgNums
from minimeta.inspect.graph import Graph, describe, host
from minimeta.inspect.tracing import Trace, trace

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + os.sep


class Source(NamedTuple):
    """The text of a derivative rule, and where it stands."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class Contribution(NamedTuple):
    """What a rule sent to one parent, and `total`, the sum of all that this parent has been sent after the step."""

    argument: str
    parent: Node
    name: str
    value: Any
    total: Any
    source: Source

    @property
    def norm(self) -> float:
        return norm(self.value)


class Step(NamedTuple):
    """A node whose turn has come: its complete cotangent, and what its rules make of it for each parent."""

    number: int
    name: str
    node: Node
    expression: str
    cotangent: Any
    contributions: list[Contribution]

    def __str__(self) -> str:
        lines = [f"step {self.number}: {self.name} = {self.expression}", f"  comes in: {summary(self.cotangent)}"]
        last = {sent.parent.number: sent for sent in self.contributions}
        shown = None
        for sent in self.contributions:
            if sent.source != shown:
                lines += [f"  rule, {sent.source}:", *(f"    {line}" for line in sent.source.text.splitlines())]
                shown = sent.source
            lines.append(f"  to {sent.name} (argument {sent.argument}): {summary(sent.value)}")
            if sent.total is not sent.value and sent is last[sent.parent.number]:
                lines.append(f"    which has now {summary(sent.total)}")
        return "\n".join(lines)


class Steps(Iterator[Step]):
    """The steps of one backward walk, to be taken once; `gradient` takes those that are left.

    The walk is over `found`, a part of the path from the value to the targets, or over all of it.
    """

    def __init__(self, traced: Trace, found: Reach | None = None) -> None:
        self.graph: Graph = traced.graph
        self.value = traced.value.data
        self._trace = traced
        found = traced.reach() if found is None else found
        self.path = tuple(reversed(found.path))
        self._watched = found.watched
        self._cotangents = traced.seed(found.watched)
        self._walk = walk_in_view(found, self._cotangents)
        self._taken = 0

    def __next__(self) -> Step:
        node, g, sent = next(self._walk)
        self._taken += 1
        vertex = self.graph[node]
        contributions = [self._contribution(node, i, value) for i, value in sent]
        return Step(self._taken, vertex.name, node, vertex.expression, g, contributions)

    def _contribution(self, node: Node, i: int, value: Any) -> Contribution:
        parent = node.parents[i]
        assert parent is not None
        name, total = self.graph[parent].name, self._cotangents[parent.number]
        return Contribution(node.op.argument(i), parent, name, value, total, rule_source(node.op, i))

    @property
    def gradient(self) -> Any:
        """What `minimeta.grad` would return."""
        for _ in self:
            pass
        known = [self._cotangents.get(target.number) for target in self._trace.targets]
        return self._trace.gradients(known, self._watched)

    def gradients(self) -> dict[str, Any]:
        """The same, leaf by leaf, under the names that the leaves have in the graph."""
        names = [self.graph.name(target) for target in self._trace.targets]
        return dict(zip(names, tree.leaves(self.gradient), strict=True))


def steps(what: Any, *args: Any, argnums: ArgNums = 0, order: int = 1) -> Steps:
    """The backward walk that `minimeta.grad` makes, to be taken step by step.

    `steps(f, *args)` walks from the scalar f(*args) to argument(s) `argnums`, as `grad`; inside a function under `grad`
    `steps(y, wrt)` walks from a Tensor of one element to a tree of Tensors. `order` k walks from the sum of all entries
    of the gradient of order k - 1 (of a scalar function of a number: takes its k-th derivative).
    A step has the node whose turn it is, its complete cotangent, and for each parent what the rule made of it, the
    rule's text and the parent's running sum; `print` shows them. What is computed is what `grad` computes.

    Raises TypeError for what is neither, ValueError for a function of more than one number.

    >>> walk = steps(lambda x: (x * x).sum(), np.array([1.0, 2.0]))
    >>> [(step.name, [sent.name for sent in step.contributions]) for step in walk]
    [('sum_1', ['multiply_1']), ('multiply_1', ['x', 'x'])]
    >>> walk.gradient
    array([2., 4.])
    """
    return Steps(trace(what, *args, argnums=argnums, order=order))


def rule_source(op: Op, i: int) -> Source:
    """The text of the rule for argument `i`; where Python cannot find it, the rule's name."""
    rule = op.rule(i) if op.joint is None else op.joint
    code = getattr(rule, "__code__", None)
    return Source("a rule without a file", 0, str(rule)) if code is None else _source(code)


@lru_cache(maxsize=1024)
def _source(code: CodeType) -> Source:
    """By the code and not the rule, which may hold on to more than its text: a checkpoint's has its arguments."""
    try:
        lines, first = inspect.getsourcelines(code)
        file = inspect.getsourcefile(code) or "an unknown file"
    except OSError:  # typed at a prompt
        return Source("a rule without a file", 0, code.co_qualname)
    return Source(file.removeprefix(_ROOT), first, inspect.cleandoc("\n" + "".join(lines)))


def norm(value: Any) -> float:
    """The Euclidean norm of an array or Tensor."""
    return float(np.linalg.norm(host(value).ravel()))


def summary(value: Any) -> str:
    """dtype, shape, entries (of a large array its ends) and norm of an array or Tensor, in one line."""
    array = host(value)
    text = np.array2string(array, precision=4, separator=", ", threshold=8).replace("\n", "")
    return f"{describe(array)} {text}" + ("" if array.ndim == 0 else f", norm {norm(array):.4g}")
