"""Means, sums and log-sums by class against loops: classes of unequal size, in any order."""

from __future__ import annotations

import numpy as np
import pytest

from minimeta import ops
from minimeta.autodiff import grad
from minimeta.learners.metric_based import labels
from tests.learners import plain


def support(seed):
    """Features [T, S, 2, 3], scores [T, Q, S], labels and n_way."""
    rng = np.random.default_rng(seed)
    way, extra = rng.integers(1, 5), rng.integers(0, 6)
    ys = np.stack([rng.permutation([*range(way), *rng.integers(0, way, extra)]) for _ in range(2)])
    return rng.standard_normal((2, way + extra, 2, 3)), rng.standard_normal((2, 4, way + extra)), ys, int(way)


@plain.drawn(100)
def test_sums_and_means_equal_loops(seed):
    features, _, ys, way = support(seed)
    expected = [[features[t, ys[t] == n] for n in range(way)] for t in range(2)]
    totals = [[of.sum(0) for of in task] for task in expected]
    means = [[of.mean(0).ravel() for of in task] for task in expected]
    np.testing.assert_allclose(labels.sum_by_class(features, ys, way), totals, atol=1e-12)
    np.testing.assert_allclose(labels.mean_by_class(features.reshape(2, -1, 6), ys, way), means, atol=1e-12)


@plain.drawn(100)
def test_scores_by_class_keep_the_order_of_the_examples_and_are_filled_up(seed):
    _, scores, ys, way = support(seed)
    found = labels.by_class(scores, ys, way, missing=-7.0)
    most = max(np.bincount(task).max() for task in ys)
    assert found.shape == (2, 4, way, most)
    for t, q, n in np.ndindex(2, 4, way):
        of = scores[t, q, ys[t] == n]
        np.testing.assert_array_equal(found[t, q, n], [*of, *[-7.0] * (most - len(of))])


@plain.drawn(100)
def test_log_sums_equal_loops(seed):
    _, scores, ys, way = support(seed)
    found = labels.log_sum_by_class(scores, ys, way)
    for t, q, n in np.ndindex(2, 4, way):
        np.testing.assert_allclose(found[t, q, n], np.log(np.exp(scores[t, q, ys[t] == n]).sum()), atol=1e-12)


def test_log_sums_do_not_overflow_and_fillers_weigh_nothing():
    scores, ys = np.array([[[900.0, 900.0, -900.0]]]), np.array([[1, 1, 0]])
    np.testing.assert_allclose(labels.log_sum_by_class(scores, ys, 2), [[[-900, 900 + np.log(2)]]], rtol=1e-15)
    gradient = grad(lambda s: ops.sum(labels.log_sum_by_class(s, ys, 2)))(scores)
    np.testing.assert_allclose(gradient, [[[0.5, 0.5, 1.0]]], rtol=1e-12)


@pytest.mark.parametrize("of", [labels.members, lambda ys, way: labels.mean_by_class(np.zeros((2, 3, 4)), ys, way)])
def test_a_class_without_examples_is_named(of):
    with pytest.raises(ValueError, match="class 2 of task 1 has no support example"):
        of(np.array([[0, 1, 2], [0, 1, 1]]), 3)


def test_labels_out_of_range_are_named():
    with pytest.raises(ValueError, match="label 3 is out of range; need 0 <= label < 3"):
        labels.members(np.array([[0, 1, 2, 3]]), 3)


def test_small_integer_labels_do_not_overflow():
    """50 classes of 10: their places, up to 499, are none that a label's own dtype need hold."""
    ys = np.repeat(np.arange(50, dtype=np.uint8), 10)[None]
    scores = np.arange(500.0)[None, None]
    np.testing.assert_array_equal(labels.by_class(scores, ys, 50, 0.0).ravel(), scores.ravel())
