"""MAML and first-order MAML against closed forms, finite differences and plain NumPy, and how much memory they hold."""

from __future__ import annotations

import gc
import re
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minimeta import Tensor, ops, tree
from minimeta.autodiff import grad
from minimeta.data import Episode
from minimeta.learners import make
from minimeta.learners.base import chunked_meta_grad
from minimeta.learners.optimization_based import networks
from minimeta.learners.optimization_based.base import per_task
from minimeta.learners.optimization_based.maml import FOMAML, LEARNED_RATES, MAML, REDUCTIONS
from minimeta.testing import check_learner
from tests.learners import plain, plain_maml

DENSE = {"architecture": "dense", "size": 3, "way": 3}
STRIDED = {"architecture": "strided", "size": 3, "filters": 2, "way": 3}
FLAT = STRIDED | {"architecture": "strided-flat"}
CONV4 = {"architecture": "conv4", "size": 16, "filters": 1, "way": 3}
REGRESSOR = {"architecture": "regressor", "batch_norm": "none", "way": 0}


def case(seed, tasks=2, **hyper):
    """A learner, parameters with noise on all, and tasks for it."""
    rng = np.random.default_rng(seed)
    learner = make("maml", **hyper)
    params = plain.weights(learner, rng)
    if learner.way:
        return learner, params, plain.episode(rng, way=learner.way, query=4, tasks=tasks, size=learner.size)
    return learner, params, plain_maml.sinusoids(rng, tasks)


def assert_close(found, expected, tolerance=1e-12):
    """In every array, relative to its largest entry or 1."""
    for (path, a), (_, b) in zip(tree.items(found), tree.items(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1, np.abs(b).max()), err_msg="/".join(path))


class Polynomial(MAML):
    """Losses d'Ad / 2 + sum (Bd)^4 / 4 with d = theta - centre: one example holds A [D, D], B [D, D] and the centre."""

    def scores(self, weights, x, n_way, statistics=None):
        d = (weights["head"]["w"] - x[..., -1])[..., None]
        size = x.shape[1]
        return ops.sum(d * (x[..., :size] @ d)) / 2 + ops.sum((x[..., size:-1] @ d) ** 4) / 4

    def loss(self, scores, targets):
        return scores / len(targets)


def polynomial(seed, steps, quartic, size=4, tasks=3):
    """The learner, its parameters and tasks, of which `quartic` 0 makes quadratic ones."""
    rng = np.random.default_rng(seed)
    learner = Polynomial(**REGRESSOR, inner_lr=(rng.uniform(0.05, 0.4),), inner_steps=steps)
    a, b = rng.standard_normal((2, 2, tasks, size, size)) / 2
    centre = rng.standard_normal((2, tasks, size, 1))
    support, query = np.concatenate([a + a.swapaxes(-1, -2), quartic * b, centre], axis=-1)
    params = {"net": {"head": {"w": rng.standard_normal(size)}}}
    return learner, params, Episode(support, np.zeros(tasks), query, np.zeros(tasks), 0)


def slope(theta, x):
    """The gradient of a polynomial loss at theta, and its Hessian."""
    size = len(x)
    a, b, d = x[:, :size], x[:, size:-1], theta - x[:, -1]
    return a @ d + b.T @ (b @ d) ** 3, a + 3 * b.T @ np.diag((b @ d) ** 2) @ b


@pytest.mark.parametrize("steps", [1, 2, 5])
@plain.drawn(10)
def test_meta_gradient_of_quadratic_tasks_is_their_closed_form(steps, seed):
    """(I - alpha A)^T C (theta_T - b), with theta_T = a + (I - alpha A)^T (theta - a), averaged over tasks."""
    learner, params, episode = polynomial(seed, steps, quartic=0)
    theta, expected = params["net"]["head"]["w"], []
    for support, query in zip(episode.xs, episode.xq, strict=True):
        power = np.linalg.matrix_power(np.eye(4) - learner.inner_lr[0] * support[:, :4], steps)
        last = support[:, -1] + power @ (theta - support[:, -1])
        expected.append(power @ query[:, :4] @ (last - query[:, -1]))
    expected = np.mean(expected, axis=0)
    found = learner.meta_grad(params, episode).grads["net"]["head"]["w"]
    assert np.linalg.norm(found - expected) <= 1e-10 * np.linalg.norm(expected)


@plain.drawn(10)
def test_meta_gradient_is_the_product_of_the_hessians_in_their_order(seed):
    """(I - alpha H_0) ... (I - alpha H_T-1) grad: the last one first. First-order MAML is that without the Hessians."""
    learner, params, episode = polynomial(seed, 3, quartic=0.5)
    rate, products = learner.inner_lr[0], []
    for support, query in zip(episode.xs, episode.xq, strict=True):
        theta, factors = params["net"]["head"]["w"], []
        for _ in range(3):
            gradient, hessian = slope(theta, support)
            factors.append(np.eye(4) - rate * hessian)
            theta = theta - rate * gradient
        last, _ = slope(theta, query)
        in_order, reversed_order = (np.linalg.multi_dot([*f, last]) for f in (factors, factors[::-1]))
        products.append((in_order, reversed_order, last))
    in_order, reversed_order, last = np.mean(products, axis=0)
    found = learner.meta_grad(params, episode).grads["net"]["head"]["w"]
    assert np.linalg.norm(found - in_order) <= 1e-10 * np.linalg.norm(in_order)
    assert np.linalg.norm(found - reversed_order) > 1e-6 * np.linalg.norm(in_order)
    first_order = replace(learner, order=1).meta_grad(params, episode).grads["net"]["head"]["w"]
    assert np.linalg.norm(first_order - last) <= 1e-10 * np.linalg.norm(last)


@pytest.mark.parametrize(
    "hyper",
    [
        *(STRIDED | {"inner_steps": steps} for steps in (1, 2, 3)),
        *(REGRESSOR | {"inner_steps": steps, "learn_rates": "step"} for steps in (1, 2, 3)),
        DENSE | {"inner_steps": 3, "learn_rates": "step"},
        REGRESSOR | {"inner_steps": 2, "learn_rates": "parameter"},
        FLAT | {"inner_steps": 2, "learn_rates": "parameter"},
        FLAT | {"inner_steps": 2, "adapt_norm": True, "reduction": "mean"},
        CONV4,
    ],
    ids=lambda hyper: "-".join(map(str, hyper.values())),
)
@plain.drawn(2)
def test_meta_gradient_is_the_derivative_of_the_unrolled_loss(hyper, seed):
    """Of weights, the shift that is not adapted, and learned rates: to 1e-7 of their norm."""
    plain_maml.check_meta_gradient(*case(seed, **{"inner_lr": (0.1,)} | hyper))


@pytest.mark.parametrize("hyper", [STRIDED, DENSE, CONV4, REGRESSOR])
@pytest.mark.parametrize("order", [1, 2])
def test_without_a_rate_it_is_plain_training(hyper, order):
    learner, params, episode = case(0, **hyper, inner_lr=(0.0,), inner_steps=2, order=order)

    def query_loss(net):
        scores = learner.scores(per_task(net, len(episode.xq)), episode.xq, episode.n_way)
        return learner.loss(scores, episode.yq)

    expected = grad(query_loss)(params["net"])
    tree.map(np.testing.assert_array_equal, learner.meta_grad(params, episode).grads["net"], expected)


class PiecewiseLinear(MAML):
    """One layer of ReLUs under a linear loss: all Hessians are 0."""

    def scores(self, weights, x, n_way, statistics=None):
        return ops.relu(x @ weights["head"]["w"])

    def loss(self, scores, targets):
        return ops.mean(scores * targets)


@plain.drawn(10)
def test_without_hessians_first_order_is_all(seed):
    rng = np.random.default_rng(seed)
    params = {"net": {"head": {"w": rng.standard_normal((3, 20))}}}
    x, targets = rng.standard_normal((2, 2, 8, 3)), rng.standard_normal((2, 2, 8, 20))
    episode = Episode(x[0], targets[0], x[1], targets[1], 0)
    learner = PiecewiseLinear(**REGRESSOR, inner_lr=(20.0,), inner_steps=3)
    second, first = (replace(learner, order=order).meta_grad(params, episode).grads for order in (2, 1))
    unmoved = replace(learner, inner_lr=(0.0,)).meta_grad(params, episode).grads
    assert_close(second, first, 1e-14)
    assert np.abs(second["net"]["head"]["w"] - unmoved["net"]["head"]["w"]).max() > 1e-3


@st.composite
def adaptations(draw):
    """Hyper-parameters of every kind, for networks whose gradient is known by hand."""
    steps, learn_rates = draw(st.integers(1, 3)), draw(st.sampled_from(LEARNED_RATES))
    rates = 1 if learn_rates == "parameter" else draw(st.sampled_from([1, steps]))
    return draw(st.sampled_from([DENSE, REGRESSOR])) | {
        "inner_steps": steps,
        "inner_lr": tuple(draw(st.lists(st.floats(0, 0.2), min_size=rates, max_size=rates))),
        "learn_rates": learn_rates,
        "test_steps": draw(st.integers(0, 4)),
        "reduction": draw(st.sampled_from(REDUCTIONS)),
        "adapt_norm": draw(st.booleans()),
    }


@settings(max_examples=15)
@given(hyper=adaptations(), seed=plain.seeds)
def test_adaptation_and_prediction_equal_an_independent_loop(hyper, seed):
    learner, params, episode = case(seed, **hyper)
    rates = plain_maml.rates_of(learner, params, learner.test_steps, episode.n_way)
    state = learner.adapt(params, *episode[:2], episode.n_way)
    scores = learner.predict(params, state, episode.xq)
    for t, (xs, ys, xq, _) in enumerate(zip(*episode[:4], strict=True)):
        net = plain_maml.adapt(params["net"], xs, ys, rates)
        assert_close(tree.map(lambda w, t=t: w[t], state.weights), net, 1e-10)
        assert_close(scores[t], plain_maml.network(learner.architecture, net, xq)[0], 1e-10)


@settings(max_examples=15)
@given(hyper=adaptations(), seed=plain.seeds)
def test_first_order_gradient_equals_an_independent_loop(hyper, seed):
    """The query's gradient at the adapted weights; a rate's is that along the step it was for, downhill."""
    learner, params, episode = case(seed, **hyper, order=1)
    rates = plain_maml.rates_of(learner, params, learner.inner_steps, episode.n_way)
    unit = plain_maml.rates_of(replace(learner, learn_rates="none", inner_lr=(1.0,)), params, 1, episode.n_way)[0]
    losses, expected = [], []
    for xs, ys, xq, yq in zip(*episode[:4], strict=True):
        net, steps = params["net"], []
        for rate in rates:
            steps.append(tree.map(lambda a, g: a * g, unit, plain_maml.gradient(net, xs, ys)))
            net = plain_maml.adapt(net, xs, ys, [rate])
        of_net = plain_maml.gradient(net, xq, yq)
        of_rates = [tree.map(lambda g, q: -g * q, step, of_net) for step in steps]
        losses.append(plain_maml.loss(plain_maml.network(learner.architecture, net, xq)[0], yq))
        found = {"net": of_net}
        if learner.learn_rates == "step":
            found["rates"] = np.array([sum(leaf.sum() for leaf in tree.leaves(one)) for one in of_rates])
        if learner.learn_rates == "parameter":
            found["rates"] = tree.map(lambda *parts: sum(parts), *of_rates)
        expected.append(found)
    loss, _, grads = learner.meta_grad(params, episode)
    np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-10)
    for path, found in tree.items(grads):
        of_tasks = [dict(tree.items(one))[path] for one in expected]
        np.testing.assert_allclose(found, np.mean(of_tasks, axis=0), rtol=0, atol=1e-10, err_msg="/".join(path))


@pytest.mark.parametrize("name", ["maml", "fomaml"])
@pytest.mark.parametrize("hyper", [FLAT | {"learn_rates": "parameter", "inner_steps": 2}, REGRESSOR])
def test_tasks_count_alike_in_chunks_of_any_size(name, hyper):
    learner, params, episode = case(0, tasks=5, **hyper, order=1 if name == "fomaml" else 2)
    whole = learner.meta_grad(params, episode)
    for chunk in (1, 2, 3, 4):
        assert_close(chunked_meta_grad(learner, params, episode, chunk), whole)
    alone = [learner.meta_grad(params, episode.tasks(slice(t, t + 1))).grads for t in range(5)]
    assert_close(tree.map(lambda *tasks: np.mean(tasks, axis=0), *alone), whole.grads)


def peak(learner, params, episode, chunk=None):
    """The most memory held by one meta-gradient, in bytes."""
    chunked_meta_grad(learner, params, episode, chunk)  # caches are none of its memory
    tracemalloc.start()
    try:
        chunked_meta_grad(learner, params, episode, chunk)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_recomputing_gives_the_same_gradient_in_less_memory():
    learner, params, episode = case(0, **STRIDED | {"size": 28, "filters": 4}, inner_lr=(0.1,), inner_steps=5)
    again = replace(learner, recompute=True)
    assert_close(again.meta_grad(params, episode), learner.meta_grad(params, episode))
    assert peak(again, params, episode) < 0.6 * peak(learner, params, episode)


def test_memory_grows_with_the_chunk_not_with_the_number_of_tasks():
    # so many filters that arrays outweigh what Python keeps of freed tuples
    learner, params, episode = case(0, tasks=16, **STRIDED | {"size": 28, "filters": 16})
    few = peak(learner, params, episode.tasks(slice(4)), chunk=2)
    assert peak(learner, params, episode, chunk=2) < 1.05 * few
    assert peak(learner, params, episode.tasks(slice(4))) > 1.3 * few


def test_without_second_derivatives_memory_does_not_grow_with_the_steps():
    few, more = (case(0, **STRIDED, inner_steps=steps, order=1) for steps in (5, 10))
    assert peak(*more) < 1.1 * peak(*few)


@pytest.mark.parametrize(("order", "recompute"), [(1, False), (2, False), (2, True)])
def test_nothing_is_left_of_a_training_step(order, recompute, live_nodes):
    learner, params, episode = case(0, **STRIDED, inner_steps=2, order=order, recompute=recompute)
    gc.collect()
    gc.disable()
    try:
        result = learner.meta_grad(params, episode)
        assert live_nodes() == 0
        assert gc.collect() == 0
    finally:
        gc.enable()
    assert not any(type(leaf) is Tensor for leaf in tree.leaves(result))


@pytest.mark.parametrize("n_way", [2, 3])
def test_a_rate_per_shot_is_one_for_the_mean_times_the_classes(n_way):
    """Those of the task, not those of the head."""
    per_shot, params, episode = case(0, **DENSE, inner_lr=(0.125,), inner_steps=2)
    episode = episode._replace(ys=episode.ys % n_way, yq=episode.yq % n_way, n_way=n_way)
    mean = replace(per_shot, reduction="mean", inner_lr=(0.125 * n_way,))
    assert_close(per_shot.meta_grad(params, episode), mean.meta_grad(params, episode))


@pytest.mark.parametrize("learn_rates", ["step", "parameter"])
def test_learned_rates_start_as_the_fixed_ones(learn_rates):
    """In float32, as training starts; to the bit."""
    fixed = make("maml", **STRIDED, inner_lr=(0.3,), inner_steps=2)
    learned = replace(fixed, learn_rates=learn_rates)
    params = learned.init(np.random.default_rng(0))
    assert {leaf.dtype for leaf in tree.leaves(params["rates"])} == {np.dtype(np.float32)}
    rates = {len(leaf) for leaf in tree.leaves(params["rates"])} if learn_rates == "step" else None
    assert rates in (None, {2})
    episode = plain.episode(np.random.default_rng(1), size=3)
    episode = episode._replace(xs=episode.xs.astype(np.float32), xq=episode.xq.astype(np.float32))
    np.testing.assert_array_equal(*(plain.logits(learner, params, episode) for learner in (learned, fixed)))


@pytest.mark.parametrize("learn_rates", ["none", "step"])
def test_the_last_rate_serves_all_further_steps(learn_rates):
    learner, params, episode = case(0, **STRIDED, inner_lr=(0.1, 0.05), inner_steps=2, learn_rates=learn_rates)
    rates = np.abs(params.pop("rates", learner.inner_lr))
    five = (*map(float, rates), *[float(rates[-1])] * 3)
    spelled = replace(learner, inner_lr=five, inner_steps=5, learn_rates="none", test_steps=5)
    found = plain.logits(replace(learner, test_steps=5), params | {"rates": rates}, episode)
    np.testing.assert_array_equal(found, plain.logits(spelled, params, episode))


@plain.drawn(5)
def test_a_head_of_which_a_task_uses_some_is_as_one_of_these(seed):
    """Scores, weights and gradients of the classes used, and no gradient of the others."""
    learner, params, episode = case(seed, **STRIDED, inner_steps=2)
    head = params["net"]["head"]
    noise = np.random.default_rng(seed).standard_normal((len(head["w"]) + 1, 2))
    wide = {"w": np.hstack([head["w"], noise[1:]]), "b": np.hstack([head["b"], noise[0]])}
    params_wide, wider = {"net": params["net"] | {"head": wide}}, replace(learner, way=5)
    assert_close(plain.logits(wider, params_wide, episode), plain.logits(learner, params, episode))
    found, expected = (one.meta_grad(p, episode).grads["net"] for one, p in ((wider, params_wide), (learner, params)))
    for name, gradient in found["head"].items():
        np.testing.assert_array_equal(gradient[..., 3:], 0)
        assert_close(gradient[..., :3], expected["head"][name])
    assert_close({k: v for k, v in found.items() if k != "head"}, {k: v for k, v in expected.items() if k != "head"})


@plain.drawn(5)
def test_classes_are_named_by_the_head_alone(seed):
    """With one and the same weights for each, renaming them permutes the scores; with different ones it does not."""
    learner, params, episode = case(seed, **STRIDED)
    order = np.array([2, 0, 1])
    renamed = episode._replace(ys=order[episode.ys])
    equal = tree.map(lambda w: w * 0 + w[..., :1], params["net"]["head"])
    blind = {"net": params["net"] | {"head": equal}}
    assert_close(plain.logits(learner, blind, renamed)[..., order], plain.logits(learner, blind, episode))
    moved = plain.logits(learner, params, renamed)[..., order] - plain.logits(learner, params, episode)
    assert np.abs(moved).max() > 1e-6


@pytest.mark.parametrize("mode", ["batch", "support+1", "episode"])
def test_states_are_those_before_and_after_each_step(mode):
    learner, params, episode = case(0, **STRIDED, batch_norm=mode, test_steps=5)
    support = (*episode[:2], episode.n_way)
    states = list(learner.states(params, *support))
    assert len(states) == 6
    tree.map(np.testing.assert_array_equal, states[0].weights, per_task(params["net"], 2))
    for steps, state in enumerate(states):
        shorter = replace(learner, test_steps=steps)
        tree.map(np.testing.assert_array_equal, state, shorter.adapt(params, *support))
        if steps <= 2:
            tree.map(np.testing.assert_array_equal, state, list(shorter.states(params, *support))[-1])
        step = [state.weights["head"]["b"] for state in states[max(steps - 1, 0) : steps + 1]]
        assert steps == 0 or np.abs(step[1] - step[0]).max() > 1e-6


def test_the_shift_of_batch_norm_is_trained_but_not_adapted():
    learner, params, episode = case(0, **FLAT, test_steps=2)
    for adapt_norm in (False, True):
        state = replace(learner, adapt_norm=adapt_norm).adapt(params, *episode[:2], episode.n_way)
        for key in ("beta", "gamma"):
            moved = np.abs(state.weights["conv4"][key] - params["net"]["conv4"][key]).max()
            assert (moved > 1e-6) == adapt_norm
    grads = learner.meta_grad(params, episode).grads["net"]
    assert all(np.abs(grads["conv4"][key]).max() > 1e-6 for key in ("beta", "gamma"))


def test_first_order_maml_is_maml_of_order_1():
    fields = vars(make("fomaml", inner_lr=(0.1,)))
    assert type(make("fomaml")) is FOMAML
    assert fields == vars(make("maml", inner_lr=(0.1,), order=1))


def test_defaults_are_the_papers_for_omniglot():
    learner = MAML()
    assert (learner.inner_lr, learner.inner_steps, learner.test_steps, learner.order) == ((0.4,), 1, 3, 2)
    assert (learner.architecture, learner.filters, learner.batch_norm) == ("strided", 64, "batch")
    assert (learner.reduction, learner.learn_rates, learner.adapt_norm) == ("per-shot", "none", False)


@pytest.mark.parametrize("name", ["maml", "fomaml"])
@pytest.mark.parametrize(
    ("architecture", "mode"),
    [
        *((architecture, "batch") for architecture in networks.ARCHITECTURES if architecture != "regressor"),
        ("strided", "support+1"),
        ("strided", "episode"),
    ],
)
def test_keeps_every_promise_of_a_learner(name, architecture, mode, monkeypatch):
    monkeypatch.setattr(networks, "DENSE", (8, 8))  # ReLUs of thousands switch too often for finite differences
    learner = make(name, way=3, architecture=architecture, size=16, filters=8, batch_norm=mode, inner_lr=(0.1,))
    check_learner(learner, size=16, transductive=mode == "batch")


@pytest.mark.parametrize(("way", "n_way"), [(3, 4), (3, 0), (0, 3)])
def test_tasks_that_the_head_is_not_for_are_refused(way, n_way):
    learner, params, episode = case(0, **(DENSE if way else REGRESSOR))
    message = re.escape(f"MAML: way={way}; its head is not for {n_way} classes (0: numbers)")
    with pytest.raises(ValueError, match=message):
        learner.adapt(params, *episode[:2], n_way)
    with pytest.raises(ValueError, match=message):
        learner.meta_loss(params, episode._replace(n_way=n_way))


@pytest.mark.parametrize(
    ("hyper", "message"),
    [
        ({"way": 1}, "way=1; need 2 classes or more, or 0 for regression"),
        ({"way": -1}, "way=-1; need way >= 0"),
        ({"architecture": "vgg"}, "architecture='vgg'; choose from strided, strided-flat, conv4, dense, regressor"),
        ({"batch_norm": "running"}, "batch_norm='running'; choose from batch, support+1, episode, none"),
        ({"batch_norm": "none"}, "architecture='strided' with batch_norm='none'; 'regressor' has no batch norm"),
        ({"architecture": "regressor"}, "architecture='regressor' with batch_norm='batch'; 'regressor' has no"),
        ({"filters": 0}, "filters=0; need filters >= 1"),
        ({"size": 0}, "size=0; need size >= 1"),
        ({"channels": 0}, "channels=0; need channels >= 1"),
        ({"test_steps": -1}, "test_steps=-1; need test_steps >= 0"),
        ({"inner_steps": 0}, "inner_steps=0; need inner_steps >= 1"),
        ({"order": 3}, "order=3; need 1"),
        ({"reduction": "sum"}, "reduction='sum'; choose from mean, per-shot"),
        ({"learn_rates": "all"}, "learn_rates='all'; choose from none, step, parameter"),
        ({"inner_lr": (float("nan"),)}, "inner_lr=(nan,); need a tuple of finite rates"),
        ({"inner_lr": (0.1, float("inf")), "inner_steps": 2}, "inner_lr=(0.1, inf); need a tuple of finite rates"),
        ({"inner_lr": 0.4}, "inner_lr=0.4; need a tuple of finite rates"),
        ({"inner_lr": (-0.1,)}, "inner_lr=(-0.1,); need a tuple of finite rates"),
        ({"order": 1, "recompute": True}, "recompute=True with order=1"),
        ({"inner_lr": ()}, "inner_lr=() with inner_steps=1"),
        ({"inner_lr": (0.1, 0.2), "inner_steps": 3}, "inner_lr=(0.1, 0.2) with inner_steps=3"),
        ({"inner_lr": (0.1, 0.2), "inner_steps": 2, "learn_rates": "parameter"}, "inner_lr=(0.1, 0.2) with"),
    ],
)
def test_bad_settings_are_named(hyper, message):
    with pytest.raises(ValueError, match=f"^FOMAML: {re.escape(message)}"):
        make("fomaml", **hyper)
