"""Pre-training and fine-tuning: joint training by hand, the fresh head as logistic regression, regression by a loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minimeta import ops, optim, tree
from minimeta.autodiff import grad
from minimeta.data import EpisodeSampler, JointSampler, glyphs
from minimeta.learners import make
from minimeta.learners.base import accuracy, trainable
from minimeta.testing import check_learner
from tests.learners import plain, plain_regressor
from tests.learners.plain_regressor import REGRESSOR

IMAGES = {"way": 7, "architecture": "strided-flat", "size": 8, "filters": 3}
MODES = ("running", "batch", "support+1", "episode")


def weights(learner, rng):
    params = plain.weights(learner, rng)
    running = {name: {**found, "var": np.abs(found["var"])} for name, found in params["running"].items()}
    return {**params, "running": running}


def features(learner, params, x):
    """Of images x, by statistics of pre-training: what a head that changes nothing lets through."""
    size = learner.network.features
    through = {**params["net"], "head": {"w": np.eye(size), "b": np.zeros(size)}}
    return learner.network(through, x, params["running"])[0]


def logistic_regression(x, y, n_way, steps, lr):
    """From zeros, by gradient descent on the mean cross-entropy: weights [D, N], biases [N]."""
    w, b = np.zeros((x.shape[1], n_way)), np.zeros(n_way)
    for _ in range(steps):
        error = np.array([plain.softmax(row @ w + b) for row in x])
        error[np.arange(len(x)), y] -= 1
        w, b = w - lr * x.T @ error / len(x), b - lr * error.mean(0)
    return w, b


@settings(max_examples=10)
@given(plain.seeds, st.integers(2, 9), st.integers(0, 4))
def test_tuning_the_head_is_logistic_regression(seed, n_way, steps):
    """For more classes than pre-training had, too."""
    rng = np.random.default_rng(seed)
    learner = make("finetune", **IMAGES, tuned="head", test_steps=steps, inner_optimizer="sgd", inner_lr=0.3)
    params, episode = weights(learner, rng), plain.episode(rng, way=n_way)
    support, queries = (features(learner, params, x) for x in (episode.xs, episode.xq))
    scores = plain.logits(learner, params, episode)
    for task in range(2):
        w, b = logistic_regression(support[task], episode.ys[task], n_way, steps, 0.3)
        np.testing.assert_allclose(scores[task], queries[task] @ w + b, rtol=1e-10, atol=1e-10)


@settings(max_examples=10)
@given(plain.seeds, st.sampled_from(MODES), st.sampled_from(["all", "head"]))
def test_without_steps_all_classes_score_alike(seed, batch_norm, tuned):
    rng = np.random.default_rng(seed)
    learner = make("finetune", **IMAGES, batch_norm=batch_norm, tuned=tuned, test_steps=0)
    scores = plain.logits(learner, weights(learner, rng), episode := plain.episode(rng))
    assert scores.shape == (2, 3, 3)
    assert not scores.any()
    np.testing.assert_allclose(accuracy(scores, episode.yq), 1 / 3)


@pytest.mark.parametrize("batch_norm", MODES)
@settings(max_examples=5)
@given(plain.seeds)
def test_one_step_on_all_weights_is_along_their_gradient(batch_norm, seed):
    """After the first step of the head, as under a head of zeros no other weight has a gradient."""
    rng = np.random.default_rng(seed)
    learner = make("finetune", **IMAGES, batch_norm=batch_norm, test_steps=2, inner_optimizer="sgd", inner_lr=0.2)
    params, episode = weights(learner, rng), plain.episode(rng, tasks=1)
    start, first, second = (
        tree.map(lambda w: w[0], net) for net in learner.trajectory(params, episode.xs, episode.ys, 3)
    )
    statistics = params["running"] if batch_norm == "running" else None

    def loss(net):
        return ops.cross_entropy(learner.network(net, episode.xs, statistics)[0], episode.ys)

    for name in ("conv1", "conv2", "conv3", "conv4"):
        assert all(np.array_equal(start[name][key], w) for key, w in first[name].items())
    expected = plain_regressor.sgd(first, grad(loss)(first), 0.2)
    for (path, w), (_, e) in zip(tree.items(second), tree.items(expected), strict=True):
        np.testing.assert_allclose(w, e, rtol=1e-10, atol=1e-10, err_msg="/".join(path))


@settings(max_examples=20)
@given(plain.seeds, st.sampled_from(["sgd", "adam"]), st.sampled_from(["all", "head"]), st.integers(0, 4))
def test_regression_goes_on_from_the_trained_head(seed, inner_optimizer, tuned, steps):
    rng = np.random.default_rng(seed)
    learner = make(
        "finetune", **REGRESSOR, tuned=tuned, test_steps=steps, inner_optimizer=inner_optimizer, inner_lr=0.02
    )
    params, episode = weights(learner, rng), plain_regressor.episode(rng, tasks=2, shot=5)
    assert params["running"] == {}
    state = learner.adapt(params, *episode[:2], 0)
    for task in range(2):
        net, optimizer = params["net"], make_optimizer(inner_optimizer, 0.02)
        for step in range(1, steps + 1):
            grads = plain_regressor.gradient(net, episode.xs[task], episode.ys[task])
            net = {**net, **optimizer(step, net, grads, ["head"] if tuned == "head" else list(net))}
        for (path, w), (_, e) in zip(tree.items(state.weights), tree.items(net), strict=True):
            np.testing.assert_allclose(w[task], e, rtol=1e-9, atol=1e-9, err_msg="/".join(path))


def make_optimizer(name, lr):
    """step(number, net, grads, names of layers) -> those layers: SGD, or Adam with momentum by its formula."""
    means = {}

    def step(number, net, grads, chosen):
        moved = {}
        for layer in chosen:
            moved[layer] = {}
            for key, g in grads[layer].items():
                m, s = means.get((layer, key), (0.0, 0.0))
                m, s = means[layer, key] = (0.9 * m + 0.1 * g, 0.999 * s + 0.001 * g**2)
                change = (m / (1 - 0.9**number)) / (np.sqrt(s / (1 - 0.999**number)) + 1e-8)
                moved[layer][key] = net[layer][key] - lr * (change if name == "adam" else g)
        return moved

    return step


@settings(max_examples=10)
@given(plain.seeds, st.integers(0, 4))
def test_pre_training_is_on_all_examples_at_once(seed, cut):
    """How many are called queries does not matter; running averages take a tenth of the batch's statistics."""
    rng = np.random.default_rng(seed)
    learner = make("finetune", **IMAGES)
    params, whole = weights(learner, rng), plain.episode(rng, way=7, tasks=2, query=0)
    x, y = whole.xs, whole.ys
    parts = whole._replace(xs=x[:, cut:], ys=y[:, cut:], xq=x[:, :cut], yq=y[:, :cut])
    scores, found = learner.network(params["net"], x)
    norms = {name: found[name] for name in ("conv1", "conv2", "conv3", "conv4")}
    rows = zip(scores.reshape(-1, 7), y.ravel(), strict=True)
    expected = np.mean([-np.log(plain.softmax(row)[label]) for row, label in rows])
    for episode in (whole, parts):
        loss, aux = learner.meta_loss(params, episode)
        np.testing.assert_allclose(loss, expected, rtol=1e-10)
        np.testing.assert_allclose(aux["accuracy"], np.mean(scores.argmax(-1) == y))
        averages = tree.map(lambda old, new: 0.9 * old + 0.1 * new.mean(0), params["running"], norms)
        for a, e in zip(tree.leaves(aux["running"]), tree.leaves(averages), strict=True):
            np.testing.assert_allclose(a, e, rtol=1e-9)


@plain.drawn(10)
def test_pre_training_on_numbers_is_the_mean_squared_error_of_all(seed):
    rng = np.random.default_rng(seed)
    learner = make("finetune", **REGRESSOR)
    params, episode = weights(learner, rng), plain_regressor.episode(rng, tasks=2, shot=5)
    loss, aux, grads = learner.meta_grad(params, episode)
    xs, ys, xq, yq, _ = episode
    x, y = (np.concatenate(both, axis=1).reshape(-1, 1) for both in ((xs, xq), (ys, yq)))
    np.testing.assert_allclose(loss, np.mean((learner.network(params["net"], x[None])[0][0] - y) ** 2))
    assert aux == {"running": {}}
    expected = plain_regressor.gradient(params["net"], x, y)
    for g, e in zip(tree.leaves(grads["net"]), tree.leaves(expected), strict=True):
        np.testing.assert_allclose(g, e, rtol=1e-9, atol=1e-12)


def test_fine_tuning_on_glyphs_gets_better_by_steps_and_by_pre_training():
    joint = JointSampler(glyphs.load("train", classes=20, size=16), examples=40)
    learner = make("finetune", way=20, size=16, filters=8, test_steps=10, inner_lr=0.01)
    fresh = params = learner.init(np.random.default_rng(0))
    optimizer = optim.adam(0.01)
    state = optimizer.init(trainable(params))
    for step in range(60):
        _, aux, grads = learner.meta_grad(params, joint.batch(step, 1))
        net, state = optimizer.update(grads, state, trainable(params))
        params = {**net, "running": aux["running"]}
    tests = EpisodeSampler(glyphs.load("test", classes=20, size=16), 5, 1, 3).batch(0, 30)

    def by_step(params):
        states = learner.states(params, *tests[:2], 5)
        return [accuracy(learner.predict(params, state, tests.xq), tests.yq).mean() for state in states]

    trained, untrained = by_step(params), by_step(fresh)
    print(f"accuracy by step, pre-trained {trained}, not {untrained}")
    assert aux["accuracy"] > 0.7
    assert trained[0] == untrained[0] == pytest.approx(0.2)
    assert trained[10] > 0.6
    assert trained[10] > untrained[10] + 0.1


@pytest.mark.parametrize("tuned", ["all", "head"])
@pytest.mark.parametrize("batch_norm", MODES)
def test_keeps_every_promise_of_a_learner(batch_norm, tuned):
    learner = make("finetune", way=3, size=16, filters=4, batch_norm=batch_norm, tuned=tuned, test_steps=3)
    checks = check_learner(learner, size=16, transductive=batch_norm == "batch")
    assert "label permutation" in checks
    assert "support order" in checks


def test_running_statistics_are_of_the_layers_with_batch_norm():
    running = make("finetune", **IMAGES).init(np.random.default_rng(0))["running"]
    for name in ("conv1", "conv2", "conv3", "conv4"):
        assert {key: list(values) for key, values in running.pop(name).items()} == {"mean": [0] * 3, "var": [1] * 3}
    assert running == {}


def test_what_it_is_not_for_is_refused():
    learner, numbers = make("finetune", **IMAGES), make("finetune", **REGRESSOR)
    rng = np.random.default_rng(0)
    images = plain.episode(rng)
    with pytest.raises(ValueError, match="FineTune: way=7; pre-training is on so many classes, not 3"):
        learner.meta_loss(weights(learner, rng), images)
    with pytest.raises(ValueError, match="FineTune: way=7; not for tasks of 0 classes"):
        learner.adapt(weights(learner, rng), images.xs, images.ys, 0)
    with pytest.raises(ValueError, match="FineTune: way=0; not for tasks of 3 classes"):
        numbers.adapt(weights(numbers, rng), images.xs, images.ys, 3)


@pytest.mark.parametrize(
    ("hyper", "message"),
    [
        ({"inner_optimizer": "rmsprop"}, "inner_optimizer='rmsprop'; choose from sgd, adam"),
        ({"tuned": "body"}, "tuned='body'; choose from all, head"),
        ({"inner_lr": -0.1}, "inner_lr=-0.1; need a finite inner_lr > 0"),
        ({"batch_norm": "own"}, "batch_norm='own'; choose from running, batch, support"),
        ({"architecture": "regressor", "way": 0}, "architecture='regressor' with batch_norm='running'"),
    ],
)
def test_settings_out_of_range_are_named(hyper, message):
    with pytest.raises(ValueError, match=f"FineTune: {message}"):
        make("finetune", **hyper)
