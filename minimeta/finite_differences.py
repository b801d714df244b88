"""Derivatives by central differences, the measure for all others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from minimeta import backend, tree
from minimeta.autodiff import Tensor

Scalar = Callable[[Any], Any]


def slope(function: Scalar, point: Any, direction: Any, eps: float) -> float:
    """The derivative along `direction` by the central difference of four points, whose error is of order eps ** 4.

    `function` takes a tree of arrays like `point` and `direction`, and gives one number.

    >>> round(slope(lambda x: float(x**3), 2.0, 1.0, eps=1e-3), 6)
    12.0
    """

    def at(step: float) -> float:
        return float(function(tree.map(lambda x, d: x + step * eps * d, point, direction)))

    return (8.0 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12.0 * eps)


def partial_slopes(
    function: Scalar, point: Any, leaf: int, entries: Iterable[tuple[int, ...]], eps: float
) -> Iterator[float]:
    """The derivatives by single entries of the leaf of that number, as `slope` has them."""
    leaves = tree.leaves(point)
    for entry in entries:
        unit = [backend.namespace(x).zeros_like(x) for x in leaves]
        unit[leaf][entry] = 1.0
        yield slope(function, point, tree.unflatten(point, unit), eps)


def float_leaves(f: Callable[..., Any], args: Sequence[Any]) -> tuple[list[Any], Callable[[list[Any]], list[Any]]]:
    """The floating-point leaves of `args` in float64, and `f` as a function of them, to its floating-point leaves."""
    constants = [leaf.data if type(leaf) is Tensor else leaf for leaf in tree.leaves(args)]
    places = [i for i, leaf in enumerate(constants) if is_float(leaf)]

    def call(variables: list[Any]) -> list[Any]:
        leaves = list(constants)
        for i, variable in zip(places, variables, strict=True):
            leaves[i] = variable
        return [leaf for leaf in tree.leaves(f(*tree.unflatten(args, leaves))) if is_float(leaf)]

    modules = [backend.namespace(constants[i]) for i in places]
    return [xp.asarray(constants[i], dtype=xp.float64) for xp, i in zip(modules, places, strict=True)], call


def float_places(root: str, values: Any) -> Iterator[str]:
    """How a reader would write each floating-point leaf: args[0]['w']."""
    for path, leaf in tree.items(values):
        if is_float(leaf):
            yield tree.place(root, path)


def is_float(leaf: Any) -> bool:
    """Whether derivatives by it make sense."""
    return isinstance(leaf, float) or str(getattr(leaf, "dtype", "")).endswith(("float32", "float64"))
