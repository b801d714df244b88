"""Matching networks without context: attention over all examples, its floor, and its gradient by differences."""

from __future__ import annotations

import numpy as np
import pytest

from minimeta import ops
from minimeta.learners import make
from minimeta.learners.metric_based.similarity import SIMILARITIES
from minimeta.testing import check_learner
from tests.learners import plain


def plain_loss(similarity, temperature):
    """One softmax over all examples; the shares of a class's examples add up to its probability."""

    def loss(params, xs, ys, xq, yq, n_way):
        sharpness = np.exp(params["log_temperature"]) if temperature is None else temperature
        support, queries = plain.embed_both(params, xs, xq)
        chances = []
        for query, label in zip(queries, yq, strict=True):
            scores = [sharpness * plain.SIMILARITIES[similarity](query, example) for example in support]
            chances.append(plain.votes(plain.softmax(scores), ys, n_way)[label])
        return -np.log(chances).mean()

    return loss


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_keeps_every_promise_of_a_learner(similarity):
    check_learner(make("matching", **plain.SMALL, similarity=similarity, learn_temperature=False), size=8)


@pytest.mark.parametrize("temperature", [None, 3.0], ids=["learned", "fixed"])
@pytest.mark.parametrize("similarity", SIMILARITIES)
@plain.drawn(5)
def test_meta_gradient_equals_an_independent_loop(similarity, temperature, seed):
    rng = np.random.default_rng(seed)
    learned = temperature is None
    learner = make(
        "matching", **plain.SMALL, similarity=similarity, temperature=temperature or 2.0, learn_temperature=learned
    )
    params = plain.weights(learner, rng)
    assert ("log_temperature" in params) == learned
    plain.check_meta_gradient(learner, params, plain.episode(rng), plain_loss(similarity, temperature))


def test_the_learned_temperature_starts_where_it_is_told():
    params = make("matching", temperature=7.0).init(np.random.default_rng(0))
    np.testing.assert_allclose(np.exp(params["log_temperature"]), 7.0, rtol=1e-6)


@plain.drawn(50)
def test_shots_add_probabilities_not_cosines(seed):
    """Ravi and Larochelle's code adds up cosines by class; with more than one shot that is another classifier."""
    rng = np.random.default_rng(seed)
    learner, episode = make("matching", blocks=0, size=2, temperature=4.0), plain.episode(rng, extra=3, size=2)
    scores = plain.logits(learner, plain.weights(learner, rng) | {"log_temperature": np.log(4.0)}, episode)
    for xs, ys, xq, found in zip(episode.xs, episode.ys, episode.xq, ops.softmax(scores), strict=True):
        for query, chances in zip(xq, found, strict=True):
            cosines = [plain.SIMILARITIES["cosine"](query.ravel(), x.ravel()) for x in xs]
            expected = plain.votes(plain.softmax(4.0 * np.array(cosines)), ys, 3)
            np.testing.assert_allclose(chances, expected, rtol=0, atol=1e-12)


@plain.drawn(10)
def test_the_order_of_support_and_queries_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    learner, episode = make("matching", **plain.SMALL), plain.episode(rng)
    params, support, queries = plain.weights(learner, rng), rng.permutation(5), rng.permutation(3)
    scores = plain.logits(learner, params, episode)
    shuffled = episode._replace(xs=episode.xs[:, support], ys=episode.ys[:, support], xq=episode.xq[:, queries])
    np.testing.assert_allclose(plain.logits(learner, params, shuffled), scores[:, queries], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("way", "floor"), [(5, 0.905), (20, 2.078)])
@plain.drawn(20)
def test_cosines_of_relu_features_leave_a_floor_under_the_loss(way, floor, seed):
    """At temperature 1 the best is cosine 1 with the class and 0 with others, which one-hot features reach."""
    assert np.log(1 + (way - 1) / np.e) == pytest.approx(floor, abs=5e-4)
    learner = make("matching", blocks=0, temperature=1.0, learn_temperature=False)

    def loss(features, labels):
        state = learner.adapt({"net": {}, "running": {}}, features, np.arange(way)[None], way)
        return ops.cross_entropy(learner.predict({"net": {}}, state, features[:, labels[0]]), labels)

    rng = np.random.default_rng(seed)
    labels = rng.integers(0, way, (1, 4))
    # sparse, so that some draws come close; a query is its class's example itself
    features = rng.exponential(size=(1, way, 30)) * (rng.random((1, way, 30)) < 0.2) + 1e-3
    assert loss(features, labels) > np.log(1 + (way - 1) / np.e)
    assert loss(np.eye(way)[None], labels) == pytest.approx(np.log(1 + (way - 1) / np.e), rel=1e-12)


def test_unknown_settings_are_named():
    with pytest.raises(ValueError, match="Matching: similarity='dot'; choose from sqeuclidean, euclidean, l1, cosine"):
        make("matching", similarity="dot")
    with pytest.raises(ValueError, match=r"Matching: temperature=0\.0; need a finite temperature > 0"):
        make("matching", temperature=0.0)
