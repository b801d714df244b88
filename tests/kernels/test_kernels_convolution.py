"""Convolution kernels: every implementation against the definition, their adjointness, and the same bits every time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minimeta_kernels
from minimeta.ops.record import RECORDS
from tests.kernels import compare

few = settings(max_examples=25, deadline=None)


@st.composite
def convolutions(draw):
    """x, w and the options of one convolution: sizes from none to more than a tile, any stride, uneven padding."""
    integer = lambda low, high: draw(st.integers(low, high))  # noqa: E731
    kernel = (integer(1, 3), integer(1, 3))
    stride = (integer(1, 3), integer(1, 3))
    pads = ((integer(0, 2), integer(0, 2)), (integer(0, 2), integer(0, 2)))
    size = tuple(max(integer(1, 9), k - sum(p)) for k, p in zip(kernel, pads, strict=True))
    channels, outputs = draw(st.sampled_from([1, 2, 3, 17])), draw(st.sampled_from([1, 3, 16, 33, 65]))
    rng = np.random.default_rng(integer(0, 1000))
    tasks = draw(st.sampled_from([1, 2, 9]))
    x = rng.normal(size=(tasks, integer(0, 4), *size, channels))
    return x, rng.normal(size=(tasks, *kernel, channels, outputs)), {"stride": stride, "pads": pads}


def convolve(x, w, stride, pads):
    """The definition, one output pixel at a time: what the operation itself is held to."""
    return RECORDS["conv2d"].reference(x, w, stride, pads)


def three(x, w, options):
    """The three kernels with arguments, on a random cotangent."""
    with minimeta_kernels.use("reference"):
        g = np.random.default_rng(1).normal(size=minimeta_kernels.call("conv", x, w, **options).shape)
    return {
        "conv": ((x, w), options),
        "conv_data": ((g, w), {**options, "size": x.shape[2:4]}),
        "conv_weight": ((x, g), {**options, "kernel": w.shape[1:3]}),
    }


@few
@given(convolutions())
def test_reference_is_the_definition(case):
    x, w, options = case
    with minimeta_kernels.use("reference"):
        y = minimeta_kernels.call("conv", x, w, **options)
    np.testing.assert_allclose(y, convolve(x, w, **options), atol=1e-12)


@few
@given(convolutions())
def test_gradients_are_the_adjoints(case):
    """<g, conv(x, w)> = <conv_data(g, w), x> = <conv_weight(x, g), w>, whichever implementation runs."""
    x, w, options = case
    kernels = three(x, w, options)
    g = kernels["conv_data"][0][0]
    y, gx, gw = (minimeta_kernels.call(name, *arrays, **more) for name, (arrays, more) in kernels.items())
    assert gx.shape == x.shape
    assert gw.shape == w.shape
    expected = np.sum(g * y)
    np.testing.assert_allclose([np.sum(gx * x), np.sum(gw * w)], expected, atol=1e-9 * (1 + np.abs(g * y).sum()))


@few
@given(convolutions())
def test_implementations_agree(case):
    for name, (arrays, options) in three(*case).items():
        compare.agree(name, arrays, options, rtol32=2e-5)


@pytest.mark.parametrize("shape", [(1, 9, 6, 7, 3), (9, 2, 5, 5, 2)])
def test_threads_do_not_change_a_bit(shape, monkeypatch):
    monkeypatch.setattr("minimeta_kernels.launch.SMALL", 0)
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=shape), rng.normal(size=(shape[0], 3, 3, shape[-1], 20))
    for name, (arrays, options) in three(x, w, {"stride": (1, 1), "pads": ((1, 1), (1, 1))}).items():
        compare.repeatable(name, arrays, options, monkeypatch)


def test_large_images_are_worked_on_in_chunks():
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(1, 5, 40, 40, 20)), rng.normal(size=(1, 3, 3, 20, 4))
    options = {"stride": (1, 1), "pads": ((1, 1), (1, 1))}
    np.testing.assert_allclose(minimeta_kernels.call("conv", x, w, **options), convolve(x, w, **options), atol=1e-10)
