"""Winograd's convolution against the reference convolution, its own adjoints, and itself on other threads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minimeta_kernels.reference import convolution as reference

pytest.importorskip("numba")
from minimeta_kernels.numba_cpu import winograd

ONES = ((1, 1), (1, 1))
TOLERANCE = {np.float64: 1e-11, np.float32: 2e-5}

pads = st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2)
sizes = st.integers(3, 9)
channels = st.integers(1, 40)
problems = st.tuples(st.integers(1, 9), st.integers(0, 3), sizes, sizes, channels, channels, pads)


def draw(problem, dtype):
    """x, w, and a cotangent of the result, with the pads."""
    tasks, images, height, width, inputs, outputs, pads = problem
    rng = np.random.default_rng(0)
    x = rng.normal(size=(tasks, images, height, width, inputs)).astype(dtype)
    w = rng.normal(size=(tasks, 3, 3, inputs, outputs)).astype(dtype)
    shape = (*reference.output_shape(x.shape, (3, 3), (1, 1), pads), outputs)
    return x, w, rng.normal(size=shape).astype(dtype), pads


def three(x, w, g, pads):
    """The convolution and its two gradients."""
    size = x.shape[2:4]
    return winograd.conv(x, w, pads), winograd.conv_data(g, w, pads, size), winograd.conv_weight(x, g, pads)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@given(problem=problems)
@example(problem=(1, 1, 3, 3, 1, 1, ((0, 0), (0, 0))))  # a single tile, half outside
@example(problem=(2, 0, 5, 5, 3, 4, ONES))
@example(problem=(0, 2, 5, 5, 3, 4, ONES))
@example(problem=(2, 1, 4, 6, 16, 64, ((2, 0), (1, 2))))  # whole vectors, pads that differ
@example(problem=(1, 7, 14, 14, 33, 70, ONES))  # several parts and chunks, cut within an image
@example(problem=(8, 3, 14, 13, 32, 65, ONES))  # a task's gradient in one part, of several chunks
@settings(max_examples=12)
def test_agrees_with_the_reference(dtype, problem):
    x, w, g, pads = draw(problem, dtype)
    options = {"stride": (1, 1), "pads": pads}
    wide = [a.astype(np.float64) for a in (x, w, g)]
    expected = (
        reference.conv(wide[0], wide[1], **options),
        reference.conv_data(wide[2], wide[1], **options, size=x.shape[2:4]),
        reference.conv_weight(wide[0], wide[2], **options, kernel=(3, 3)),
    )
    for found, right in zip(three(x, w, g, pads), expected, strict=True):
        assert found.dtype == dtype
        assert found.shape == right.shape
        scale = np.max(np.abs(right), initial=0)
        np.testing.assert_allclose(found, right, rtol=0, atol=TOLERANCE[dtype] * scale)


@given(problem=problems)
@settings(max_examples=15)
def test_gradients_are_adjoint(problem):
    x, w, g, pads = draw(problem, np.float64)
    y, gx, gw = three(x, w, g, pads)
    scale = 1e-12 * np.linalg.norm(y) * np.linalg.norm(g)
    np.testing.assert_allclose([np.vdot(x, gx), np.vdot(w, gw)], np.vdot(y, g), rtol=0, atol=scale + 1e-300)


@pytest.mark.parametrize("tasks", [1, 9])
def test_same_bits_on_any_number_of_threads(monkeypatch, tasks):
    x, w, g, pads = draw((tasks, 4, 15, 14, 33, 48, ONES), np.float32)
    found = []
    for threads in ("1", "2", "3"):
        monkeypatch.setenv("MINIMETA_NUM_THREADS", threads)
        found.append(three(x, w, g, pads))
    for again in found[1:]:
        for a, b in zip(again, found[0], strict=True):
            np.testing.assert_array_equal(a, b)


def test_pays_for_many_channels_and_little_waste():
    assert all(winograd.pays(5, n, n, 64, 64) for n in (4, 5, 7, 14, 28))
    assert winograd.pays(5, 14, 14, 32, 32)
    assert not winograd.pays(5, 28, 28, 1, 64)
    assert not winograd.pays(5, 14, 14, 8, 8)
    assert not winograd.pays(5, 3, 3, 64, 64)
    assert not winograd.pays(5, 0, 3, 64, 64)
