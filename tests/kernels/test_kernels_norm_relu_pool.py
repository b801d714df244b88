"""Batch norm, ReLU and max-pool in one kernel, with both derivatives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minimeta_kernels
from tests.autodiff.numeric import close, derivative
from tests.kernels import compare

few = settings(max_examples=25, deadline=None)


@st.composite
def blocks(draw):
    """x, gamma and beta: odd and even images, channels below, at and above a vector, dead and living windows."""
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    tasks, channels = draw(st.sampled_from([1, 2, 9])), draw(st.sampled_from([1, 3, 16, 19]))
    size = (draw(st.integers(2, 7)), draw(st.integers(2, 7)))
    x = 2 * rng.normal(size=(tasks, draw(st.integers(1, 4)), *size, channels)) + 3
    return x, rng.normal(size=(tasks, channels)), rng.normal(size=(tasks, channels))


def first(x, gamma, beta, rng):
    """Arguments of the first derivative: a cotangent and what the forward saved."""
    with minimeta_kernels.use("reference"):
        pooled, *saved = minimeta_kernels.call("norm_relu_pool", x, gamma, beta)
    return (rng.normal(size=pooled.shape), *saved, x, gamma, beta)


def compare_results(name, arrays):
    for dtype, tolerance in ((np.float64, 1e-11), (np.float32, 3e-5)):
        with minimeta_kernels.use("reference"):  # of the same numbers
            rounded = compare.leaves(arrays, lambda a, d=dtype: a.astype(d).astype(float))
            expected = minimeta_kernels.call(name, *rounded)
        for backend in minimeta_kernels.table()[name]:
            for arrange in compare.LAYOUTS:
                given_ = compare.leaves(arrays, lambda a, dtype=dtype, arrange=arrange: arrange(a.astype(dtype)))
                with minimeta_kernels.use(backend):
                    found = minimeta_kernels.call(name, *given_)
                assert all(a.dtype == dtype for a in found)
                close(tuple(found), tuple(expected), tolerance)


@few
@given(blocks())
def test_implementations_agree(block):
    rng = np.random.default_rng(0)
    # numbers that float32 holds: which of two equal winners is first must not depend on rounding
    block = tuple(a.astype(np.float32).astype(np.float64) for a in block)
    arrays = first(*block, rng)
    cotangents = tuple(rng.normal(size=a.shape) for a in block)
    compare_results("norm_relu_pool", block)
    compare_results("norm_relu_pool_vjp", arrays)
    compare_results("norm_relu_pool_vjp2", (cotangents, *arrays))


@few
@given(blocks())
def test_first_derivative_against_differences(block):
    """Along a step too small to change a winner."""
    rng = np.random.default_rng(0)
    arrays = first(*block, rng)
    gradients = minimeta_kernels.call("norm_relu_pool_vjp", *arrays)
    direction = tuple(rng.normal(size=a.shape) for a in block)
    moved = derivative(lambda at: minimeta_kernels.call("norm_relu_pool", *at)[0], block, direction, step=1e-6)
    expected, scale = np.sum(arrays[0] * moved), np.abs(arrays[0] * moved).sum()
    found = sum(np.sum(a * b) for a, b in zip(gradients, direction, strict=True))
    np.testing.assert_allclose(found, expected, atol=1e-5 * (1 + scale))


@few
@given(blocks())
def test_second_derivative_against_differences(block):
    """With winners, mean and variance following x, as they do in the first derivative."""
    rng = np.random.default_rng(0)
    g, _, _, _, *block = first(*block, rng)
    u = tuple(rng.normal(size=a.shape) for a in block)

    def gradients(at):
        g, *arrays = at
        _, *saved = minimeta_kernels.call("norm_relu_pool", *arrays)
        return minimeta_kernels.call("norm_relu_pool_vjp", g, *saved, *arrays)

    _, *saved = minimeta_kernels.call("norm_relu_pool", *block)
    gg, gx, ggamma = minimeta_kernels.call("norm_relu_pool_vjp2", u, g, *saved, *block)
    direction = tuple(rng.normal(size=a.shape) for a in (g, *block[:2]))
    moved = derivative(gradients, (g, *block), (*direction, 0 * block[2]), step=1e-6)
    products = [a * b for a, b in zip(u, moved, strict=True)]
    expected, scale = sum(p.sum() for p in products), sum(np.abs(p).sum() for p in products)
    found = sum(np.sum(a * b) for a, b in zip((gg, gx, ggamma), direction, strict=True))
    np.testing.assert_allclose(found, expected, atol=1e-5 * (1 + scale))


def test_of_equal_pixels_the_first_wins():
    x = np.zeros((1, 1, 2, 4, 1))
    x[0, 0, :, 2:, 0] = 1  # one window of zeros, one of ones
    gamma, beta = np.ones((1, 1)), 5 * np.ones((1, 1))
    pooled, *saved = minimeta_kernels.call("norm_relu_pool", x, gamma, beta)
    gx, _, gbeta = minimeta_kernels.call("norm_relu_pool_vjp", np.ones_like(pooled), *saved, x, gamma, beta)
    by_pixel = gx[0, 0, :, :, 0]
    # all of a window share what comes through the statistics; its first pixel has the gradient on top
    np.testing.assert_allclose(by_pixel[:, 1], by_pixel[1, 0])
    assert by_pixel[0, 0] - by_pixel[0, 1] == pytest.approx(1 / np.sqrt(x.var() + 1e-5))
    assert gbeta[0, 0] == 2


def test_nan_is_not_hidden():
    x = np.ones((1, 1, 2, 2, 1))
    x[0, 0, 1, 1, 0] = np.nan
    assert np.isnan(minimeta_kernels.call("norm_relu_pool", x, np.ones((1, 1)), np.ones((1, 1))).pooled).all()


def test_far_from_the_origin_no_digits_are_lost():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 3, 6, 6, 20))
    shifted = minimeta_kernels.call("norm_relu_pool", (x + 1e4).astype(np.float32), np.ones((1, 20)), np.ones((1, 20)))
    np.testing.assert_allclose(shifted.var, x.var((1, 2, 3)), rtol=2e-3)  # a float32 near 1e4 is known to 5e-4


@pytest.mark.parametrize("shape", [(1, 9, 6, 6, 5), (9, 2, 5, 5, 20)])
def test_threads_do_not_change_a_bit(shape, monkeypatch):
    monkeypatch.setattr("minimeta_kernels.launch.SMALL", 0)
    rng = np.random.default_rng(0)
    channels = (shape[0], shape[-1])
    block = (rng.normal(size=shape), rng.normal(size=channels), rng.normal(size=channels))
    arrays = first(*block, rng)
    u = tuple(rng.normal(size=a.shape) for a in block)
    for name, inputs in (
        ("norm_relu_pool", block), ("norm_relu_pool_vjp", arrays), ("norm_relu_pool_vjp2", (u, *arrays))
    ):  # fmt: skip
        found = []
        for threads in ("1", "2", "3"):
            monkeypatch.setenv("MINIMETA_NUM_THREADS", threads)
            found.append(minimeta_kernels.call(name, *inputs))
        for again in found[1:]:
            for a, b in zip(again, found[0], strict=True):
                np.testing.assert_array_equal(a, b)
