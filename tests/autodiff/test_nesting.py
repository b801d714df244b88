"""Transforms inside transforms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimeta import grad, hessian, hvp, jacobian, jvp, ops, stop_gradient, value_and_grad, vjp
from minimeta.autodiff import checkpoint
from tests.autodiff.numeric import close, derivative

NUMBERS = st.floats(-1.5, 1.5, width=32)
X = np.array([0.3, -0.8, 1.1])


def wave(x: Any) -> Any:
    return (ops.sin(x) * ops.exp(x * 0.5)).sum()


def test_perturbation_confusion_of_siskind_and_pearlmutter():
    """d/dx [x * d/dy (x + y)] at x = 1 is 1; an engine that confuses its variables says 2."""
    assert grad(lambda x: x * grad(lambda y: x + y)(1.0))(1.0) == 1.0


def test_perturbation_confusion_of_the_product():
    """d/dx [x * d/dy (x * y)] at y = 2, x = 3 is 2x = 6."""
    assert grad(lambda x: x * grad(lambda y: x * y)(2.0))(3.0) == 6.0


def test_perturbation_confusion_when_the_variable_is_the_same_array():
    assert grad(lambda x: x * grad(lambda y: x * y)(x))(3.0) == 6.0
    assert grad(lambda x: grad(lambda y: x * y * y)(x))(3.0) == 12.0  # d/dx (2 x y at y = x)


def test_perturbation_confusion_of_the_curried_function():
    """Manzyuk et al. 2019: a derivative that returns a function whose variable was captured under way."""
    shifted = jvp(lambda t: t * 2.0, (0.0,), (1.0,))[1]
    assert jvp(lambda t: jvp(lambda s: (t + s) * (t + s), (shifted,), (1.0,))[1], (3.0,), (1.0,))[1] == 2.0


def test_derivatives_of_a_power_of_every_order():
    f, x, factor = (lambda x: x**6), 1.5, 1.0
    for order in range(1, 7):
        f, factor = grad(f), factor * (7 - order)
        close(f(x), factor * x ** (6 - order))


@given(NUMBERS)
def test_third_derivatives(x):
    close(grad(grad(grad(ops.tanh)))(x), derivative(grad(grad(ops.tanh)), x, 1.0), 1e-7)


def test_a_closure_over_an_outer_variable_contributes():
    def outer(a: Any) -> Any:
        inner = grad(lambda b: (a * b * b).sum())(X)  # 2ab
        return (inner * a).sum()  # 2a²b

    close(grad(outer)(X), 4 * X * X)


def test_grad_by_different_variables_gives_mixed_derivatives():
    def f(x: Any, y: Any) -> Any:
        return x**3 * y**2

    assert grad(grad(f, 0), 1)(2.0, 5.0) == 3 * 4 * 2 * 5
    assert grad(grad(f, 1), 0)(2.0, 5.0) == 3 * 4 * 2 * 5
    assert grad(grad(grad(f, 0), 1), 0)(2.0, 5.0) == 6 * 2 * 2 * 5


def test_inner_variables_that_do_not_matter_outside():
    assert grad(lambda x: x + grad(lambda y: y * y)(2.0))(1.0) == 1.0
    assert grad(lambda x: grad(lambda y: y * y)(2.0))(1.0) == 0.0


def test_an_inner_function_may_return_what_belongs_to_the_outer():
    assert grad(lambda x: value_and_grad(lambda y: x)(1.0)[0])(3.0) == 1.0
    assert grad(lambda x: value_and_grad(lambda y: x * x)({})[0])(3.0) == 6.0
    assert grad(lambda x: vjp(lambda y: (x, y * 2), 1.0)[0][0])(3.0) == 1.0
    assert grad(lambda x: jvp(lambda y: (x * x, x * y), (1.0,), (1.0,))[1][1])(3.0) == 1.0


def test_value_and_grad_inside_grad_shares_one_graph():
    def f(x: Any) -> Any:
        value, slope = value_and_grad(lambda y: y**3)(x)
        return value * slope  # 3x⁵

    assert grad(f)(2.0) == 15 * 2.0**4


def test_pullback_inside_grad():
    def f(x: Any) -> Any:
        y, pullback = vjp(lambda z: z * z, x)
        return (pullback(y)[0]).sum()  # 2x * x²

    close(grad(f)(X), 6 * X * X)


def test_pullback_from_outside_with_a_traced_cotangent():
    _, pullback = vjp(lambda x: x * x, X)
    close(grad(lambda c: (pullback(c)[0] * c).sum())(np.ones(3)), 4 * X)
    close(jacobian(lambda c: pullback(c)[0])(np.ones(3)), np.diag(2 * X))


def test_jvp_of_grad_is_the_hessian_times_the_vector():
    v = np.array([1.0, 2.0, -1.0])
    close(jvp(grad(wave), (X,), (v,))[1], hessian(wave)(X) @ v)


def test_grad_of_jvp_and_of_hvp():
    v = np.array([1.0, 2.0, -1.0])
    close(grad(lambda x: jvp(wave, (x,), (v,))[1])(X), hvp(wave, X, v))
    third = [grad(grad(grad(wave)))(x) for x in X.tolist()]  # wave is a sum over elements: its Hessian is diagonal
    close(grad(lambda x: hvp(wave, x, v).sum())(X), third * v)


def test_hessian_inside_grad():
    def trace_of_hessian(x: Any) -> Any:
        return ops.trace(hessian(lambda y: (y**4).sum())(x))

    close(grad(trace_of_hessian)(X), 24 * X)


def test_one_gradient_step_differentiated():
    """The heart of MAML: the loss after a step, by the weights before it."""
    rate = 0.1
    after = grad(lambda x: wave(x - rate * grad(wave)(x)))(X)
    moved = X - rate * grad(wave)(X)
    close(after, (np.eye(3) - rate * hessian(wave)(X)) @ grad(wave)(moved))


def test_first_order_step_by_stop_gradient():
    rate = 0.1
    after = grad(lambda x: wave(x - rate * stop_gradient(grad(wave)(x))))(X)
    close(after, grad(wave)(X - rate * grad(wave)(X)))


# checkpoint: the same function, recomputed.


def layered(p: Any) -> Any:
    hidden = ops.tanh(p["w"] * p["x"])
    return {"out": (hidden, hidden.sum()), "none": None}


def loss_of(f: Any) -> Any:
    def loss(p: Any) -> Any:
        a, b = f(p)["out"]
        return (a * a).sum() + b**3

    return loss


POINT = {"w": np.array([0.5, -1.0]), "x": np.array([2.0, 0.3])}


def test_checkpoint_on_plain_arrays_is_the_function():
    close(checkpoint(layered)(POINT), layered(POINT), 0)


def test_checkpoint_changes_no_derivative():
    plain, checked = loss_of(layered), loss_of(checkpoint(layered))
    v = {"w": np.array([1.0, 2.0]), "x": np.array([-1.0, 0.5])}
    close(value_and_grad(checked)(POINT), value_and_grad(plain)(POINT), 1e-15)
    close(hessian(checked)(POINT), hessian(plain)(POINT), 1e-14)
    close(jvp(checked, (POINT,), (v,)), jvp(plain, (POINT,), (v,)), 1e-14)
    third = [grad(lambda p, f=f: hvp(f, p, v)["w"].sum())(POINT) for f in (checked, plain)]
    close(*third, 1e-13)


def test_checkpoints_nest():
    twice = checkpoint(lambda p: layered({"w": checkpoint(lambda w: w * w)(p["w"]), "x": p["x"]}))
    plain = loss_of(lambda p: layered({"w": p["w"] * p["w"], "x": p["x"]}))
    close(hessian(loss_of(twice))(POINT), hessian(plain)(POINT), 1e-13)


def test_checkpoint_takes_constants_and_keywords():
    f = checkpoint(lambda x, c, *, power: x**power * c)
    assert grad(lambda x: f(x, 5.0, power=3))(2.0) == 60.0


def test_checkpoint_refuses_captured_variables():
    with pytest.raises(ValueError, match=r"captures a traced Tensor from outside.*pass it as an argument"):
        grad(lambda x: checkpoint(lambda y: x * y)(x))(2.0)
