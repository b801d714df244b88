"""The plainest engine of any order: numbers that carry one derivative, nested as often as wanted.

NumPy runs whole expressions over them in object arrays, so broadcasting, reductions and matmul are NumPy's own. Nothing
here is shared with minimeta: forward mode instead of reverse mode, single numbers instead of arrays, no graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np


class Dual:
    """value + slope * e with e * e = 0; both parts are floats or Duals of the order below."""

    def __init__(self, value: Any, slope: Any) -> None:
        self.value = value
        self.slope = slope

    def __add__(self, other: Any) -> Dual:
        other = _dual(other)
        return Dual(self.value + other.value, self.slope + other.slope)

    def __mul__(self, other: Any) -> Dual:
        other = _dual(other)
        return Dual(self.value * other.value, self.value * other.slope + self.slope * other.value)

    def __neg__(self) -> Dual:
        return Dual(-self.value, -self.slope)

    def __sub__(self, other: Any) -> Dual:
        return self + -_dual(other)

    def __rsub__(self, other: Any) -> Dual:
        return -self + other

    def __truediv__(self, other: Any) -> Dual:
        return self * _dual(other).reciprocal()

    def __rtruediv__(self, other: Any) -> Dual:
        return self.reciprocal() * other

    __radd__, __rmul__ = __add__, __mul__

    def reciprocal(self) -> Dual:
        inverse = 1.0 / self.value
        return Dual(inverse, -self.slope * inverse * inverse)

    def exp(self) -> Dual:
        value = call("exp", self.value)
        return Dual(value, self.slope * value)

    def sin(self) -> Dual:
        return Dual(call("sin", self.value), self.slope * call("cos", self.value))

    def cos(self) -> Dual:
        return Dual(call("cos", self.value), -self.slope * call("sin", self.value))

    def tanh(self) -> Dual:
        value = call("tanh", self.value)
        return Dual(value, self.slope * (1.0 - value * value))


def _dual(number: Any) -> Dual:
    return number if isinstance(number, Dual) else Dual(number, 0.0)


def call(name: str, number: Any) -> Any:
    """A function of `math`, or the method of that name of a Dual."""
    return getattr(number, name)() if isinstance(number, Dual) else getattr(math, name)(number)


def slope(f: Callable[[np.ndarray], Any], x: np.ndarray, *directions: np.ndarray) -> float:
    """The derivative of scalar `f` at `x` along one or several directions, one order per direction.

    >>> slope(lambda x: (x * x * x).sum(), np.array([1.0, 2.0]), np.ones(2), np.ones(2))
    18.0
    """
    for direction in directions:
        x = np.vectorize(Dual, otypes=[object])(x, _lift(direction, x))
    y = f(x)
    y = y.item() if isinstance(y, np.ndarray) else y
    for _ in directions:
        y = _dual(y).slope
    return y


def _lift(direction: np.ndarray, like: np.ndarray) -> np.ndarray:
    """The direction as constants of the order that `like` has: plain floats serve at every order."""
    return np.broadcast_to(direction, like.shape)
