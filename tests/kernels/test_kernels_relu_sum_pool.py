"""Pooling of two ReLUs' sum: its reference against differences, every implementation against the reference."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minimeta_kernels
from minimeta_kernels import launch
from tests.kernels import compare

few = settings(max_examples=15, deadline=None, database=None, derandomize=True)
sides = st.integers(1, 6)
backends = pytest.mark.parametrize("backend", minimeta_kernels.table()["relu_sum_pool"])


def images(*shape, seed=0, round_to=None):
    """Two of the shape; rounded, many sums are equal or zero."""
    rng = np.random.default_rng(seed)
    pair = rng.normal(size=(2, *shape))
    return tuple(pair if round_to is None else np.round(pair / round_to) * round_to)


def call(backend, name, *arrays):
    with minimeta_kernels.use(backend):
        return minimeta_kernels.call(name, *arrays)


@few
@given(st.tuples(st.integers(0, 3), sides, sides, st.integers(1, 37)), st.sampled_from([None, 1]))
def test_implementations_agree(shape, round_to):
    compare.agree("relu_sum_pool", images(*shape, round_to=round_to))


@pytest.mark.parametrize("shape", [(2, 4, 6, 3), (1, 5, 3, 2), (1, 1, 1, 1), (1, 1, 4, 1), (1, 4, 1, 1)])
def test_derivative_matches_differences(shape):
    compare.differentiable("relu_sum_pool", images(*shape))


def test_same_bits_on_any_number_of_threads(monkeypatch):
    monkeypatch.setattr(launch, "SMALL", 0)
    compare.repeatable("relu_sum_pool", images(5, 7, 8, 9), monkeypatch=monkeypatch)


@backends
def test_a_window_that_the_edge_cuts_off(backend):
    x = np.arange(1.0, 10).reshape(1, 3, 3, 1)
    np.testing.assert_array_equal(call(backend, "relu_sum_pool", x, x)[0, ..., 0], [[10, 12], [16, 18]])
    to_x1, to_x2 = call(backend, "relu_sum_pool_vjp", np.arange(1.0, 5).reshape(1, 2, 2, 1), x, -x)
    np.testing.assert_array_equal(to_x1[0, ..., 0], [[0, 0, 0], [0, 1, 2], [0, 3, 4]])
    assert not to_x2.any()


@backends
def test_of_equals_the_first_has_the_gradient_and_at_zero_none(backend):
    ones = np.ones((1, 3, 3, 1))
    g = np.arange(1.0, 5).reshape(1, 2, 2, 1)
    for to in call(backend, "relu_sum_pool_vjp", g, ones, ones):
        np.testing.assert_array_equal(to[0, ..., 0], [[1, 0, 2], [0, 0, 0], [3, 0, 4]])
    for to in call(backend, "relu_sum_pool_vjp", g, 0 * ones, -ones):
        assert not to.any()


@backends
@pytest.mark.parametrize("at", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_nan_stays_in_its_window(backend, at):
    x1, x2 = images(1, 4, 4, 20)
    expected = call(backend, "relu_sum_pool", x1, x2)
    x2[0, at[0], at[1]] = np.nan
    found = call(backend, "relu_sum_pool", x1, x2)
    assert np.isnan(found[0, 0, 0]).all()
    np.testing.assert_array_equal(found.reshape(4, 20)[1:], expected.reshape(4, 20)[1:])
