"""Batch norm and ReLU in one kernel, with both derivatives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import minimeta_kernels
from minimeta_kernels.reference.batch_norm import Norm
from tests.autodiff.numeric import close, derivative
from tests.kernels import compare

few = settings(max_examples=25, deadline=None)
NAMES = ("norm_relu", "norm_relu_vjp", "norm_relu_vjp2")


@st.composite
def tasks(draw):
    """x, gamma and beta: channels for vectors of every width, rows below and above what is summed at once."""
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    count, channels = draw(st.sampled_from([1, 2, 9])), draw(st.sampled_from([1, 3, 16, 19, 64, 117]))
    x = 2 * rng.normal(size=(count, draw(st.sampled_from([1, 2, 5, 64, 130])), channels)) + 3
    # numbers that float32 holds: whether ReLU is zero must not depend on rounding
    return tuple(_rounded(a) for a in (x, *rng.normal(size=(2, count, channels))))


def _rounded(a):
    return a.astype(np.float32).astype(np.float64)


def derivatives(x, gamma, beta):
    """Arguments of the kernel, its derivative and the derivative of that, with random cotangents."""
    rng = np.random.default_rng(0)
    with minimeta_kernels.use("reference"):
        y, *saved = minimeta_kernels.call("norm_relu", x, gamma, beta)
    first = (rng.normal(size=y.shape), *saved, x, gamma, beta)
    cotangents = tuple(rng.normal(size=a.shape) for a in (x, gamma, beta))
    return (x, gamma, beta), first, (cotangents, *first)


def clear_of_the_kink(x, gamma, beta, margin):
    """Whether no value lies so near ReLU's kink that rounding, or a small step, moves it over."""
    return np.abs(Norm(x, x.mean(1), x.var(1), gamma, beta, 1e-5).of(x)).min() > margin


@few
@given(tasks())
def test_implementations_agree(arrays):
    assume(clear_of_the_kink(*arrays, 1e-4))
    # of one or two rows x_hat is 0 or 1 whatever x is, and its derivatives are differences of equal numbers
    assume(arrays[0].shape[1] > 2)
    for name, inputs in zip(NAMES, derivatives(*arrays), strict=True):
        with minimeta_kernels.use("reference"):
            expected = minimeta_kernels.call(name, *inputs)
        for backend in minimeta_kernels.table()[name]:
            for dtype, tolerance in ((np.float64, 1e-11), (np.float32, 3e-5)):
                for arrange in compare.LAYOUTS:
                    given_ = compare.leaves(inputs, lambda a, dtype=dtype, arrange=arrange: arrange(a.astype(dtype)))
                    with minimeta_kernels.use(backend):
                        found = minimeta_kernels.call(name, *given_)
                    assert all(a.dtype == dtype for a in found)
                    close(tuple(found), tuple(expected), tolerance)


@few
@given(tasks())
def test_first_derivative_against_differences(arrays):
    assume(clear_of_the_kink(*arrays, 1e-5))
    rng = np.random.default_rng(1)
    _, first, _ = derivatives(*arrays)
    gradients = minimeta_kernels.call("norm_relu_vjp", *first)
    direction = tuple(rng.normal(size=a.shape) for a in arrays)
    moved = derivative(lambda at: minimeta_kernels.call("norm_relu", *at).y, arrays, direction, step=1e-6)
    expected, scale = np.sum(first[0] * moved), np.abs(first[0] * moved).sum()
    found = sum(np.sum(a * b) for a, b in zip(gradients, direction, strict=True))
    np.testing.assert_allclose(found, expected, atol=1e-5 * (1 + scale))


@few
@given(tasks())
def test_second_derivative_against_differences(arrays):
    """With mean and variance following x, as they do in the first derivative."""
    assume(clear_of_the_kink(*arrays, 1e-5))
    rng = np.random.default_rng(1)
    _, _, (cotangents, g, *_) = derivatives(*arrays)

    def gradients(at):
        g, *arrays = at
        _, *saved = minimeta_kernels.call("norm_relu", *arrays)
        return minimeta_kernels.call("norm_relu_vjp", g, *saved, *arrays)

    _, *saved = minimeta_kernels.call("norm_relu", *arrays)
    second = minimeta_kernels.call("norm_relu_vjp2", cotangents, g, *saved, *arrays)
    direction = tuple(rng.normal(size=a.shape) for a in (g, *arrays[:2]))
    moved = derivative(gradients, (g, *arrays), (*direction, 0 * arrays[2]), step=1e-6)
    products = [a * b for a, b in zip(cotangents, moved, strict=True)]
    expected, scale = sum(p.sum() for p in products), sum(np.abs(p).sum() for p in products)
    found = sum(np.sum(a * b) for a, b in zip(second, direction, strict=True))
    np.testing.assert_allclose(found, expected, atol=1e-5 * (1 + scale))


@pytest.mark.parametrize("shape", [(0, 3, 5), (2, 3, 0), (1, 1, 1)])
def test_nothing_and_one_value(shape):
    channels = (shape[0], shape[-1])
    for name, inputs in zip(NAMES, derivatives(np.ones(shape), *np.ones((2, *channels))), strict=True):
        for backend in minimeta_kernels.table()[name]:
            with minimeta_kernels.use(backend):
                found = minimeta_kernels.call(name, *inputs)
            assert all(np.isfinite(a).all() for a in found)
            assert found[0].shape == shape


@pytest.mark.parametrize("name", ["numba", "reference"])
def test_nan_is_not_hidden(name):
    x = np.ones((1, 3, 70))
    x[0, 1, ::2] = np.nan
    if name not in minimeta_kernels.table()["norm_relu"]:
        pytest.skip(f"{name} is not installed")
    with minimeta_kernels.use(name):
        y = minimeta_kernels.call("norm_relu", x, np.ones((1, 70)), np.ones((1, 70))).y
    assert np.isnan(y[..., ::2]).all()
    assert (y[..., 1::2] == 1).all()


def test_relu_is_flat_at_its_kink():
    """A channel of equal values without a shift is zero everywhere."""
    x, gamma, beta = np.full((1, 4, 1), 2.0), np.ones((1, 1)), np.zeros((1, 1))
    y, *saved = minimeta_kernels.call("norm_relu", x, gamma, beta)
    gradients = minimeta_kernels.call("norm_relu_vjp", np.ones_like(x), *saved, x, gamma, beta)
    assert not any(a.any() for a in (y, *gradients))


def test_over_many_values_far_from_the_origin_no_digits_are_lost():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 200_000, 20))
    ones = np.ones((1, 20))
    near = minimeta_kernels.call("norm_relu", x.astype(np.float32), ones, ones)
    np.testing.assert_allclose(near.var, x.var(1), rtol=1e-6)
    far = minimeta_kernels.call("norm_relu", (x[:, :100] + 1e4).astype(np.float32), ones, ones)
    np.testing.assert_allclose(far.var, x[:, :100].var(1), rtol=2e-3)  # a float32 near 1e4 is known to 5e-4


@pytest.mark.parametrize("shape", [(1, 90, 150), (9, 20, 20)])
def test_threads_do_not_change_a_bit(shape, monkeypatch):
    monkeypatch.setattr("minimeta_kernels.launch.SMALL", 0)
    rng = np.random.default_rng(0)
    arrays = (rng.normal(size=shape), *rng.normal(size=(2, shape[0], shape[-1])))
    for name, inputs in zip(NAMES, derivatives(*arrays), strict=True):
        found = []
        for threads in ("1", "2", "3"):
            monkeypatch.setenv("MINIMETA_NUM_THREADS", threads)
            found.append(minimeta_kernels.call(name, *inputs))
        for again in found[1:]:
            for a, b in zip(again, found[0], strict=True):
                np.testing.assert_array_equal(a, b)
