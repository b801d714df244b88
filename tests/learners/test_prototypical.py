"""The prototypical network: its decisive checks, and its meta-gradient against an independent loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minimeta
from minimeta import ops, tree
from minimeta.data import Episode, EpisodeSampler, glyphs
from minimeta.learners import make
from minimeta.learners.base import accuracy, chunked_meta_grad
from minimeta.learners.metric_based.prototypical import logits, prototypes
from minimeta.testing import check_learner


def small_episode(way=3, shot=2, query=2, tasks=2, size=28):
    data = glyphs.load("train", classes=12, size=size)
    episode = EpisodeSampler(data, way, shot, query, rotations="per_class_random").batch(0, tasks)
    return Episode(episode.xs.astype(float), episode.ys, episode.xq.astype(float), episode.yq, way)


def float64(params):
    return tree.map(lambda w: w.astype(np.float64), params)


@pytest.mark.parametrize("batch_norm", ["running", "batch"])
def test_keeps_every_promise_of_a_learner(batch_norm):
    check_learner(make("prototypical", filters=8, batch_norm=batch_norm), transductive=batch_norm == "batch")


@given(st.integers(0, 2**32 - 1))
def test_is_a_linear_classifier_of_the_embedding(seed):
    """-|f - v|^2 and 2 v.f - |v|^2 differ by |f|^2, which the softmax does not see."""
    rng = np.random.default_rng(seed)
    centres, queries = rng.standard_normal((2, 4, 5)), rng.standard_normal((2, 3, 5))
    linear = 2 * queries @ centres.swapaxes(1, 2) - (centres**2).sum(-1)[:, None]
    np.testing.assert_allclose(ops.softmax(logits(centres, queries)), ops.softmax(linear), rtol=0, atol=1e-12)


@given(st.integers(0, 2**32 - 1))
def test_with_one_shot_a_prototype_is_its_example(seed):
    """K = 1: the scores are those of a nearest-neighbour softmax over the support, whatever its order."""
    rng = np.random.default_rng(seed)
    support, queries = rng.standard_normal((1, 4, 5)), rng.standard_normal((1, 3, 5))
    labels = rng.permutation(4)[None]
    distances = ((queries[:, :, None] - support[:, None]) ** 2).sum(-1)
    scores = logits(prototypes(support, labels, 4), queries)
    np.testing.assert_allclose(scores, -distances[..., np.argsort(labels[0])], rtol=1e-12, atol=1e-12)


def test_equal_prototypes_lose_log_n():
    centres, queries = np.ones((1, 7, 5)), np.random.default_rng(0).standard_normal((1, 3, 5))
    loss = ops.cross_entropy(logits(centres, queries), np.zeros((1, 3), dtype=int))
    np.testing.assert_allclose(loss, np.log(7), rtol=1e-12)


def test_a_class_without_examples_is_named():
    with pytest.raises(ValueError, match=r"class 2 of task 1 has no support example"):
        prototypes(np.zeros((2, 3, 4)), np.array([[0, 1, 2], [0, 1, 1]]), 3)


def test_unknown_settings_are_named():
    with pytest.raises(ValueError, match=r"batch_norm='frozen'; choose 'running' or 'batch'"):
        make("prototypical", batch_norm="frozen")
    with pytest.raises(ValueError, match=r"no hyper-parameter 'width'; it has channels, filters"):
        make("prototypical", width=3)
    with pytest.raises(ValueError, match=r"unknown learner 'protonet'; choose one of prototypical"):
        make("protonet")


def plain_loss(params, episode):
    """The loss of one meta-batch in plain NumPy loops: no engine, no batching, no shared code."""
    total = []
    for xs, ys, xq, yq in zip(*episode[:4], strict=True):
        x = np.concatenate([xs, xq])
        for block in params["net"].values():
            padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
            height, width = x.shape[1:3]
            y = np.zeros((*x.shape[:3], block["w"].shape[-1]))
            for i in range(3):
                for j in range(3):
                    y += padded[:, i : i + height, j : j + width] @ block["w"][i, j]
            y = (y - y.mean((0, 1, 2))) / np.sqrt(y.var((0, 1, 2)) + 1e-5) * block["gamma"] + block["beta"]
            y = np.maximum(y, 0)[:, : height // 2 * 2, : width // 2 * 2]
            x = y.reshape(len(y), height // 2, 2, width // 2, 2, -1).max((2, 4))
        features = x.reshape(len(x), -1)
        support, queries = features[: len(xs)], features[len(xs) :]
        centres = [support[ys == n].mean(0) for n in range(episode.n_way)]
        for query, label in zip(queries, yq, strict=True):
            scores = np.array([-((query - centre) ** 2).sum() for centre in centres])
            total.append(np.log(np.exp(scores - scores.max()).sum()) + scores.max() - scores[label])
    return np.mean(total)


def test_meta_gradient_equals_an_independent_loop():
    """Done when 3: finite differences (relative 1e-6) of a loop written apart from the engine, entry by entry."""
    learner, episode = make("prototypical", filters=3), small_episode()
    params = float64(learner.init(np.random.default_rng(0)))
    loss, _, grads = learner.meta_grad(params, episode)
    np.testing.assert_allclose(loss, plain_loss(params, episode), rtol=1e-12)
    rng = np.random.default_rng(1)
    scale = max(np.abs(g).max() for g in tree.leaves(grads))
    for weights, gradient in zip(tree.leaves(params["net"]), tree.leaves(grads), strict=True):
        for at in rng.choice(weights.size, size=min(6, weights.size), replace=False):
            place, value = np.unravel_index(at, weights.shape), weights.flat[at]
            losses = []
            for step in (1e-7, -1e-7):  # so small that no ReLU or maximum switches on the way
                weights[place] = value + step
                losses.append(plain_loss(params, episode))
            weights[place] = value
            assert abs(gradient[place] - (losses[0] - losses[1]) / 2e-7) < 1e-6 * scale


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


def test_running_statistics_are_averages_of_batches():
    learner, episode = make("prototypical", filters=4, blocks=1), small_episode(tasks=2)
    params = float64(learner.init(np.random.default_rng(0)))
    running = learner.meta_loss(params, episode)[1]["running"]["conv1"]
    images = np.concatenate([episode.xs, episode.xq], 1)
    maps = ops.conv2d(images, params["net"]["conv1"]["w"], padding=1)
    np.testing.assert_allclose(running["mean"], 0.1 * maps.mean((1, 2, 3)).mean(0), atol=1e-12)
    np.testing.assert_allclose(running["var"], 0.9 + 0.1 * maps.var((1, 2, 3), ddof=1).mean(0), atol=1e-12)


def test_constant_scores_are_right_once_in_n():
    labels = np.repeat(np.arange(5), 3)[None]
    assert accuracy(np.zeros((1, 15, 5)), labels) == pytest.approx(1 / 5)
