"""The LSTM cell: its reference against differences, every implementation against the reference."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minimeta_kernels
from minimeta_kernels import launch
from tests.autodiff.numeric import close, derivative, dot
from tests.kernels import compare

few = settings(max_examples=10, deadline=None, database=None, derandomize=True)
each_backend = pytest.mark.parametrize("backend", minimeta_kernels.table()["lstm_cell"])


def call(backend, name, *arrays):
    with minimeta_kernels.use(backend):
        return minimeta_kernels.call(name, *arrays)


def problem(*shape, scale=2.0, seed=0):
    """Cotangents of h and c', gates and c."""
    rng = np.random.default_rng(seed)
    g_h, g_c, c = rng.normal(size=(3, *shape))
    return g_h, g_c, scale * rng.normal(size=(*shape[:-1], 4 * shape[-1])), c


@few
@given(st.lists(st.integers(0, 3), max_size=2), st.sampled_from([0, 1, 5, 16, 67]), st.sampled_from([1e-4, 1.0, 50.0]))
def test_implementations_agree(batch, size, scale):
    arrays = problem(*batch, size, scale=scale)
    for name, inputs in (("lstm_cell", arrays[2:]), ("lstm_cell_vjp", arrays)):
        expected = call("reference", name, *inputs)
        for backend in minimeta_kernels.table()[name]:
            for dtype, rtol in ((np.float64, 1e-12), (np.float32, 1e-5)):
                for arrange in compare.LAYOUTS:
                    laid = (arrange(a.astype(dtype)) for a in inputs)
                    for a, b in zip(call(backend, name, *laid), expected, strict=True):
                        assert a.dtype == dtype
                        close(a, b, rtol)


@each_backend
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_small_and_large_activations_keep_their_digits(backend, dtype):
    """To a few units in the last place: c' = i u with a forgotten cell; i over the whole range, u around 0."""
    x = np.concatenate([np.linspace(-80, 80, 999), np.logspace(-30, 0, 999), -np.logspace(-30, 0, 999)])
    x = x.astype(dtype)
    ones = np.ones_like(x)
    wide = x.astype(np.longdouble)
    # u = tanh(20) = 1 to the last place and c = 0
    _, i = call(backend, "lstm_cell", np.concatenate([x, ones, ones, 20 * ones]), 0 * x)
    np.testing.assert_allclose(i, 1 / (1 + np.exp(-wide)), rtol=8 * np.finfo(dtype).eps)
    # i = sigmoid(40) = 1 to the last place
    _, u = call(backend, "lstm_cell", np.concatenate([40 * ones, ones, ones, x]), 0 * x)
    np.testing.assert_allclose(u, np.tanh(wide), rtol=8 * np.finfo(dtype).eps)


@each_backend
def test_infinite_gates_are_open_or_closed_and_nan_stays(backend):
    inf, nan = np.inf, np.nan
    gates = np.array([inf, -inf, inf, 0.5, -inf, inf, inf, 0.5, nan, 0, 0, 0]).reshape(3, 4)
    h, c = call(backend, "lstm_cell", gates, np.full((3, 1), 0.25))
    np.testing.assert_allclose(c, [[np.tanh(0.5)], [0.25], [nan]], rtol=1e-14)
    np.testing.assert_allclose(h, np.tanh(c), rtol=1e-14)


def test_derivative_matches_differences():
    g_h, g_c, gates, c = problem(2, 3, 5)
    gradients = call("reference", "lstm_cell_vjp", g_h, g_c, gates, c)
    rng = np.random.default_rng(1)
    for i, gradient in enumerate(gradients):
        direction = tuple(rng.normal(size=a.shape) * (k == i) for k, a in enumerate((gates, c)))
        moved = derivative(lambda at: call("reference", "lstm_cell", *at), (gates, c), direction)
        np.testing.assert_allclose(dot(gradient, direction[i]), dot((g_h, g_c), moved), rtol=1e-8)


@each_backend
def test_missing_cotangents_are_zero(backend):
    g_h, g_c, gates, c = problem(3, 5)
    for missing, zero in (((None, g_c), (0 * g_h, g_c)), ((g_h, None), (g_h, 0 * g_c))):
        found = call(backend, "lstm_cell_vjp", *missing, gates, c)
        close(found, call(backend, "lstm_cell_vjp", *zero, gates, c), 0)


@each_backend
def test_same_bits_on_any_number_of_threads(backend, monkeypatch):
    monkeypatch.setattr(launch, "SMALL", 0)
    arrays = problem(7, 21)
    for name, inputs in (("lstm_cell", arrays[2:]), ("lstm_cell_vjp", arrays)):
        found = []
        for threads in "123":
            monkeypatch.setenv("MINIMETA_NUM_THREADS", threads)
            found.append(call(backend, name, *(a.astype(np.float32) for a in inputs)))
        close(found[1:], [found[0]] * 2, 0)
