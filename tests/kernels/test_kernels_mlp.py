"""The perceptrons: their reference against differences, every implementation against the reference."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minimeta_kernels
from minimeta_kernels import launch
from tests.autodiff.numeric import close
from tests.kernels import compare

few = settings(max_examples=10, deadline=None, database=None, derandomize=True)
sizes = st.integers(1, 21)
backends = pytest.mark.parametrize("backend", minimeta_kernels.table()["mlp"])


def problem(count, inputs=2, hidden=(5, 4), outputs=1, seed=0):
    """Examples and three layers."""
    rng = np.random.default_rng(seed)
    units = (inputs, *hidden, outputs)
    layers = (rng.normal(size=shape) for pair in pairwise(units) for shape in (pair, pair[1:]))
    return rng.normal(size=(count, inputs)), *layers


def tasks(count, examples, inputs=2, hidden=(5, 4), outputs=1):
    """Examples and three layers for each of `count` tasks."""
    problems = [problem(examples, inputs, hidden, outputs, seed) for seed in range(max(count, 1))]
    return tuple(np.stack(arrays)[:count] for arrays in zip(*problems, strict=True))


def call(backend, name, *arrays):
    with minimeta_kernels.use(backend):
        return minimeta_kernels.call(name, *arrays)


@few
@given(st.sampled_from([0, 1, 95, 96, 97, 300]), sizes, st.tuples(sizes, sizes), st.integers(1, 3))
def test_implementations_agree(count, inputs, hidden, outputs):
    compare.agree("mlp", problem(count, inputs, hidden, outputs), rtol32=1e-4)


@few
@given(st.integers(0, 5), st.integers(0, 12), sizes, st.tuples(sizes, sizes), st.integers(1, 9))
def test_implementations_agree_for_each_task(count, examples, inputs, hidden, outputs):
    compare.agree("task_mlp", tasks(count, examples, inputs, hidden, outputs), rtol32=1e-4)


def test_derivatives_match_differences():
    compare.differentiable("mlp", problem(6))
    compare.differentiable("task_mlp", tasks(2, 6))


def test_each_task_is_a_perceptron_of_its_own():
    arrays = tasks(3, 7)
    for t, y in enumerate(call("reference", "task_mlp", *arrays)):
        np.testing.assert_array_equal(y, call("reference", "mlp", *(a[t] for a in arrays)))


def test_same_bits_on_any_number_of_threads(monkeypatch):
    monkeypatch.setattr(launch, "SMALL", 0)
    compare.repeatable("mlp", problem(9000), monkeypatch=monkeypatch)  # more than one block in a span
    compare.repeatable("task_mlp", tasks(9, 5), monkeypatch=monkeypatch)


@backends
def test_at_zero_a_unit_is_off(backend):
    _, *layers = problem(1)
    layers[1] = 0 * layers[1]
    to_x, to_w1, to_b1, *_ = call(backend, "mlp_vjp", np.ones((3, 1)), np.zeros((3, 2)), *layers)
    for gradient in (to_x, to_w1, to_b1):
        assert not gradient.any()


@backends
def test_at_zero_a_task_s_unit_is_off(backend):
    x, *layers = tasks(2, 3)
    layers[1] = 0 * layers[1]
    to_x, to_w1, to_b1, *_ = call(backend, "task_mlp_vjp", np.ones((2, 3, 1)), 0 * x, *layers)
    for gradient in (to_x, to_w1, to_b1):
        assert not gradient.any()


@backends
def test_nan_stays_with_its_task(backend):
    x, *layers = tasks(4, 3)
    expected = call(backend, "task_mlp", x, *layers)
    x[1, 0, 0] = np.nan
    found = call(backend, "task_mlp", x, *layers)
    assert np.isnan(found[1, 0]).all()
    np.testing.assert_array_equal(np.delete(found, 1, axis=0), np.delete(expected, 1, axis=0))


@backends
def test_examples_that_do_not_fill_a_block_add_nothing(backend):
    """A block's further examples must not show in sums over examples: 97 examples are 96 and one."""
    x, *layers = problem(97)
    g = np.random.default_rng(1).normal(size=(97, 1))
    _, *whole = call(backend, "mlp_vjp", g, x, *layers)
    parts = (call(backend, "mlp_vjp", g[part], x[part], *layers)[1:] for part in (slice(96), slice(96, 97)))
    for total, first, second in zip(whole, *parts, strict=True):
        close(total, first + second, 1e-12)


@backends
def test_nan_stays_with_its_example(backend):
    x, *layers = problem(130)
    expected = call(backend, "mlp", x, *layers)
    x[5, 0] = np.nan
    found = call(backend, "mlp", x, *layers)
    assert np.isnan(found[5]).all()
    np.testing.assert_array_equal(np.delete(found, 5, axis=0), np.delete(expected, 5, axis=0))
