"""The last state of an LSTM: the chain of its cells, differences, every implementation, and a vectorised tanh."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minimeta
import minimeta_kernels
from minimeta import ops
from minimeta_kernels import launch
from tests.autodiff.numeric import close
from tests.kernels import compare

each_backend = pytest.mark.parametrize("backend", minimeta_kernels.table()["lstm_last"])
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])

#: A block is 96 sequences, a span one block and, from 64 blocks on, several: blocks in one span share their buffers.
COUNTS = [0, 1, 5, 95, 96, 97, 300, 64 * 96 + 98]
#: Steps, sequences, inputs, units.
shapes = st.tuples(st.integers(1, 4), st.sampled_from(COUNTS), st.integers(1, 21), st.integers(1, 21)).map(
    lambda s: s if s[1] < 1000 else (*s[:2], min(s[2], 2), min(s[3], 3))
)


def call(backend, name, *arrays):
    with minimeta_kernels.use(backend):
        return minimeta_kernels.call(name, *arrays)


def problem(steps, count, inputs, units, scale=1.0, seed=0):
    rng = np.random.default_rng(seed)
    w, u = (rng.normal(size=(n, 4 * units)) * scale / n**0.5 for n in (inputs, units))
    return rng.normal(size=(steps, count, inputs)), w, u, rng.normal(size=4 * units)


@settings(max_examples=16)
@given(shapes)
def test_implementations_agree(shape):
    compare.agree("lstm_last", problem(*shape))


@pytest.mark.parametrize("shape", [(1, 3, 2, 2), (3, 0, 2, 1), (3, 2, 1, 3), (2, 3, 3, 1)])
def test_derivative_matches_differences(shape):
    compare.differentiable("lstm_last", problem(*shape))


@pytest.mark.parametrize("count", [300, 64 * 96 + 98])
@each_dtype
def test_same_bits_on_any_number_of_threads(count, dtype, monkeypatch):
    monkeypatch.setattr(launch, "SMALL", 0)
    compare.repeatable("lstm_last", problem(3, count, 2, 3), monkeypatch=monkeypatch, dtype=dtype)


def chain(x, w, u, b):
    """The same by the operation of a single step."""
    h = c = np.zeros((x.shape[1], u.shape[0]))
    for t in range(x.shape[0]):
        h, c = ops.lstm_cell(x[t], h, c, w, u, b)
    return h


@each_backend
@settings(max_examples=10)
@given(shape=shapes, seed=st.integers(0, 2**32))
def test_it_is_the_chain_of_cells_and_so_are_its_gradients(backend, shape, seed):
    arrays = problem(*shape, seed=seed)
    g = np.random.default_rng(seed).normal(size=(shape[1], shape[3]))
    with minimeta_kernels.use(backend):
        found, expected = (
            (last(*arrays), minimeta.grad(lambda at, last=last: (last(*at) * g).sum())(arrays))
            for last in (ops.lstm_last, chain)
        )
    np.testing.assert_allclose(found[0], expected[0], rtol=0, atol=1e-12)
    close(found[1], expected[1], 1e-12)


@each_backend
@each_dtype
@pytest.mark.parametrize("full", [96, 64 * 96 + 192])
def test_a_block_that_is_not_full_adds_nothing_to_the_gradients_of_weights(backend, dtype, full):
    """Large biases open the gates of places without a sequence, too."""
    x, w, u, b = (a.astype(dtype) for a in problem(3, full + 1, 2, 3))
    g = np.random.default_rng(1).normal(size=(full + 1, 3)).astype(dtype)
    whole, *parts = (
        call(backend, "lstm_last_vjp", g[part], x[:, part], w, u, b + 3)
        for part in (slice(None), slice(full), slice(full, None))
    )
    tolerance = 1e-5 if dtype is np.float32 else 1e-12
    close(whole[0], np.concatenate([part[0] for part in parts], axis=1), tolerance)
    for total, first, last in zip(whole[1:], *(part[1:] for part in parts), strict=True):
        close(total, first + last, tolerance)


@each_backend
@each_dtype
def test_large_activations_are_finite(backend, dtype):
    arrays = tuple(a.astype(dtype) for a in problem(4, 200, 3, 5, scale=50))
    h = call(backend, "lstm_last", *arrays)
    assert np.abs(h).max() <= 1
    assert all(np.isfinite(a).all() for a in call(backend, "lstm_last_vjp", np.ones_like(h), *arrays))
    close(h, call("reference", "lstm_last", *(a.astype(float) for a in arrays)), 1e-4)


@each_backend
@each_dtype
@pytest.mark.parametrize("count", [300, 64 * 96 + 300])
def test_nan_stays_in_its_sequence(backend, dtype, count):
    """Also where a later block of the same span goes through the same buffers."""
    x, *weights = (a.astype(dtype) for a in problem(3, count, 2, 3))
    g = np.random.default_rng(1).normal(size=(count, 3)).astype(dtype)
    broken = x.copy()
    broken[1, 5, 0] = np.nan
    others = np.arange(count) != 5
    h, expected = (call(backend, "lstm_last", at, *weights) for at in (broken, x))
    assert np.isnan(h[5]).all()
    np.testing.assert_array_equal(h[others], expected[others])
    to_x, clean = (call(backend, "lstm_last_vjp", g, at, *weights)[0] for at in (broken, x))
    assert np.isnan(to_x[:, 5]).any()
    np.testing.assert_array_equal(to_x[:, others], clean[:, others])


@each_backend
def test_arguments_keep_their_values(backend):
    arrays = problem(2, 130, 2, 3)
    g = np.ones((130, 3))
    before = [a.copy() for a in (g, *arrays)]
    call(backend, "lstm_last", *arrays)
    call(backend, "lstm_last_vjp", g, *arrays)
    close([g, *arrays], before, 0)


def test_shapes_that_do_not_fit_are_named():
    x, w, u, b = problem(2, 3, 2, 4)
    for wrong in ((x[:0], w, u, b), (x[0], w, u, b), (x, w[:1], u, b), (x, w, u[:3], b), (x, w, u, b[:4])):
        shapes = ", ".join(f"{name}.shape={a.shape}" for name, a in zip("xwub", wrong, strict=True))
        with pytest.raises(ValueError, match=re.escape(f"minimeta.lstm_last: {shapes}; need x [C, N, D]")):
            ops.lstm_last(*wrong)


@pytest.mark.skipif("numba" not in minimeta_kernels.table()["lstm_last"], reason="compiled functions need numba")
def test_tanh():
    from minimeta_kernels.numba_cpu.compiled import inlined
    from minimeta_kernels.numba_cpu.elementary import tanh

    @inlined
    def fill(x, out):
        for i in range(x.size):
            out[i] = tanh(x[i])

    def tanh_of(x):
        fill(x, out := np.empty_like(x))
        return out

    positive = np.concatenate([np.logspace(-37, 38, 20_001), np.linspace(0, 12, 20_001)]).astype(np.float32)
    found = tanh_of(positive)
    exact = np.tanh(positive.astype(np.longdouble))
    assert np.all(np.abs(found - exact) <= 4 * np.finfo(np.float32).eps * exact)
    assert found.max() == 1
    assert np.all(found[positive > 9.01] == 1)
    np.testing.assert_array_equal(tanh_of(-positive), -found)
    for dtype in (np.float32, np.float64):
        ends = tanh_of(np.array([np.inf, -np.inf, np.nan, 0], dtype))
        np.testing.assert_array_equal(ends, [1, -1, np.nan, 0])
    wide = np.linspace(-30, 30, 2001)
    np.testing.assert_allclose(tanh_of(wide), np.tanh(wide), rtol=1e-15)
