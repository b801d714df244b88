"""Siamese networks: what makes two towers one network, the pairs of an episode one by one, and the paper's sizes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from minimeta import ops, tree
from minimeta.autodiff import grad
from minimeta.learners import make
from minimeta.learners.metric_based.similarity import weighted_l1
from minimeta.testing import check_learner
from tests.learners import plain

KOCH = {"architecture": "koch", "batch_norm": "none", "size": 65, "filters": 1}


def plain_koch(net, x):
    """Valid convolutions, ReLU after each and pooling between them, then a sigmoid layer."""
    for name, layer in net.items():
        if name == "code":
            return plain.sigmoid(x.reshape(len(x), -1) @ layer["w"] + layer["b"])
        x = plain.pool(x) if name != "conv1" else x
        x = np.maximum(plain.conv(x, layer["w"], padding=0) + layer["b"], 0)
    raise AssertionError("no code layer")


def plain_loss(architecture, l2):
    """Pairs of the same class carry half of the loss, pairs of different classes the other half."""

    def loss(params, xs, ys, xq, yq, n_way):
        if architecture == "koch":
            support, queries = plain_koch(params["net"], xs), plain_koch(params["net"], xq)
        else:
            support, queries = plain.embed_both(params, xs, xq)
        alpha, b = params["same"]["alpha"][:, 0], params["same"]["b"][0]
        losses = {True: [], False: []}
        for query, label in zip(queries, yq, strict=True):
            for example, other in zip(support, ys, strict=True):
                p = plain.sigmoid(alpha @ np.abs(query - example) + b)
                losses[label == other].append(-np.log(p if label == other else 1 - p))
        penalty = sum((layer["w"] ** 2).sum() for layer in params["net"].values()) + (alpha**2).sum()
        return (np.mean(losses[True]) + np.mean(losses[False])) / 2 + l2 * penalty

    return loss


def pairs(seed):
    """Features of 4 and of 7 images, 33 each, and the weights that compare them."""
    rng = np.random.default_rng(seed)
    same = {"alpha": rng.standard_normal((33, 1)), "b": rng.standard_normal(1)}
    return same, rng.standard_normal((1, 4, 33)), rng.standard_normal((1, 7, 33))


@pytest.mark.parametrize("aggregation", ["mean", "max"])
def test_keeps_every_promise_of_a_learner(aggregation):
    check_learner(make("siamese", size=8, filters=4, blocks=2, aggregation=aggregation), size=8)


def test_the_papers_network_keeps_every_promise_of_a_learner():
    check_learner(make("siamese", **KOCH, code_std=0.1), size=65, overfit_steps=120)


@pytest.mark.parametrize("l2", [0.0, 0.01])
@plain.drawn(5)
def test_meta_gradient_equals_an_independent_loop_over_pairs(l2, seed):
    rng = np.random.default_rng(seed)
    learner = make("siamese", **plain.SMALL, l2=l2)
    plain.check_meta_gradient(learner, plain.weights(learner, rng), plain.episode(rng), plain_loss("conv4", l2))


@plain.drawn(2)
def test_meta_gradient_of_the_papers_network_equals_an_independent_loop_over_pairs(seed):
    rng = np.random.default_rng(seed)
    learner = make("siamese", **KOCH, l2=0.01)
    episode = plain.episode(rng, way=2, extra=1, query=2, size=65)
    plain.check_meta_gradient(learner, plain.weights(learner, rng), episode, plain_loss("koch", 0.01))


@plain.drawn(50)
def test_an_image_is_as_like_itself_as_the_bias_says(seed):
    same, x, _ = pairs(seed)
    logits = weighted_l1(same, x, x)[0]
    np.testing.assert_array_equal(ops.sigmoid(np.diag(logits)), ops.sigmoid(np.full(4, same["b"][0])))


@plain.drawn(20)
def test_a_is_as_like_b_as_b_is_like_a(seed):
    """To the bit, alone or among other pairs."""
    same, x, y = pairs(seed)
    together = weighted_l1(same, x, y)
    np.testing.assert_array_equal(together, weighted_l1(same, y, x).swapaxes(1, 2))
    for i, j in np.ndindex(4, 7):
        np.testing.assert_array_equal(weighted_l1(same, x[:, i : i + 1], y[:, j : j + 1])[0, 0, 0], together[0, i, j])


@plain.drawn(5)
def test_the_gradient_of_one_network_is_the_sum_of_the_two_towers(seed):
    rng = np.random.default_rng(seed)
    learner = make("siamese", **plain.SMALL)
    params, episode = plain.weights(learner, rng), plain.episode(rng)

    def likeness(towers):
        """By running statistics, so that the images of one tower do not touch those of the other."""
        first, second = (
            learner.embed({"net": net}, x, params["running"])[0]
            for net, x in zip(towers, (episode.xq, episode.xs), strict=True)
        )
        return -ops.sum(ops.softplus(-weighted_l1(params["same"], first, second)))

    tied = grad(lambda net: likeness([net, net]))(params["net"])
    untied = grad(likeness)([params["net"], params["net"]])
    for one, first, second in zip(*map(tree.leaves, (tied, *untied)), strict=True):
        np.testing.assert_allclose(one, first + second, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("aggregation", "of"), [("mean", np.mean), ("max", np.max)])
@plain.drawn(20)
def test_a_class_scores_by_its_examples(aggregation, of, seed):
    rng = np.random.default_rng(seed)
    learner, episode = make("siamese", blocks=0, size=2, aggregation=aggregation), plain.episode(rng, size=2)
    params = plain.weights(learner, rng)
    alpha, b = params["same"]["alpha"][:, 0], params["same"]["b"][0]
    scores = plain.logits(learner, params, episode)
    for t, q, n in np.ndindex(scores.shape):
        examples = episode.xs[t, episode.ys[t] == n].reshape(-1, 4)
        logits = [alpha @ np.abs(episode.xq[t, q].ravel() - x) + b for x in examples]
        np.testing.assert_allclose(scores[t, q, n], of(logits), rtol=0, atol=1e-12)


def shapes(**hyper):
    learner = make("siamese", **KOCH | hyper)
    return tree.map(np.shape, learner.init(np.random.default_rng(0))["net"]), learner.features


def test_the_papers_network_has_the_papers_sizes():
    """105 pixels become 6 x 6 maps; 38,951,745 parameters, here by a formula that narrow networks confirm."""

    def count(size, f):
        convolutions = [(10, 1, f), (7, f, 2 * f), (4, 2 * f, 2 * f), (4, 2 * f, 4 * f)]
        code = size**2 * 4 * f * 64 * f + 64 * f
        return sum(k * k * inputs * outputs + outputs for k, inputs, outputs in convolutions) + code

    for filters in (1, 2):
        net, features = shapes(size=105, filters=filters)
        assert sum(math.prod(layer[name]) for layer in net.values() for name in ("w", "b")) == count(6, filters)
        assert features == 64 * filters
    assert net["conv2"] == {"w": (7, 7, 2, 4), "b": (4,)}
    assert net["code"] == {"w": (6 * 6 * 8, 128), "b": (128,)}
    assert count(6, 64) + 4096 + 1 == 38_951_745


def test_the_papers_weights_start_as_the_paper_says():
    net = make("siamese", **KOCH | {"filters": 4, "code_std": 0.2}).init(np.random.default_rng(0))["net"]
    assert net["conv3"]["w"].std() == pytest.approx(0.01, rel=0.1)
    assert net["code"]["w"].std() == pytest.approx(0.2, rel=0.05)
    for layer in net.values():
        assert layer["b"].mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("hyper", "message"),
    [
        ({"architecture": "vgg"}, "architecture='vgg'; choose from conv4, koch"),
        ({"aggregation": "sum"}, "aggregation='sum'; choose from mean, max"),
        ({"batch_norm": "none"}, "architecture='conv4' with batch_norm='none'; the paper's network has no batch norm"),
        ({"architecture": "koch", "size": 105}, "architecture='koch' with batch_norm='running'"),
        (KOCH | {"size": 64}, "size=64, blocks=4; 'koch' needs 65 pixels or more"),
        (KOCH | {"blocks": 3}, "size=65, blocks=3; 'koch' needs 65 pixels or more, and has 4 blocks"),
        ({"l2": -1.0}, r"l2=-1\.0; need l2 >= 0"),
    ],
)
def test_unknown_settings_are_named(hyper, message):
    with pytest.raises(ValueError, match=f"Siamese: {message}"):
        make("siamese", **hyper)
