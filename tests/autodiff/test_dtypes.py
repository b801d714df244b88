"""float32 stays float32, float64 stays float64, and a gradient has the dtype of its argument."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minimeta import Tensor, grad, hessian, hvp, jacobian, jvp, ops, value_and_grad, vjp
from minimeta.autodiff import checkpoint

FLOATS = (np.float32, np.float64)


def mixed(x: Any) -> Any:
    """Python numbers on every side, 0-d arrays in the middle."""
    return (2 * ops.tanh(1 - x / 3) ** 2 + 0.5).mean() * 3 + (x.sum() - 1) ** 2


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(), (1,), (3, 2)])
def test_every_derivative_has_the_dtype_of_its_argument(dtype, shape):
    x = np.ones(shape, dtype)
    y, pullback = vjp(mixed, x)
    value, gradient = value_and_grad(mixed)(x)
    results = [
        y, pullback(np.ones((), dtype))[0], value, gradient, *jvp(mixed, (x,), (x,)), hvp(mixed, x, x),
        jacobian(mixed)(x), hessian(mixed)(x), grad(lambda x: grad(mixed)(x).sum())(x), grad(checkpoint(mixed))(x),
    ]  # fmt: skip
    assert [r.dtype for r in results] == [np.dtype(dtype)] * len(results)


def test_each_argument_of_a_mixed_operation_gets_its_own_dtype():
    single, double = grad(lambda a, b: (a * b).sum(), (0, 1))(np.ones(2, np.float32), np.ones(2))
    assert (single.dtype, double.dtype) == (np.float32, np.float64)


def test_a_wider_cotangent_does_not_widen_the_gradient():
    _, pullback = vjp(lambda x: x * 2, np.ones(2, np.float32))
    assert pullback(np.ones(2))[0].dtype == np.float32


def test_python_scalars_are_weak():
    x = Tensor(np.ones(2, np.float32))
    for y in (x + 1, 1 - x, x * 2.5, 1 / x, x**2, 2.0**x, x @ x * 0.5, -x + 0):
        assert y.dtype == np.float32


def test_python_numbers_as_arguments_are_float64():
    assert grad(lambda x: x * x)(2.0).dtype == np.float64


@pytest.mark.parametrize("bad", [3, True, np.arange(3), np.ones(2, np.float16), np.ones(2, complex)])
def test_only_float32_and_float64_have_derivatives(bad):
    message = r"minimeta.grad: argument 1\['w'\]\[0\] has dtype .*; derivatives need float32 or float64"
    with pytest.raises(TypeError, match=message):
        grad(lambda a, p: a, argnums=(0, 1))(1.0, {"w": [bad]})


def test_the_error_names_the_transform():
    with pytest.raises(TypeError, match=r"minimeta.vjp: argument 0 has dtype int64"):
        vjp(lambda x: x, np.arange(2))


def test_integers_beside_the_variables_are_fine():
    labels = np.array([1, 0])
    assert grad(lambda p: p["w"][labels[0]])({"w": np.ones(2)})["w"].tolist() == [0.0, 1.0]
