"""The checks of this folder find faults: each wrong rule below must be noticed by at least one of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minimeta import grad, hvp, ops, stop_gradient
from tests.autodiff.numeric import close, derivative

X, V = np.array([0.7, -0.4]), np.array([1.0, 2.0])


def f(x: Any) -> Any:
    return (ops.tanh(x) * x * x).sum()


def first_order_holds() -> None:
    close(grad(f)(X) @ V, derivative(f, X, V), 1e-8)


def second_order_holds() -> None:
    close(hvp(f, X, V), derivative(grad(f), X, V), 1e-8)


def test_the_right_rules_pass():
    first_order_holds()
    second_order_holds()


FIRST_ORDER = {
    "a factor": (ops.tanh, lambda g, y, x: g * (1 - y * y) * 1.001),
    "a sign": (ops.tanh, lambda g, y, x: -g * (1 - y * y)),
    "a forgotten term": (ops.tanh, lambda g, y, x: g),
    "the wrong input": (ops.multiply, lambda g, y, x1, x2: g * x1),
    "a missing contribution": (ops.multiply, lambda g, y, x1, x2: None),
}


@pytest.mark.parametrize("bug", FIRST_ORDER)
def test_a_wrong_first_derivative_is_found(bug, monkeypatch):
    operation, rule = FIRST_ORDER[bug]
    monkeypatch.setitem(operation.op.rules, 0, rule)
    with pytest.raises(AssertionError):
        first_order_holds()


SECOND_ORDER = {
    "the output taken as constant": (ops.tanh, lambda g, y, x: g * (1 - stop_gradient(y * y))),
    "the cotangent taken as constant": (ops.tanh, lambda g, y, x: stop_gradient(g) * (1 - y * y)),
    "an input taken as constant": (ops.multiply, lambda g, y, x1, x2: g * stop_gradient(x2)),
}


@pytest.mark.parametrize("bug", SECOND_ORDER)
def test_a_derivative_wrong_at_second_order_alone_is_found(bug, monkeypatch):
    operation, rule = SECOND_ORDER[bug]
    monkeypatch.setitem(operation.op.rules, 0, rule)
    first_order_holds()
    with pytest.raises(AssertionError):
        second_order_holds()
