"""The LSTM meta-learner beside a loop over coordinates and steps, plain gradient descent and first-order MAML."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minimeta
from minimeta import ops, tree
from minimeta.data import SinusoidSampler
from minimeta.learners import make
from minimeta.learners.coordinates import log_and_sign
from minimeta.learners.optimization_based.minibatches import minibatches
from minimeta.testing import check_learner
from tests.learners import plain

SMALL = {"way": 3, "size": 16, "filters": 2, "hidden": 3, "inner_steps": 2, "test_steps": 3}


def learner_of(**hyper):
    return make("lstm-meta", **{**SMALL, **hyper})


def slope(learner, theta, like, xs, ys):
    """Loss and gradient [P] of one task at theta [P]."""

    def loss(net):
        scores = learner.network(net, xs[None])[0]
        return ops.cross_entropy(scores, ys[None]) if learner.way else ops.mse(scores, ys[None])

    value, gradient = minimeta.value_and_grad(loss)(unflat(theta, like))
    return float(value), flat(gradient)


def flat(net):
    return np.concatenate([leaf.ravel() for leaf in tree.leaves(net)])


def unflat(theta, like):
    leaves, rest = [], theta
    for leaf in tree.leaves(like):
        leaves.append(rest[: leaf.size].reshape(leaf.shape))
        rest = rest[leaf.size :]
    return tree.unflatten(like, leaves)


def squashed(number):
    """logAndSign by its definition, p = 10."""
    if abs(number) >= math.exp(-10):
        return [math.log(abs(number)) / 10, math.copysign(1, number)]
    return [-1.0, math.exp(10) * number]


def lstm(inputs, hidden, cell, weights):
    gates = inputs @ np.concatenate([weights["loss"], weights["gradient"]]) + hidden @ weights["hidden"] + weights["b"]
    i, f, o, candidate = np.split(gates, 4)
    cell = plain.sigmoid(f) * cell + plain.sigmoid(i) * np.tanh(candidate)
    return plain.sigmoid(o) * np.tanh(cell), cell


def plain_walk(learner, params, xs, ys, steps, recorded=None):
    """Of one task: theta [P] before and after each step, the product of forget gates [P], losses and gradients by step.

    Those `recorded` take the place of losses and gradients at the thetas passed.
    """
    theta = flat(params["net"])
    states = [(np.zeros(learner.hidden), np.zeros(learner.hidden), np.zeros(2)) for _ in theta]
    thetas, kept, signals = [theta], np.ones_like(theta), []
    for step, ((x,), (y,)) in enumerate(minibatches(xs[None], ys[None], learner.inner_batch, steps)):
        if recorded is None:
            loss, gradient = slope(learner, theta, params["net"], x, y)
            gradient = gradient / len(x) if learner.grad_div_batch else gradient
        else:
            loss, gradient = recorded[step]
        signals.append((loss, gradient))
        moved = np.empty_like(theta)
        for p, (hidden, cell, last) in enumerate(states):
            inputs = np.array(squashed(loss) + squashed(gradient[p]))
            hidden, cell = lstm(inputs, hidden, cell, params["lstm"])
            gates = params["gates"]
            pre = hidden @ gates["hidden"] + theta[p] * gates["theta"] + last * gates["last"] + gates["b"]
            forget, rate = plain.sigmoid(pre)
            moved[p] = forget * theta[p] - rate * gradient[p]
            kept[p] *= forget
            states[p] = (hidden, cell, pre if learner.gate_feedback == "pre" else plain.sigmoid(pre))
        theta = moved
        thetas.append(theta)
    return thetas, kept, signals


def example(learner, seed, **sizes):
    rng = np.random.default_rng(seed)
    params = plain.weights(learner, rng)
    params["gates"]["b"] += 2 * rng.standard_normal(2)
    return params, plain.episode(rng, size=16, **sizes)


def without_w(params, forget, rate):
    """The parameters with gates that know nothing but their biases."""
    return {**params, "gates": {**tree.map(np.zeros_like, params["gates"]), "b": np.array([forget, rate])}}


def logit(p):
    return math.log(p / (1 - p))


@pytest.mark.parametrize("hyper", [
    {}, {"gate_feedback": "post"}, {"inner_batch": 2}, {"grad_div_batch": True, "inner_batch": 3},
])  # fmt: skip
@plain.drawn(4)
def test_every_step_equals_a_loop_over_coordinates(hyper, seed):
    learner = learner_of(**hyper)
    params, episode = example(learner, seed)
    found = list(learner.trajectory(params, *episode[:2], episode.n_way))
    for task, (xs, ys) in enumerate(zip(*episode[:2], strict=True)):
        expected = plain_walk(learner, params, xs, ys, learner.test_steps)[0]
        assert len(found) == len(expected) == 4
        for weights, theta in zip(found, expected, strict=True):
            np.testing.assert_allclose(flat(tree.map(lambda w, t=task: w[t], weights)), theta, rtol=0, atol=1e-10)


@pytest.mark.parametrize("hyper", [{}, {"gate_feedback": "post"}, {"inner_batch": 3, "grad_div_batch": True}])
@plain.drawn(1)
def test_meta_gradient_is_that_with_losses_and_gradients_held_fixed(hyper, seed):
    learner = learner_of(**hyper)
    params, episode = example(learner, seed)
    recorded = {}

    def loss(moved, xs, ys, xq, yq, n_way):
        if xs.tobytes() not in recorded:  # the first call is where nothing has moved
            recorded[xs.tobytes()] = plain_walk(learner, moved, xs, ys, learner.inner_steps)[2]
        theta = plain_walk(learner, moved, xs, ys, learner.inner_steps, recorded[xs.tobytes()])[0][-1]
        scores = learner.network(unflat(theta, moved["net"]), xq[None])[0][0]
        return -np.mean([np.log(plain.softmax(row)[label]) for row, label in zip(scores, yq, strict=True)])

    plain.check_meta_gradient(learner, params, episode, loss)


@plain.drawn(3)
def test_regression_by_the_same_loop(seed):
    learner = learner_of(way=0, architecture="regressor", batch_norm="none")
    params, episode = plain.weights(learner, np.random.default_rng(seed)), SinusoidSampler(5, 4, seed=seed).batch(0, 1)
    *_, found = learner.trajectory(params, *episode[:2], 0)
    expected = plain_walk(learner, params, episode.xs[0], episode.ys[0], learner.test_steps)[0][-1]
    np.testing.assert_allclose(flat(found), expected, rtol=0, atol=1e-10)
    loss, aux, _ = learner.meta_grad(params, episode)
    assert loss > 0
    assert not aux


@pytest.mark.parametrize("grad_div_batch", [False, True])
@plain.drawn(5)
def test_with_constant_gates_it_is_gradient_descent_and_first_order_maml(grad_div_batch, seed):
    rate = 0.3
    learner = learner_of(grad_div_batch=grad_div_batch)
    params, episode = example(learner, seed, tasks=2)
    params = without_w(params, 40.0, logit(rate))
    rate = rate / 5 if grad_div_batch else rate
    *_, found = learner.trajectory(params, *episode[:2], episode.n_way)
    for task, (xs, ys) in enumerate(zip(*episode[:2], strict=True)):
        theta = flat(params["net"])
        for _ in range(learner.test_steps):
            theta = theta - rate * slope(learner, theta, params["net"], xs, ys)[1]
        np.testing.assert_allclose(flat(tree.map(lambda w, t=task: w[t], found)), theta, rtol=0, atol=1e-12)
    network = {name: getattr(learner, name) for name in ("way", "size", "filters", "architecture", "inner_steps")}
    maml = make("fomaml", **network, inner_lr=(rate,), reduction="mean", adapt_norm=True)
    expected = maml.meta_grad({"net": params["net"]}, episode)
    actual = learner.meta_grad(params, episode)
    np.testing.assert_allclose(actual.loss, expected.loss, rtol=1e-12)
    np.testing.assert_allclose(flat(actual.grads["net"]), flat(expected.grads["net"]), rtol=0, atol=1e-12)


@plain.drawn(4)
def test_gates_that_do_not_see_theta_pass_the_product_of_forget_gates(seed):
    learner = learner_of()
    params, episode = example(learner, seed, tasks=1)
    params["gates"]["theta"][:] = 0
    thetas, kept, _ = plain_walk(learner, params, episode.xs[0], episode.ys[0], learner.inner_steps)
    _, expected = slope(learner, thetas[-1], params["net"], episode.xq[0], episode.yq[0])
    found = learner.meta_grad(params, episode).grads["net"]
    np.testing.assert_allclose(flat(found), kept * expected, rtol=0, atol=1e-12)


def test_feedback_from_before_and_behind_the_sigmoid_differ():
    params, episode = example(learner_of(), 0)
    pre, post = (plain.logits(learner_of(gate_feedback=of), params, episode) for of in ("pre", "post"))
    assert np.abs(pre - post).max() > 1e-3


@pytest.mark.parametrize("batch_norm", ["batch", "support+1", "episode"])
def test_keeps_every_promise_of_a_learner(batch_norm):
    learner = make("lstm-meta", way=3, filters=4, hidden=4, inner_steps=3, test_steps=3, batch_norm=batch_norm)
    assert learner.order_sensitive
    assert not learner.exact_gradient
    check_learner(learner, transductive=batch_norm == "batch")


@plain.drawn(20)
def test_initial_weights_are_small_and_gates_keep_theta(seed):
    params = make("lstm-meta").init(np.random.default_rng(seed))
    forget, rate = params["gates"].pop("b")
    small = np.concatenate([flat(params["lstm"]), flat(params["gates"])])
    assert 0.0099 < np.abs(small).max() <= 0.01
    assert 4 <= forget <= 5
    assert -5 <= rate <= -4
    assert sum(leaf.size for leaf in tree.leaves(params["net"])) == 28_357


numbers = st.floats(-1e6, 1e6) | st.floats(-1e-4, 1e-4)


@given(numbers, st.floats(0.5, 12))
def test_log_and_sign_is_its_definition(x, p):
    large = abs(x) >= math.exp(-p)
    expected = (math.log(abs(x)) / p, math.copysign(1, x)) if large else (-1.0, math.exp(p) * x)
    np.testing.assert_allclose(log_and_sign(np.array(x), p), expected, rtol=1e-12, atol=1e-12)


@given(st.floats(0.5, 12), st.sampled_from([-1, 1]))
def test_log_and_sign_is_continuous(p, sign):
    below, above = (log_and_sign(np.array(sign * math.exp(-p) * (1 + t)), p) for t in (-1e-9, 1e-9))
    np.testing.assert_allclose(below, above, rtol=0, atol=1e-7)
    np.testing.assert_allclose(above, [-1, sign], rtol=0, atol=1e-7)


def test_unknown_settings_are_named():
    with pytest.raises(ValueError, match="LSTMMetaLearner: gate_feedback='both'; choose from pre, post"):
        make("lstm-meta", gate_feedback="both")
    for name in ("inner_steps", "inner_batch", "hidden"):
        with pytest.raises(ValueError, match=f"LSTMMetaLearner: {name}=0; need {name} >= 1"):
            make("lstm-meta", **{name: 0})
    with pytest.raises(ValueError, match="log_and_sign: p=0; need p > 0"):
        log_and_sign(np.ones(2), 0)
