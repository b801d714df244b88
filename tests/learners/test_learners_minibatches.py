"""Mini-batches: every example once per cycle, the first cycle in the given order, later ones each in another."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimeta.learners.optimization_based.minibatches import minibatches

sizes, counts = st.integers(1, 12), st.integers(0, 20)


def stream(size, batch, steps):
    """The examples one after another."""
    examples = np.arange(size)[None]
    return [int(i) for x, _ in minibatches(examples, examples, batch, steps) for i in x[0]]


@given(sizes, st.integers(1, 12), counts)
def test_every_step_gets_a_batch_or_the_whole_set(size, batch, steps):
    xs = np.random.default_rng(0).normal(size=(3, size, 2))
    ys = np.arange(3 * size).reshape(3, size)
    batches = list(minibatches(xs, ys, batch, steps))
    assert len(batches) == steps
    for x, y in batches:
        assert x.shape == (3, min(batch, size), 2)
        np.testing.assert_array_equal(x, np.take_along_axis(xs, (y % size)[..., None], axis=1))
        assert (y == y[:1] + np.arange(3)[:, None] * size).all()  # the same examples of every task
        if batch >= size:
            assert x is xs
            assert y is ys


@given(st.integers(2, 12), st.integers(1, 11), counts)
def test_every_example_comes_once_per_cycle(size, batch, steps):
    examples = iter(stream(size, min(batch, size - 1), steps))
    while cycle := list(islice(examples, size)):
        assert max(Counter(cycle).values()) == 1


@given(st.integers(2, 12), st.integers(1, 11), counts, counts)
def test_more_steps_only_add_batches(size, batch, steps, more):
    batch = min(batch, size - 1)
    longer = stream(size, batch, steps + more)
    assert stream(size, batch, steps) == longer[: steps * batch]
    assert longer[:size] == list(range(size))[: len(longer)]


def test_cycles_differ_in_order():
    cycles = {tuple(stream(10, 5, 40)[first : first + 10]) for first in range(0, 200, 10)}
    assert len(cycles) == 20


def test_a_batch_has_at_least_one_example():
    with pytest.raises(ValueError, match="minibatches: batch=0; need batch >= 1"):
        minibatches(np.zeros((1, 5)), np.zeros((1, 5)), 0, 1)
