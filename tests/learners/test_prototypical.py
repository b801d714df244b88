"""The prototypical network: its decisive checks, and its meta-gradient against an independent loop."""

from __future__ import annotations

import numpy as np
import pytest

import minimeta
from minimeta import ops, tree
from minimeta.data import Episode, EpisodeSampler, glyphs
from minimeta.learners import make
from minimeta.learners.base import accuracy, chunked_meta_grad
from minimeta.learners.metric_based.similarity import SIMILARITIES
from minimeta.testing import check_learner
from tests.learners import plain


def small_episode(way=3, shot=2, query=2, tasks=2, size=28):
    data = glyphs.load("train", classes=12, size=size)
    episode = EpisodeSampler(data, way, shot, query, rotations="per_class_random").batch(0, tasks)
    return Episode(episode.xs.astype(float), episode.ys, episode.xq.astype(float), episode.yq, way)


def float64(params):
    return tree.map(lambda w: w.astype(np.float64), params)


def logits(support, labels, queries, n_way):
    """Scores [T, Q, N] of features [T, Q, D], by the prototypes of features [T, S, D]."""
    learner = make("prototypical")
    return learner.compare({}, learner.summarise({}, support, labels, n_way), queries, None)[0]


@pytest.mark.parametrize("distance", SIMILARITIES)
def test_keeps_every_promise_of_a_learner(distance):
    temperature = 10.0 if distance == "cosine" else 1.0
    check_learner(make("prototypical", filters=8, distance=distance, temperature=temperature))


@plain.drawn(100)
def test_is_a_linear_classifier_of_the_embedding(seed):
    """-|f - v|^2 and 2 v.f - |v|^2 differ by |f|^2, which the softmax does not see."""
    rng = np.random.default_rng(seed)
    support, queries = rng.standard_normal((2, 6, 5)), rng.standard_normal((2, 3, 5))
    labels = np.array([rng.permutation([0, 1, 2, 3, 0, 2]) for _ in range(2)])
    centres = np.stack([plain.of_classes(np.mean, *task, 4) for task in zip(support, labels, strict=True)])
    linear = 2 * queries @ centres.swapaxes(1, 2) - (centres**2).sum(-1)[:, None]
    chances = ops.softmax(logits(support, labels, queries, 4))
    np.testing.assert_allclose(chances, ops.softmax(linear), rtol=0, atol=1e-12)


@plain.drawn(100)
def test_with_one_shot_a_prototype_is_its_example(seed):
    """K = 1: the scores are those of matching by squared distances, whatever the order of the support."""
    rng = np.random.default_rng(seed)
    support, queries = rng.standard_normal((1, 4, 5)), rng.standard_normal((1, 3, 5))
    labels = rng.permutation(4)[None]
    distances = ((queries[:, :, None] - support[:, None]) ** 2).sum(-1)
    scores = logits(support, labels, queries, 4)
    np.testing.assert_allclose(scores, -distances[..., np.argsort(labels[0])], rtol=1e-12, atol=1e-12)
    matching = make("matching", similarity="sqeuclidean", temperature=1.0, learn_temperature=False)
    matched, _ = matching.compare({}, matching.summarise({}, support, labels, 4), queries, None)
    np.testing.assert_allclose(scores, matched, rtol=1e-12, atol=1e-12)


def test_equal_prototypes_lose_log_n():
    support, queries = np.ones((1, 7, 5)), np.random.default_rng(0).standard_normal((1, 3, 5))
    loss = ops.cross_entropy(logits(support, np.arange(7)[None], queries, 7), np.zeros((1, 3), dtype=int))
    np.testing.assert_allclose(loss, np.log(7), rtol=1e-12)


def test_a_class_without_examples_is_named():
    with pytest.raises(ValueError, match=r"class 2 of task 1 has no support example"):
        logits(np.zeros((2, 3, 4)), np.array([[0, 1, 2], [0, 1, 1]]), np.zeros((2, 1, 4)), 3)


def test_unknown_settings_are_named():
    with pytest.raises(ValueError, match="Prototypical: distance='dot'; choose from sqeuclidean, euclidean"):
        make("prototypical", distance="dot")
    with pytest.raises(ValueError, match=r"Prototypical: temperature=0\.0; need a finite temperature > 0"):
        make("prototypical", temperature=0.0)
    with pytest.raises(ValueError, match="need filters >= 1"):
        make("prototypical", filters=0)
    with pytest.raises(ValueError, match="leave nothing of 15 x 15 pixels"):
        make("prototypical", size=15)
    with pytest.raises(ValueError, match="no hyper-parameter 'width'; it has size, channels, filters"):
        make("prototypical", width=3)
    with pytest.raises(ValueError, match="unknown learner 'protonet'; choose one of siamese, matching"):
        make("protonet")


def plain_loss(distance, temperature):
    def loss(params, xs, ys, xq, yq, n_way):
        support, queries = plain.embed_both(params, xs, xq)
        centres = plain.of_classes(np.mean, support, ys, n_way)
        scores = [[temperature * plain.SIMILARITIES[distance](q, centre) for centre in centres] for q in queries]
        return np.mean([-np.log(plain.softmax(row)[label]) for row, label in zip(scores, yq, strict=True)])

    return loss


@plain.drawn(3)
def test_meta_gradient_equals_an_independent_loop(seed):
    """Done when 3: finite differences (relative 1e-6) of a loop written apart from the engine, on drawings."""
    learner = make("prototypical", filters=3)
    params = plain.weights(learner, np.random.default_rng(seed))
    plain.check_meta_gradient(learner, params, small_episode(), plain_loss("sqeuclidean", 1.0))


@pytest.mark.parametrize("distance", SIMILARITIES)
@plain.drawn(5)
def test_meta_gradient_equals_an_independent_loop_whatever_the_distance(distance, seed):
    rng = np.random.default_rng(seed)
    learner = make("prototypical", **plain.SMALL, distance=distance, temperature=1.5)
    plain.check_meta_gradient(learner, plain.weights(learner, rng), plain.episode(rng), plain_loss(distance, 1.5))


def test_second_derivative_of_conv_norm_relu_pool():
    """The engine's decisive check: a Hessian-vector product through the whole net against differences of gradients."""
    learner, episode = make("prototypical", filters=2, blocks=2), small_episode(tasks=1, size=12)
    params = float64(learner.init(np.random.default_rng(0)))

    def loss(net):
        return learner.meta_loss({**params, "net": net}, episode)[0]

    net = params["net"]
    rng = np.random.default_rng(2)
    direction = tree.map(lambda w: rng.standard_normal(w.shape), net)
    product = minimeta.hvp(loss, net, direction)
    moved = {t: tree.map(lambda w, d, t=t: w + t * d, net, direction) for t in (1e-6, -1e-6)}
    ahead, behind = (minimeta.grad(loss)(point) for point in moved.values())
    numeric = tree.map(lambda a, b: (a - b) / 2e-6, ahead, behind)
    scale = max(np.abs(n).max() for n in tree.leaves(numeric))
    for exact, approximate in zip(tree.leaves(product), tree.leaves(numeric), strict=True):
        np.testing.assert_allclose(exact, approximate, rtol=0, atol=1e-6 * scale)


def test_chunks_change_nothing():
    learner, episode = make("prototypical", filters=4), small_episode(tasks=5)
    params = float64(learner.init(np.random.default_rng(0)))
    whole = learner.meta_grad(params, episode)
    for chunk in (1, 2, 3):
        parts = chunked_meta_grad(learner, params, episode, chunk)
        for a, b in zip(tree.leaves(parts), tree.leaves(whole), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-12 * max(1, np.abs(b).max()))
    with pytest.raises(ValueError, match="chunk=0"):
        chunked_meta_grad(learner, params, episode, 0)


def test_constant_scores_are_right_once_in_n():
    labels = np.repeat(np.arange(5), 3)[None]
    assert accuracy(np.zeros((1, 15, 5)), labels) == pytest.approx(1 / 5)
