"""The yardsticks of these tests: derivatives by differences, and trees compared leaf by leaf."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minimeta import tree


def derivative(f: Callable[[Any], Any], x: Any, v: Any, step: float = 1e-3) -> Any:
    """d f(x + t v) / dt at t = 0 by the five-point rule; `x`, `v` and the result are trees of arrays.

    >>> round(float(derivative(lambda x: x**3, 2.0, 1.0)), 9)
    12.0
    """

    def at(t: float) -> Any:
        return f(tree.map(lambda a, b: a + t * b, x, v))

    samples = [at(k * step) for k in (2, 1, -1, -2)]
    return tree.map(lambda a, b, c, d: (8 * (b - c) - (a - d)) / (12 * step), *samples)


def close(actual: Any, expected: Any, tolerance: float = 1e-9) -> None:
    """Assert that two trees have one shape and equal leaves, up to `tolerance` relative to the largest entry."""

    def compare(a: Any, b: Any) -> None:
        a, b = np.asarray(a), np.asarray(b)
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * (1 + np.abs(b).max(initial=0)))

    tree.map(compare, actual, expected)


def dot(a: Any, b: Any) -> float:
    """The inner product of two trees.

    >>> dot({"w": np.ones(2)}, {"w": np.array([3.0, 4.0])})
    7.0
    """
    products = tree.map(lambda x, y: float(np.sum(np.asarray(x) * np.asarray(y))), a, b)
    return sum(tree.leaves(products))
