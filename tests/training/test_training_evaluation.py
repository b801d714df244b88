"""Evaluation: against an independent loop, ties, chunking, intervals."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from linear_run import Linear, episodes

from minimeta import evaluation
from minimeta.data import Episode, SinusoidSampler
from minimeta.evaluation import OnDevice, Result, evaluate, half_interval, scores, t_quantile

PARAMS = Linear().init(np.random.default_rng(0))


class Scores(NamedTuple):
    """A learner that looks up given scores instead of looking at images: xq holds them."""

    def adapt(self, params, xs, ys, n_way):
        return None

    def predict(self, params, state, xq):
        return xq


class Fixed(NamedTuple):
    """Episodes whose query "images" are the scores themselves."""

    logits: np.ndarray
    labels: np.ndarray

    def batch(self, first, tasks):
        part = slice(first, first + tasks)
        xq, yq = self.logits[part], self.labels[part]
        return Episode(xq[:, :1], yq[:, :1], xq, yq, self.logits.shape[-1])


def test_mean_and_interval_are_those_of_a_loop_over_single_episodes():
    sampler, shares = episodes("test"), []
    for i in range(40):
        xs, ys, xq, yq, _ = sampler.batch(i, 1)
        w = PARAMS["net"]["w"]
        support, queries = xs[0].reshape(10, -1) @ w, xq[0].reshape(20, -1) @ w
        hits = 0
        for query, label in zip(queries, yq[0], strict=True):
            distances = [np.sum((query - support[ys[0] == c].mean(axis=0)) ** 2) for c in range(5)]
            hits += int(np.argmin(distances)) == label
        shares.append(hits / 20)
    result = evaluate(Linear(), PARAMS, sampler, 40)
    assert result.mean == pytest.approx(np.mean(shares))
    assert result.ci95 == pytest.approx(2.022691 * np.std(shares, ddof=1) / np.sqrt(40))  # a table's t, 39 degrees
    assert (result.metric, result.episodes, result.bn_mode) == ("accuracy", 40, "running")
    metric, values = scores(Linear(), PARAMS, sampler, 40)
    np.testing.assert_allclose(values, shares)
    assert Result.of(metric, values, Linear()) == result


@given(st.integers(1, 25))
def test_the_batch_changes_nothing(batch):
    assert evaluate(Linear(), PARAMS, episodes("test"), 20, batch=batch) == evaluate(
        Linear(), PARAMS, episodes("test"), 20
    )


def test_the_seed_decides():
    first, again, other = (evaluate(Linear(), PARAMS, episodes("test", seed=s), 30) for s in (1, 1, 2))
    assert first == again != other


@given(st.integers(2, 9), st.integers(0, 2**32), st.floats(-5, 5))
def test_constant_scores_give_one_in_n_whatever_the_labels(ways, seed, score):
    labels = np.random.default_rng(seed).integers(ways, size=(6, 7))
    assert evaluate(Scores(), {}, Fixed(np.full((6, 7, ways), score), labels), 6).mean == pytest.approx(1 / ways)
    always_first = Fixed(np.full((6, 7, ways), score), np.zeros_like(labels))
    assert evaluate(Scores(), {}, always_first, 6).mean == pytest.approx(1 / ways)


@given(st.integers(0, 2**32))
def test_relabelling_the_classes_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    logits, labels = rng.integers(0, 3, (4, 6, 5)).astype(float), rng.integers(5, size=(4, 6))
    order = rng.permutation(5)
    relabelled = evaluation.accuracy(logits[..., order], np.argsort(order)[labels])
    np.testing.assert_allclose(relabelled, evaluation.accuracy(logits, labels))


def test_right_and_wrong_scores():
    labels = np.arange(3)[None].repeat(2, axis=0)
    right = np.eye(3)[labels]
    assert evaluate(Scores(), {}, Fixed(right, labels), 2).mean == 1
    assert evaluate(Scores(), {}, Fixed(-right, labels), 2).mean == 0


def test_minus_infinity_is_a_score_and_nan_is_an_error():
    labels = np.zeros((2, 1), int)
    logits = np.array([[[0.0, -np.inf]], [[0.0, -np.inf]]])
    assert evaluate(Scores(), {}, Fixed(logits, labels), 2).mean == 1
    logits[1, 0, 1] = np.nan
    with pytest.raises(ValueError, match=r"predictions in episodes 1\.\.1 are NaN"):
        evaluate(Scores(), {}, Fixed(logits, labels), 2, batch=1)


class Zero(NamedTuple):
    def adapt(self, params, xs, ys, n_way):
        return None

    def predict(self, params, state, xq):
        return np.zeros_like(xq)


def test_regression_is_measured_by_mean_squared_error():
    sampler = SinusoidSampler(shot=5, query=10, seed=3)
    result = evaluate(Zero(), {}, sampler, 50, batch=7)
    expected = (sampler.batch(0, 50).yq.astype(float) ** 2).mean()
    assert result.metric == "mse"
    assert result.mean == pytest.approx(expected, rel=1e-6)
    assert result.record() == {"mse": result.mean, "ci95": result.ci95, "episodes": 50, "bn_mode": None}
    assert str(result).startswith("mse ")


def test_better_means_more_accuracy_and_less_error():
    assert Result("accuracy", 0.9, 0, 2).improves_on(None)
    assert Result("accuracy", 0.9, 0, 2).improves_on(0.8)
    assert not Result("accuracy", 0.9, 0, 2).improves_on(0.9)
    assert Result("mse", 0.9, 0, 2).improves_on(1.0)
    assert not Result("mse", 0.9, 0, 2).improves_on(0.9)


@pytest.mark.parametrize(("degrees", "t"), [(1, 12.7062047), (2, 4.3026527), (10, 2.2281389), (120, 1.9799304)])
def test_quantiles_of_student_are_those_of_a_printed_table(degrees, t):
    assert t_quantile(degrees) == pytest.approx(t, abs=1e-7)


@given(st.integers(1, 10**5) | st.integers(1, 100))
def test_quantiles_of_student_are_scipy_s(degrees):
    stats = pytest.importorskip("scipy.stats", reason="the reference is SciPy's")
    assert t_quantile(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), abs=1e-8)


def test_two_values_have_an_interval_and_one_has_none():
    assert half_interval(np.array([0.0, 1.0])) == pytest.approx(12.7062047 / 2)
    with pytest.raises(ValueError, match="episodes=1; an interval needs at least 2"):
        half_interval(np.array([1.0]))


@pytest.mark.parametrize("count", [3, 100])
def test_the_interval_covers_the_truth_about_95_times_in_100(count):
    rng = np.random.default_rng(0)
    draws = rng.normal(0.7, 0.1, (4000, count))
    covered = [abs(values.mean() - 0.7) <= half_interval(values) for values in draws]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)


def test_the_interval_of_queries_won_covers_the_truth_about_95_times_in_100():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        truth = 0.7
        labels = np.zeros((100, 10), int)
        logits = np.stack([rng.random((100, 10)) < truth, np.full((100, 10), 0.5)], axis=-1).astype(float)
        result = evaluate(Scores(), {}, Fixed(logits, labels), 100, batch=100)
        covered += abs(result.mean - truth) <= result.ci95
    assert 0.91 < covered / 400 < 0.98


@pytest.mark.parametrize(
    ("count", "batch", "message"), [(1, None, "episodes=1; an interval needs at least 2"), (2, 0, "batch=0")]
)
def test_errors(count, batch, message):
    with pytest.raises(ValueError, match=message):
        evaluate(Linear(), PARAMS, episodes("test"), count, batch=batch)


def test_report_hears_of_every_batch():
    heard = []
    evaluate(Linear(), PARAMS, episodes("test"), 7, batch=3, report=heard.append)
    assert heard == [3, 6, 7]


def test_episodes_keep_their_content_on_the_host():
    original, moved = episodes("test").batch(2, 3), OnDevice(episodes("test"), "numpy").batch(2, 3)
    assert moved.n_way == 5
    for a, b in zip(original[:4], moved[:4], strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="unknown device 'tpu'"):
        OnDevice(episodes("test"), "tpu")
