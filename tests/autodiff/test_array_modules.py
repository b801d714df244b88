"""Nothing assumes NumPy: the same values and derivatives on array-api-strict, which knows the standard and no more."""

from __future__ import annotations

from typing import Any

import array_api_strict as strict
import numpy as np
import pytest

from minimeta import grad, hvp, jvp, ops, vjp
from tests.autodiff.numeric import close

X = np.array([[0.5, -0.3, 1.2], [0.9, 0.1, -0.7]])

#: What the stand-in can carry, each as a function of a [2, 3] array.
CARRIED = {
    "add": lambda x: x + x[0, ...],
    "subtract": lambda x: 1 - x,
    "multiply": lambda x: x * x[1, ...],
    "divide": lambda x: x / (x * x + 1),
    "power": lambda x: x**3,
    "negative": lambda x: -x,
    "exp": ops.exp,
    "expm1": ops.expm1,
    "log": lambda x: ops.log(x + 2),
    "log1p": lambda x: ops.log1p(x),
    "sqrt": lambda x: ops.sqrt(x + 2),
    "square": ops.square,
    "sin": ops.sin,
    "cos": ops.cos,
    "tanh": ops.tanh,
    "sigmoid": ops.sigmoid,
    "sum": lambda x: ops.sum(x, axis=0, keepdims=True),
    "mean": lambda x: ops.mean(x, axis=1, keepdims=True),
    "transpose": lambda x: x.T,
    "broadcast_to": lambda x: ops.broadcast_to(x[0, ...], (4, 3)) * 2,
    "concatenate": lambda x: ops.concatenate([x, x * x]),
    "stack": lambda x: ops.stack([x, x * x], axis=1),
    "flip": lambda x: ops.flip(x, axis=0) * x,
}


def moved(x: np.ndarray) -> Any:
    return strict.asarray(x.tolist(), dtype=strict.float64)


def on_strict(f: Any) -> Any:
    """The function run on the stand-in, results brought back."""

    def run(*arrays: np.ndarray) -> np.ndarray:
        y = f(*map(moved, arrays))
        assert type(y) is type(moved(X))
        return np.from_dlpack(y)

    return run


@pytest.mark.parametrize("name", CARRIED)
def test_values_and_derivatives_equal_numpys(name):
    f = CARRIED[name]

    def scalar(x: Any) -> Any:
        y = f(x)
        return (y * y).sum()

    close(on_strict(lambda x: f(x))(X), f(X))
    close(on_strict(grad(scalar))(X), grad(scalar)(X))
    close(on_strict(grad(lambda x: (grad(scalar)(x) ** 2).sum()))(X), grad(lambda x: (grad(scalar)(x) ** 2).sum())(X))


def test_transforms_run_on_the_stand_in():
    def f(x: Any) -> Any:
        return (ops.tanh(x) * x).sum()

    def g(x: Any) -> Any:
        return ops.sin(x) * x

    transforms = {
        "vjp": lambda x: vjp(g, x)[1](x)[0],
        "jvp": lambda x: jvp(g, (x,), (x,))[1],
        "hvp": lambda x: hvp(f, x, x),
    }
    for transform in transforms.values():
        close(on_strict(transform)(X), transform(X))
