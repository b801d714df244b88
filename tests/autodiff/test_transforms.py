"""The transforms against closed forms, finite differences and each other."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from minimeta import (
    Tensor,
    grad,
    hessian,
    hvp,
    jacobian,
    jvp,
    ops,
    stop_gradient,
    tree,
    value_and_grad,
    vjp,
)
from tests.autodiff.numeric import close, derivative, dot


class Pair(NamedTuple):
    left: Any
    right: Any


def numbers(*shape: int) -> Any:
    return arrays(np.float64, shape, elements=st.floats(-1.5, 1.5, width=32))


#: Parameters of `features`, and directions to move them in.
PARAMS = st.fixed_dictionaries({"w": numbers(3, 2), "pair": st.builds(Pair, numbers(2), numbers()), "none": st.none()})
INPUT = np.array([[0.3, -1.2, 0.7], [1.1, 0.2, -0.4]])


def features(p: Any) -> Any:
    """A smooth function from a tree to a tree."""
    hidden = ops.tanh(INPUT @ p["w"] + p["pair"].left)
    return [hidden * p["pair"].right, (hidden.sum(axis=0) * p["pair"].left, p["w"] * p["w"])]


def energy(p: Any) -> Any:
    """A smooth function from a tree to one number."""
    a, (b, c) = features(p)
    return (a * a).sum() + ops.sin(b).sum() + (c * 0.5).mean()


def types(values: Any) -> set[type]:
    return {type(leaf) for leaf in tree.leaves(values)}


#: What NumPy itself returns: its 0-d results are np.float64.
PLAIN = {np.ndarray, np.float64}


# Closed forms.


def test_grad_of_a_number():
    assert grad(lambda x: x**3)(2.0) == 12.0
    assert value_and_grad(lambda x: x**3)(2.0) == (8.0, 12.0)


@pytest.mark.parametrize(
    "x",
    [{"a": 1.0, "b": {"c": 2.0}}, [1.0, [2.0, 3.0]], (1.0, (2.0,)), Pair(1.0, [2.0, None]), {"a": None, "b": (3.0,)}],
)
def test_a_gradient_has_the_tree_of_its_argument(x):
    def sum_of_squares(x: Any) -> Any:
        return sum(leaf * leaf for leaf in tree.leaves(x))

    g = grad(sum_of_squares)(x)
    assert g == tree.map(lambda leaf: 2 * leaf, x)
    assert type(g) is type(x)


def test_argnums_choose_the_variables():
    def f(x: Any, y: Any, z: Any = 1.0) -> Any:
        return x * x * y * z

    assert grad(f)(3.0, 5.0) == 30.0
    assert grad(f, 1)(3.0, 5.0) == 9.0
    assert grad(f, (1, 0))(3.0, 5.0) == (9.0, 30.0)
    assert grad(f, (0,))(3.0, 5.0) == (30.0,)
    assert jacobian(f, 1)(3.0, 5.0) == 9.0
    assert hessian(f, 0)(3.0, 5.0) == 10.0


def test_keyword_arguments_are_passed_on_and_not_differentiated():
    def f(x: Any, *, power: int, shift: Any) -> Any:
        return x**power + shift

    assert grad(f)(2.0, power=3, shift=np.float64(7)) == 12.0
    assert value_and_grad(f)(2.0, power=3, shift=7.0) == (15.0, 12.0)
    assert jacobian(f)(2.0, power=3, shift=7.0) == 12.0


def test_aux_comes_along_without_its_graph():
    def f(x: Any) -> Any:
        return (x * x).sum(), {"twice": x * 2, "label": "kept"}

    x = np.array([1.0, 2.0])
    gradient, aux = grad(f, has_aux=True)(x)
    (value, same_aux), same_gradient = value_and_grad(f, has_aux=True)(x)
    assert value == 5.0
    assert aux["label"] == "kept"
    close([gradient, same_gradient, aux["twice"], same_aux["twice"]], [2 * x] * 4)
    assert types([value, gradient, aux["twice"]]) <= PLAIN


def test_aux_is_differentiated_by_an_outer_transform():
    def outer(x: Any) -> Any:
        slope, cube = grad(lambda y: (y * y, x * y * y), has_aux=True)(x)
        return slope * cube  # 2x * x^3

    assert grad(outer)(2.0) == 8 * 2.0**3


def test_vjp_and_jvp_of_a_product():
    a, b = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    y, pullback = vjp(lambda a, b: a * b, a, b)
    close(y, a * b)
    close(pullback(np.array([1.0, 10.0])), (b * [1, 10], a * [1, 10]))
    close(pullback(np.ones(2)), (b, a))  # as often as wanted
    close(jvp(lambda a, b: a * b, (a, b), (np.ones(2), np.zeros(2))), (a * b, b))


def test_hessian_of_a_quadratic_form_is_its_matrix():
    m = np.array([[2.0, 1.0], [0.0, 3.0]])
    close(hessian(lambda x: x @ m @ x)(np.array([0.5, -1.0])), m + m.T)


def test_hessian_over_a_tree_has_a_block_per_pair_of_leaves():
    blocks = hessian(lambda p: (p["x"] * p["x"]).sum() * p["y"])({"x": np.array([1.0, 2.0]), "y": 3.0})
    expected = {"x": {"x": 6 * np.eye(2), "y": [2.0, 4.0]}, "y": {"x": [2.0, 4.0], "y": 0.0}}
    close(tree.map(np.asarray, blocks), {k: {j: np.array(b) for j, b in row.items()} for k, row in expected.items()})


def test_jacobian_of_an_empty_result_is_empty():
    assert jacobian(lambda x: x[:0])(np.ones(3)).shape == (0, 3)
    assert jacobian(lambda x: x * x)(np.ones(0)).shape == (0, 0)


def test_constant_functions_have_zero_derivatives():
    x = np.array([1.0, 2.0])
    assert grad(lambda x: 3.0)(2.0) == 0.0
    close(grad(lambda x: np.float64(3.0))(x), np.zeros(2))
    close(jacobian(lambda x: np.ones(3))(x), np.zeros((3, 2)))
    close(jacobian(lambda x: 3.0)(x), np.zeros(2))
    close(jvp(lambda x: 3.0, (x,), (x,)), (np.array(3.0), np.array(0.0)))
    close(hvp(lambda x: x.sum(), x, x), np.zeros(2))


def test_unused_arguments_have_zero_gradients_of_their_shape_and_dtype():
    used, unused = grad(lambda a, b: a.sum(), (0, 1))(np.ones(2), np.ones((3, 1), np.float32))
    close((used, unused), (np.ones(2), np.zeros((3, 1))))
    assert unused.dtype == np.float32


def test_stop_gradient_makes_constants_at_every_order():
    x = np.array([0.5, 2.0])

    def f(x: Any) -> Any:
        return (x * stop_gradient({"x": x * x})["x"]).sum()

    close(grad(f)(x), x * x)
    close(hessian(f)(x), np.zeros((2, 2)))
    close(jvp(f, (x,), (x,))[1], (x**3).sum())
    assert stop_gradient("text") == "text"


# What comes in and what goes out.


def test_arrays_in_arrays_out():
    x = np.ones(2)
    y, pullback = vjp(lambda x: x * x, x)
    results = [
        grad(lambda x: (x * x).sum())(x), value_and_grad(lambda x: (x * x).sum())(x), y, pullback(x),
        jvp(lambda x: x * x, (x,), (x,)), hvp(lambda x: (x**3).sum(), x, x), jacobian(lambda x: x * x)(x),
        hessian(lambda x: (x**3).sum())(x),
    ]  # fmt: skip
    assert types(results) <= PLAIN


def test_tensors_in_tensors_out():
    x = Tensor(np.ones(2))
    y, pullback = vjp(lambda x: x * x, x)
    results = [
        grad(lambda x: (x * x).sum())(x), value_and_grad(lambda x: (x * x).sum())(x), y, pullback(np.ones(2)),
        jvp(lambda x: x * x, (x,), (x,)), hvp(lambda x: (x**3).sum(), x, x), jacobian(lambda x: x * x)(x),
        hessian(lambda x: (x**3).sum())(x),
    ]  # fmt: skip
    assert types(results) == {Tensor}
    assert all(leaf.node is None for leaf in tree.leaves(results))


def test_a_transform_does_not_touch_its_arguments():
    x = np.array([1.0, 2.0])
    params = {"x": x}
    grad(lambda p: (p["x"] * p["x"]).sum())(params)
    assert params["x"] is x
    assert x.tolist() == [1.0, 2.0]


# Against finite differences and each other.


@given(PARAMS, PARAMS)
def test_grad_against_finite_differences(p, v):
    close(dot(grad(energy)(p), v), derivative(energy, p, v), 1e-8)


@given(PARAMS, PARAMS)
def test_hvp_against_finite_differences(p, v):
    close(hvp(energy, p, v), derivative(grad(energy), p, v), 1e-8)


@given(PARAMS, PARAMS)
def test_jvp_against_finite_differences(p, v):
    y, slope = jvp(features, (p,), (v,))
    close(y, features(p))
    close(slope, derivative(features, p, v), 1e-8)


@given(PARAMS, PARAMS, PARAMS)
def test_jvp_and_vjp_are_adjoint(p, v, other):
    _, slope = jvp(features, (p,), (v,))
    cotangent = features(other)
    _, pullback = vjp(features, p)
    close(dot(cotangent, slope), dot(pullback(cotangent)[0], v))


@given(numbers(3), numbers(3))
def test_hvp_is_the_hessian_times_the_vector(x, v):
    def f(x: Any) -> Any:
        return ops.sin(x).sum() * (x * x[::-1]).sum()

    h = hessian(f)(x)
    close(h, h.T)
    close(hvp(f, x, v), h @ v)


@given(numbers(2, 2))
def test_jacobian_stacks_vjps(x):
    def f(x: Any) -> Any:
        return ops.tanh(x @ x)[0]

    _, pullback = vjp(f, x)
    close(jacobian(f)(x), np.stack([pullback(row)[0] for row in np.eye(2)]))


@given(PARAMS, PARAMS)
def test_value_and_grad_is_value_and_grad(p, v):
    value, gradient = value_and_grad(energy)(p)
    close(value, energy(p), 0)
    close(gradient, grad(energy)(p), 0)


@given(PARAMS, PARAMS)
def test_the_gradient_is_the_vjp_of_one(p, v):
    close(vjp(energy, p)[1](1.0), (grad(energy)(p),), 0)
