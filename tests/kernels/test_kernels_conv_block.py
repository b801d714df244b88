"""The first block in one kernel: the two kernels it is made of, one after the other, are its reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minimeta_kernels
from minimeta import grad, ops
from tests.autodiff.numeric import close
from tests.kernels import compare

few = settings(max_examples=20, deadline=None)


@st.composite
def blocks(draw):
    """Images, weights of each task or of all, gamma and beta; numbers that float32 holds."""
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    tasks, channels, outputs = (draw(st.sampled_from(s)) for s in ([1, 2, 9], [1, 3], [1, 16, 19]))
    x = rng.normal(size=(tasks, draw(st.integers(1, 4)), draw(st.integers(2, 7)), draw(st.integers(2, 7)), channels))
    w = rng.normal(size=(draw(st.sampled_from([1, tasks])), 3, 3, channels, outputs))
    block = (x, w, rng.normal(size=(tasks, outputs)), rng.normal(size=(tasks, outputs)))
    return tuple(a.astype(np.float32).astype(np.float64) for a in block)


@few
@given(blocks())
def test_implementations_agree(block):
    with minimeta_kernels.use("reference"):
        pooled, *saved = minimeta_kernels.call("conv_block", *block)
        arrays = (np.random.default_rng(0).normal(size=pooled.shape), *saved, *block)
        gradients = minimeta_kernels.call("conv_block_vjp", *arrays)
    for backend in minimeta_kernels.table()["conv_block"]:
        with minimeta_kernels.use(backend):
            close(tuple(minimeta_kernels.call("conv_block", *block)), (pooled, *saved), 1e-11)
            close(minimeta_kernels.call("conv_block_vjp", *arrays), gradients, 1e-10)
            for arrange in compare.LAYOUTS:
                single = compare.leaves(block, lambda a, arrange=arrange: arrange(a.astype(np.float32)))
                found = minimeta_kernels.call("conv_block", *single)
                assert found.pooled.dtype == np.float32
                close(tuple(found), (pooled, *saved), 5e-5)


@pytest.mark.parametrize("tasks", [1, 9])
def test_threads_do_not_change_a_bit(tasks, monkeypatch):
    monkeypatch.setattr("minimeta_kernels.launch.SMALL", 0)
    rng = np.random.default_rng(0)
    block = [rng.normal(size=s) for s in ((tasks, 9, 6, 6, 1), (1, 3, 3, 1, 20), (tasks, 20), (tasks, 20))]
    found = []
    for threads in ("1", "2", "3"):
        monkeypatch.setenv("MINIMETA_NUM_THREADS", threads)
        pooled, *saved = minimeta_kernels.call("conv_block", *block)
        found.append((pooled, *minimeta_kernels.call("conv_block_vjp", np.cos(pooled), *saved, *block)))
    for again in found[1:]:
        for a, b in zip(again, found[0], strict=True):
            np.testing.assert_array_equal(a, b)


def test_images_that_are_differentiated_take_the_two_operations_way():
    """As an adversary does: the gradient by the pixels is there, and is that of the composite."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(1, 3, 6, 6, 1)), rng.normal(size=(3, 3, 1, 4))
    gamma, beta = rng.normal(size=4), rng.normal(size=4)
    scale = rng.normal(size=(1, 3, 3, 3, 4))

    def by_pixels(block):
        return grad(lambda x: (block(x) * scale).sum())(x)

    two = by_pixels(lambda x: ops.batch_norm_relu_max_pool2d(ops.conv2d(x, w, padding=1), gamma, beta)[0])
    one = by_pixels(lambda x: ops.conv_block(x, w, gamma, beta)[0])
    assert np.abs(one).max() > 0
    close(one, two, 1e-12)
