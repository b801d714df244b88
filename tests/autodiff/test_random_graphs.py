"""Random expression graphs, orders 1 to 3, against finite differences and the reference engine."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings

from minimeta import grad, hvp, ops
from tests.autodiff.numeric import close, derivative
from tests.autodiff.random_programs import points, run
from tests.autodiff.reference_engine import slope


@given(points(2))
def test_order_1_and_2_against_finite_differences(drawn):
    program, x, v = drawn

    def f(x: Any) -> Any:
        return run(program, ops, x)

    close(grad(f)(x) @ v, derivative(f, x, v), 1e-7)
    close(hvp(f, x, v), derivative(grad(f), x, v), 1e-7)


@settings(max_examples=60)
@given(points(2))
def test_order_1_and_2_against_the_reference_engine(drawn):
    program, x, v = drawn
    units = np.eye(len(x))

    def ours(x: Any) -> Any:
        return run(program, ops, x)

    def reference(x: Any) -> Any:
        return run(program, np, x)

    close(grad(ours)(x), np.array([slope(reference, x, unit) for unit in units]))
    close(hvp(ours, x, v), np.array([slope(reference, x, unit, v) for unit in units]))


@settings(max_examples=30)
@given(points(4))
def test_order_3_against_the_reference_engine(drawn):
    program, x, u, v, w = drawn

    def ours(x: Any) -> Any:
        return run(program, ops, x)

    third = grad(lambda x: (hvp(ours, x, u) * v).sum())(x) @ w
    close(third, slope(lambda x: run(program, np, x), x, u, v, w))
