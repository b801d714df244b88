"""From what a user hands in, a function with arguments or a Tensor, to its graph and what a walk over it needs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from minimeta import backend, tree
from minimeta.autodiff.backward import Reach, reach
from minimeta.autodiff.node import Node
from minimeta.autodiff.tensor import Tensor
from minimeta.autodiff.transforms import ArgNums, Variables, grad, scalar
from minimeta.inspect.graph import Graph
from minimeta.inspect.recording import Recording, current, recording


class Trace:
    """A scalar that was computed, as a graph: `value`, `graph`, the `record` of it, and the `targets` of a walk."""

    def __init__(
        self, value: Tensor, targets: list[Node], gradients: Callable[[list[Any], bool], Any],
        record: Recording | None, names: dict[int, str],
    ) -> None:  # fmt: skip
        self.value = value
        self.targets = targets
        self.gradients = gradients  # from the targets' cotangents, and whether they are watched
        self.record = record
        self.names = names  # of the inputs, by number
        self.graph = Graph([] if value.node is None else [value.node], record, names)

    def reach(self) -> Reach:
        """The path of a backward walk from the value to the targets, anew for every walk."""
        return reach([] if self.value.node is None else [self.value.node], self.targets)

    def seed(self, watched: bool) -> dict[int, Any]:
        """The cotangent that a walk begins with: 1 for the value."""
        if self.value.node is None:
            return {}
        one = backend.namespace(self.value.data).ones_like(self.value.data)
        return {self.value.node.number: Tensor(one) if watched else one}


def trace(what: Any, *args: Any, argnums: ArgNums = 0, order: int = 1) -> Trace:
    """The trace of a scalar function at its arguments, or of a traced Tensor and, if given, what to differentiate by.

    Of a function of `order` k > 1 it is that of the sum of all entries of its gradient of order k - 1.
    Raises TypeError for anything else, ValueError for order < 1.
    """
    if order < 1:
        raise ValueError(f"minimeta.inspect: order={order}; need order >= 1")
    if callable(what):
        return _trace_function(what, args, argnums, order)
    if type(what) is not Tensor:
        raise TypeError(f"minimeta.inspect: takes a function or a Tensor, got {type(what).__name__}")
    if what.node is None:
        raise ValueError("minimeta.inspect: the Tensor is a constant: no graph hangs on it; see minimeta.grad")
    if len(args) > 1 or order > 1:
        raise TypeError("minimeta.inspect: with a Tensor comes at most one tree of Tensors to differentiate by")
    return _trace_tensor(what, args[0] if args else None)


def _trace_function(f: Callable[..., Any], args: tuple[Any, ...], argnums: ArgNums, order: int) -> Trace:
    names = argument_names(f, len(args))
    for _ in range(order - 1):
        f = _summed_gradient(f, argnums)
    with recording() as record:
        variables = Variables("inspect", args, argnums)
        value = scalar(f(*variables.args))
    positions = (argnums,) if isinstance(argnums, int) else argnums
    places = [tree.place(names[i], path) for i in positions for path, _ in tree.items(args[i])]

    def gradients(known: list[Any], watched: bool) -> Any:
        trees = variables.gradients(known, watched)
        return trees if isinstance(argnums, tuple) else trees[0]

    numbers = [node.number for node in variables.targets]
    return Trace(value, variables.targets, gradients, record, dict(zip(numbers, places, strict=True)))


def _trace_tensor(y: Tensor, wrt: Any) -> Trace:
    leaves = tree.leaves(wrt)
    for path, leaf in tree.items(wrt):
        if type(leaf) is not Tensor or leaf.node is None:
            raise TypeError(f"minimeta.inspect: {tree.place('wrt', path)} is not a traced Tensor")

    def gradients(known: list[Any], watched: bool) -> Any:
        zeros = [leaf.data * 0 if g is None else g for leaf, g in zip(leaves, known, strict=True)]
        return tree.unflatten(wrt, zeros)

    return Trace(scalar(y) if leaves else y, [leaf.node for leaf in leaves], gradients, current(), {})


def argument_names(f: Callable[..., Any], count: int) -> list[str]:
    """How the function calls its arguments."""
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):  # some built-in functions have no signature
        parameters = []
    positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), "arg")
    return [*positional[:count], *(f"{rest}[{i}]" for i in range(count - len(positional)))]


def _summed_gradient(f: Callable[..., Any], argnums: ArgNums) -> Callable[..., Any]:
    def summed(*args: Any) -> Any:
        leaves = [leaf.sum() if leaf.ndim else leaf for leaf in tree.leaves(grad(f, argnums)(*args))]
        return sum(leaves[1:], leaves[0])

    return summed
