"""The kernel classifier: nearest neighbours and class frequencies are its limits, other learners its instances."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from minimeta import ops
from minimeta.learners import make
from minimeta.learners.metric_based.kernel_classifier import KERNELS
from minimeta.testing import check_learner
from tests.learners import plain

PIXELS = {"blocks": 0, "size": 2}


def kernels(params, kernel, tau, query, support):
    """k(x, x_i) of one query [D] with all examples [S, D], by the definitions."""
    if kernel == "rbf":
        return np.array([np.exp(-((tau * np.sqrt(((query - x) ** 2).sum())) ** 2) / 2) for x in support])
    if kernel == "learned":
        alpha, b = params["same"]["alpha"][:, 0], params["same"]["b"][0]
        return np.array([plain.sigmoid(alpha @ np.abs(query - x) + b) ** tau for x in support])
    return np.array([np.exp(tau * plain.SIMILARITIES[kernel](query, x)) for x in support])


def plain_loss(kernel, tau):
    def loss(params, xs, ys, xq, yq, n_way):
        support, queries = plain.embed_both(params, xs, xq)
        chances = []
        for query, label in zip(queries, yq, strict=True):
            k = kernels(params, kernel, tau, query, support)
            chances.append(plain.votes(k / k.sum(), ys, n_way)[label])
        return -np.log(chances).mean()

    return loss


def case(seed, **hyper):
    """A learner on pixels, its parameters, and an episode of 3 classes with 7 examples."""
    rng = np.random.default_rng(seed)
    learner = make("kernel", **PIXELS, **hyper)
    return learner, plain.weights(learner, rng), plain.episode(rng, extra=4, size=2)


def each_query(episode):
    """Task, query, and the pixels and labels that go with it."""
    for t, q in np.ndindex(episode.yq.shape):
        support = episode.xs[t].reshape(len(episode.xs[t]), -1)
        yield t, q, episode.xq[t, q].ravel(), support, episode.ys[t]


@pytest.mark.parametrize("kernel", KERNELS)
def test_keeps_every_promise_of_a_learner(kernel):
    check_learner(make("kernel", size=8, filters=4, blocks=2, kernel=kernel, tau=4.0), size=8, overfit_steps=80)


def test_with_few_neighbours_it_keeps_every_promise_of_a_learner():
    check_learner(make("kernel", size=8, filters=4, blocks=2, neighbours=4), size=8)


@pytest.mark.parametrize("kernel", KERNELS)
@plain.drawn(5)
def test_meta_gradient_equals_an_independent_loop(kernel, seed):
    rng = np.random.default_rng(seed)
    learner = make("kernel", **plain.SMALL, kernel=kernel, tau=1.5)
    plain.check_meta_gradient(learner, plain.weights(learner, rng), plain.episode(rng), plain_loss(kernel, 1.5))


@pytest.mark.parametrize("kernel", KERNELS)
@plain.drawn(10)
def test_scores_are_the_logarithms_of_a_parzen_estimate(kernel, seed):
    learner, params, episode = case(seed, kernel=kernel, tau=1.5)
    found = plain.logits(learner, params, episode)
    for t, q, query, support, labels in each_query(episode):
        k = kernels(params, kernel, 1.5, query, support)
        np.testing.assert_allclose(np.exp(found[t, q]), plain.votes(k, labels, 3), rtol=1e-11)
        # the learned kernel so becomes the siamese network's p, normalised over the support
        np.testing.assert_allclose(ops.softmax(found)[t, q], plain.votes(k / k.sum(), labels, 3), rtol=1e-11)


@pytest.mark.parametrize("tau", [1e6, 1e12])
@pytest.mark.parametrize("kernel", KERNELS)
@plain.drawn(20)
def test_infinite_sharpness_is_the_nearest_neighbour(kernel, tau, seed):
    learner, params, episode = case(seed, kernel=kernel, tau=tau)
    shares = ops.softmax(plain.logits(learner, params, episode))
    for t, q, query, support, labels in each_query(episode):
        nearest = labels[kernels(params, kernel, 1.0, query, support).argmax()]
        np.testing.assert_allclose(shares[t, q], np.arange(3) == nearest, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kernel", KERNELS)
@plain.drawn(10)
def test_no_sharpness_is_the_frequencies_of_the_classes(kernel, seed):
    learner, params, episode = case(seed, kernel=kernel, tau=0.0)
    shares = ops.softmax(plain.logits(learner, params, episode))
    for t, labels in enumerate(episode.ys):
        frequencies = np.broadcast_to(np.bincount(labels) / len(labels), (3, 3))
        np.testing.assert_allclose(shares[t], frequencies, rtol=0, atol=1e-12)


@pytest.mark.parametrize("neighbours", [1, 3, 7])
@plain.drawn(20)
def test_no_sharpness_and_few_neighbours_are_their_vote(neighbours, seed):
    """Pixels in whole numbers, so that distances tie; what ties with the last neighbour votes too."""
    learner, params, episode = case(seed, kernel="l1", tau=0.0, neighbours=neighbours)
    episode = episode._replace(xs=(episode.xs * 3).round(), xq=(episode.xq * 3).round())
    shares = ops.softmax(plain.logits(learner, params, episode))
    for t, q, query, support, labels in each_query(episode):
        distances = [np.abs(query - x).sum() for x in support]
        vote = plain.votes((distances <= np.sort(distances)[neighbours - 1]).astype(float), labels, 3)
        np.testing.assert_allclose(shares[t, q], vote / vote.sum(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("tau", [2.0, 1e12])
@plain.drawn(20)
def test_only_the_neighbours_count_however_sharp_the_kernel(tau, seed):
    learner, params, episode = case(seed, kernel="sqeuclidean", tau=tau, neighbours=2)
    shares = ops.softmax(plain.logits(learner, params, episode))
    for t, q, query, support, labels in each_query(episode):
        scores = tau * np.array([plain.SIMILARITIES["sqeuclidean"](query, x) for x in support])
        near = np.argsort(scores)[-2:]
        expected = plain.votes(plain.softmax(scores[near]), labels[near], 3)
        np.testing.assert_allclose(shares[t, q], expected, rtol=1e-9, atol=1e-12)


@plain.drawn(10)
def test_matching_networks_are_an_instance(seed):
    rng = np.random.default_rng(seed)
    learner = make("matching", **plain.SMALL, temperature=1.0, learn_temperature=False)
    params, episode = plain.weights(learner, rng), plain.episode(rng)
    found = plain.logits(make("kernel", **plain.SMALL, tau=1.0), params, episode)
    np.testing.assert_allclose(found, plain.logits(learner, params, episode), rtol=0, atol=1e-12)


@plain.drawn(10)
def test_prototypical_networks_with_one_shot_are_an_instance(seed):
    rng = np.random.default_rng(seed)
    learner = make("prototypical", **plain.SMALL)
    params, episode = plain.weights(learner, rng), plain.episode(rng, extra=0)
    found = plain.logits(make("kernel", **plain.SMALL, kernel="sqeuclidean", tau=1.0), params, episode)
    np.testing.assert_allclose(found, plain.logits(learner, params, episode), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("hyper", "message"),
    [
        ({"kernel": "poly"}, "kernel='poly'; choose from .*, rbf, learned"),
        ({"tau": -1.0}, r"tau=-1\.0; need 0 <= tau < infinity"),
        ({"tau": np.inf}, "tau=inf; need 0 <= tau < infinity"),
        ({"neighbours": 0}, "neighbours=0; need at least 1, or None for all"),
    ],
)
def test_unknown_settings_are_named(hyper, message):
    with pytest.raises(ValueError, match=f"KernelClassifier: {message}"):
        make("kernel", **hyper)


def test_training_takes_all_examples_whatever_the_neighbours():
    few = make("kernel", **plain.SMALL, kernel="sqeuclidean", neighbours=1)
    rng = np.random.default_rng(0)
    params, episode = plain.weights(few, rng), plain.episode(rng)
    few_loss, _, few_grads = few.meta_grad(params, episode)
    loss, _, grads = replace(few, neighbours=None).meta_grad(params, episode)
    assert few_loss == loss
    np.testing.assert_array_equal(few_grads["net"]["conv1"]["w"], grads["net"]["conv1"]["w"])


def test_more_neighbours_than_examples_are_refused():
    learner, params, episode = case(0, neighbours=8)
    with pytest.raises(ValueError, match="KernelClassifier: neighbours=8 of 7 examples"):
        learner.adapt(params, *episode[:2], 3)


@pytest.mark.parametrize("hyper", [{"tau": 0.0}, {"blocks": 0, "size": 2}])
def test_a_classifier_without_weights_refuses_training(hyper):
    learner = make("kernel", **plain.SMALL | hyper)
    episode = plain.episode(np.random.default_rng(0), size=learner.size)
    with pytest.raises(ValueError, match="nothing to train: the scores depend on no weight"):
        learner.meta_grad(learner.init(np.random.default_rng(0)), episode)
