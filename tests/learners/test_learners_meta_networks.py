"""Meta Networks beside loops in plain NumPy: what generators make, what gradients are let through, what is added up."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimeta import FewShotClassifier, tree
from minimeta.data import EpisodeSampler, glyphs
from minimeta.experiment import Model
from minimeta.learners import make
from minimeta.learners.coordinates import flat, layered, log_and_sign
from minimeta.learners.model_based import fast_weights
from minimeta.learners.model_based.meta_networks import State
from minimeta.recipe import Recipe
from minimeta.testing import check_learner
from tests.learners import plain, plain_maml
from tests.learners import plain_meta_networks as loops

SMALL = {"way": 3, "size": 5, "filters": 4, "chunks": 3, "hidden": 6}
GENERATORS = [(name, kind) for name in ("task", "example") for kind in ("conv", "dense")]
each_loss = pytest.mark.parametrize("extra", [0, 4], ids=["one-shot", "pairs"])


def example(seed, extra=0, n_way=3, ys=None, **hyper):
    """A learner, float64 parameters with noise on all, and two tasks with an example of each class and `extra` more.

    Small networks without biases are often blind to an image, and activations that are added often grow large: these
    are drawn until scores are moderate and depend on the fast weights of both kinds.
    """
    learner = make("meta-networks", **{**SMALL, **hyper})
    rng = np.random.default_rng(seed)
    episode = plain.episode(rng, way=n_way, extra=extra, size=learner.size)
    if ys is not None:
        episode = episode._replace(xs=episode.xs[:, : len(ys)], ys=np.array([ys, ys[::-1]]))
    needed = GENERATORS if episode.ys.shape[1] > 1 else GENERATORS[2:]  # to a single example no key matters
    for _ in range(300):
        params = plain.weights(learner, rng)
        for name in ("embedding", "base"):
            for layer in loops.CONVOLUTIONS:
                params[name][layer][1, 1] += 0.7 * np.eye(*params[name][layer].shape[2:])
        for name, kind in GENERATORS:
            params[name][kind]["out"]["b"] += 0.1
        scores = plain.logits(learner, params, episode)
        moved = (np.abs(scores - plain.logits(learner, without_output(params, of), episode)) for of in needed)
        if np.abs(scores).max() < 50 and all(change.max() > 1e-5 for change in moved):
            return learner, params, episode
    raise AssertionError("no network whose fast weights matter")


def adapt(learner, params, episode):
    return learner.adapt(params, *episode[:2], episode.n_way)


def close(found, expected, tolerance=1e-9):
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def without_output(params, *generators):
    """These generators say 0 of every coordinate."""
    for name, kind in generators:
        silent = {**params[name][kind], "out": tree.map(np.zeros_like, params[name][kind]["out"])}
        params = {**params, name: {**params[name], kind: silent}}
    return params


@pytest.mark.parametrize("sizes", [
    {},
    {"extra": 4},  # pairs, and 7 examples in 3 chunks
    {"extra": 1, "chunks": 9},
    {"chunks": 1, "way": 5},  # fewer classes than the head has
    {"extra": 2, "way": 5, "n_way": 2},
    {"ys": [2, 2, 0]},  # no more examples than classes, and two of one
    {"ys": [1, 1, 0], "n_way": 2, "extra": 1},  # pairs, where one class has one example
    {"size": 33, "filters": 2},  # an image of 2 x 2 is left for the dense layer
], ids=str)  # fmt: skip
@plain.drawn(1)
def test_scores_and_all_they_are_made_of_equal_a_loop(sizes, seed):
    learner, params, episode = example(seed, **sizes)
    state = adapt(learner, params, episode)
    scores = learner.predict(params, state, episode.xq)
    assert scores.shape == (2, 3, episode.n_way)
    for task, (xs, ys, xq) in enumerate(zip(*episode[:3], strict=True)):
        expected = loops.adapt(learner, params, xs, ys, episode.n_way)
        assert set(state.embedding) == set(expected.task)
        for name, w in expected.task.items():
            close(state.embedding[name][task], w)
        close(state.keys[task], expected.keys)
        assert set(state.memory) == set(expected.examples[0])
        for i, of_example in enumerate(expected.examples):
            for name, w in of_example.items():
                close(state.memory[name][task, i], w)
        close(scores[task], [loops.predict(params, expected, x, episode.n_way) for x in xq])


@each_loss
@plain.drawn(2)
def test_generators_that_say_nothing_leave_the_slow_networks(extra, seed):
    learner, params, episode = example(seed, extra)
    params = without_output(params, *GENERATORS)
    state = adapt(learner, params, episode)
    assert not any(w.any() for w in tree.leaves([state.embedding, state.memory]))
    scores = learner.predict(params, state, episode.xq)
    for task, (xs, xq) in enumerate(zip(episode.xs, episode.xq, strict=True)):
        close(state.keys[task], [loops.key([params["embedding"]], x) for x in xs], 1e-13)
        close(scores[task], [loops.scores([params["base"]], x) for x in xq], 1e-13)


@plain.drawn(2)
def test_with_one_example_its_weights_are_those_of_every_query_whatever_the_keys(seed):
    learner, params, episode = example(seed, ys=[1])
    state = adapt(learner, params, episode)
    scores = learner.predict(params, state, episode.xq)
    for task, xq in enumerate(episode.xq):
        nets = [params["base"], {name: w[task, 0] for name, w in state.memory.items()}]
        close(scores[task], [loops.scores(nets, x) for x in xq], 1e-12)
    _, other, _ = example(seed + 1)
    moved = {**params, "embedding": other["embedding"]}
    np.testing.assert_array_equal(learner.predict(moved, state._replace(keys=state.keys - 1), episode.xq), scores)


@plain.drawn(2)
def test_of_keys_only_the_direction_counts(seed):
    learner, params, episode = example(seed, extra=2)
    state = adapt(learner, params, episode)
    scores = learner.predict(params, state, episode.xq)
    longer = state.keys * np.random.default_rng(0).uniform(1, 9, (2, 5, 1))
    close(learner.predict(params, state._replace(keys=longer), episode.xq), scores, 1e-12)


@plain.drawn(2)
def test_activations_are_added_and_not_weights(seed):
    """Fast weights that are the slow ones negated: each layer is its absolute value, and not zero."""
    learner, params, episode = example(seed)
    base = params["base"]
    opposed = {name: np.broadcast_to(-w, (2, 3, *w.shape)) for name, w in base.items()} | {
        "head": np.zeros((2, 3, *base["head"].shape))
    }
    state = adapt(learner, params, episode)
    scores = learner.predict(params, State(state.embedding, state.keys, opposed, 3), episode.xq)
    for found, image in zip(scores.reshape(6, 3), episode.xq.reshape(6, 5, 5, 1), strict=True):
        x = image
        for name in loops.CONVOLUTIONS:
            x = loops.pool(np.abs(loops.conv(x, base[name])))
        expected = np.abs(x.ravel() @ base["dense"]) @ base["head"]
        assert np.abs(expected).max() > 1e-6
        close(found, expected, 1e-12)


@plain.drawn(2)
def test_an_example_is_remembered_by_its_own_gradient_alone(seed):
    learner, params, episode = example(seed, extra=4)
    memory = adapt(learner, params, episode).memory
    for i in range(episode.xs.shape[1]):
        alone = episode._replace(xs=episode.xs[:, [i]], ys=episode.ys[:, [i]])
        for name, w in adapt(learner, params, alone).memory.items():
            close(w[:, 0], memory[name][:, i], 1e-11)
    assert all((np.ptp(w, axis=1).max(axis=tuple(range(1, w.ndim - 1))) > 1e-6).all() for w in memory.values())


@each_loss
@plain.drawn(2)
def test_the_order_of_the_support_set_matters_between_chunks_only(extra, seed):
    learner, params, episode = example(seed, extra)
    turned = episode._replace(xs=episode.xs[:, ::-1], ys=episode.ys[:, ::-1])
    here, there = (adapt(learner, params, of).embedding for of in (episode, turned))
    assert any(np.abs(here[name] - there[name]).max() > 1e-6 for name in here)
    if not extra:  # pairs are of examples that follow each other
        learner = make("meta-networks", **{**SMALL, "chunks": 1})
        found, expected = (plain.logits(learner, params, of) for of in (turned, episode))
        close(found, expected, 1e-11)


def freeze(monkeypatch, learner, params, episode):
    """From here on gradients of support sets are what they are for these parameters."""
    stored, gradients = {}, fast_weights.gradients

    def record(net, names, losses, ys):
        stored[names] = gradients(net, names, losses, ys)
        return stored[names]

    monkeypatch.setattr(fast_weights, "gradients", record)
    adapt(learner, params, episode)
    assert len(stored) == 2
    monkeypatch.setattr(fast_weights, "gradients", lambda net, names, losses, ys: stored[names])


@pytest.mark.parametrize("embedding_loss", [0.0, 0.7])
@each_loss
@plain.drawn(1)
def test_meta_gradient_is_that_with_gradients_held_fixed(extra, embedding_loss, seed):
    """Of a loss that is then an ordinary function: by differences. Nothing comes through the gradients: to the bit."""
    learner, params, episode = example(seed, extra, embedding_loss=embedding_loss)
    free = learner.meta_grad(params, episode)
    with pytest.MonkeyPatch.context() as monkeypatch:
        freeze(monkeypatch, learner, params, episode)
        fixed = learner.meta_grad(params, episode)
        tree.map(np.testing.assert_array_equal, free, fixed)
        plain_maml.check_meta_gradient(learner, params, episode)
    for name, kind in GENERATORS:
        assert max(np.abs(g).max() for g in tree.leaves(free.grads[name][kind])) > 1e-7


@each_loss
@plain.drawn(2)
def test_loss_is_of_the_queries_and_by_wish_of_the_embedding(extra, seed):
    _, params, episode = example(seed, extra)
    expected = own = 0
    for xs, ys, xq, yq in zip(*episode[:4], strict=True):
        learner = make("meta-networks", **SMALL)
        memory = loops.adapt(learner, params, xs, ys, 3)
        for x, y in zip(xq, yq, strict=True):
            expected -= math.log(plain.softmax(loops.predict(params, memory, x, 3))[y]) / yq.size / 2
        own += loops.embedding_loss(params["embedding"], xs, ys, 3) / 2
    for weight in (0.0, 0.5):
        learner = make("meta-networks", **SMALL, embedding_loss=weight)
        np.testing.assert_allclose(learner.meta_loss(params, episode)[0], expected + weight * own, rtol=1e-9)


@pytest.mark.parametrize(("extra", "trained", "other"), [(0, "head", "pair"), (4, "pair", "head")])
def test_what_is_only_in_the_loss_of_the_embedding_stays_as_drawn_unless_that_is_asked_for(extra, trained, other):
    learner, params, episode = example(2, extra)  # an embedding that is not blind to any image
    grads = learner.meta_grad(params, episode).grads["embedding"]
    assert not grads["head"].any()
    assert not grads["pair"].any()
    assert grads["dense"].any()
    learner = make("meta-networks", **SMALL, embedding_loss=0.5)
    grads = learner.meta_grad(params, episode).grads["embedding"]
    assert grads[trained].any()
    assert not grads[other].any()
    weights = params["embedding"][trained]
    shifted = weights + np.random.default_rng(0).random(weights.shape)  # by one number, all scores would move alike
    moved = {**params, "embedding": {**params["embedding"], trained: shifted}}
    assert np.abs(plain.logits(learner, moved, episode) - plain.logits(learner, params, episode)).max() > 1e-9


def test_sizes_are_the_official_ones():
    params = make("meta-networks").init(np.random.default_rng(0))
    for name in ("embedding", "base"):
        net = params[name]
        assert sum(w.size for layer, w in net.items() if layer.startswith("conv")) == 148_032
        assert net["dense"].shape == (64, 64)
        assert net["head"].shape == (64, 5)
    for kind in ("conv", "dense"):
        assert {k: w.shape for k, w in params["task"][kind].items() if k != "out"} == {
            "w": (2, 80), "u": (20, 80), "b": (80,)
        }  # fmt: skip
        mlp = params["example"][kind]
        assert [layer["w"].shape for layer in mlp.values()] == [(2, 20), (20, 20), (20, 1)]


@pytest.mark.parametrize(("size", "left"), [(1, 1), (28, 1), (32, 1), (33, 2), (84, 3)])
def test_pooling_rounds_up(size, left):
    learner = make("meta-networks", size=size, filters=2, channels=3, hidden=2)
    params = learner.init(np.random.default_rng(0))
    assert params["base"]["dense"].shape == (left * left * 2, 2)
    x = np.random.default_rng(1).random((1, 2, size, size, 3), np.float32)
    state = learner.adapt(params, x, np.arange(2)[None], 2)
    assert np.isfinite(learner.predict(params, state, x)).all()


def test_weights_are_drawn_by_fan_in_and_those_that_generate_a_hundredth_of_it():
    params = make("meta-networks", size=84, way=50, hidden=300).init(np.random.default_rng(0))
    for path, w in tree.items(params):
        assert w.dtype == np.float32
        if path[-1] == "b":
            ones = np.repeat([0, 1, 0, 0], 300) if len(w) == 1200 else np.zeros(len(w))
            np.testing.assert_array_equal(w, ones)  # a cell forgets little
            continue
        spread = w.std() * math.sqrt(w[..., 0].size) / (0.01 if "out" in path else 1)
        assert abs(spread - 1) < 5 / math.sqrt(2 * w.size), path


def test_scores_begin_in_the_size_of_those_without_fast_weights():
    learner = make("meta-networks", filters=32)
    params, episode = learner.init(np.random.default_rng(0)), EpisodeSampler(glyphs.load("train"), 5, 1, 2).batch(0, 1)
    scores, slow = (plain.logits(learner, of, episode) for of in (params, without_output(params, *GENERATORS)))
    assert scores.dtype == np.float32
    assert 0.1 < np.abs(scores).max() / np.abs(slow).max() < 10
    assert np.abs(scores - slow).max() > 1e-6


@pytest.mark.parametrize(("shot", "hyper"), [(1, {}), (2, {"embedding_loss": 0.5})])
def test_keeps_every_promise_of_a_learner(shot, hyper):
    learner = make("meta-networks", way=3, size=14, filters=16, hidden=4, **hyper)
    assert learner.order_sensitive
    assert learner.label_sensitive
    assert not learner.exact_gradient
    check_learner(learner, shot=shot, size=14, overfit_steps=40)


def test_a_classifier_takes_classes_of_different_sizes_up_to_those_of_the_head():
    recipe = Recipe("meta-networks", "glyphs", way=3, shot=1, query=2, hyper={"filters": 4, "hidden": 4})
    learner = recipe.make_learner()
    model = Model(learner, learner.init(np.random.default_rng(0)), recipe)
    drawings = glyphs.load("train", classes=4).images[:, :3]
    for labels in (["a", "b"], ["a", "b", "c"], ["a", "b", "b", "c", "a"], ["b", "a", "b"]):
        X = np.concatenate([drawings[:3, 0], drawings[:2, 1]])[: len(labels)]
        classifier = FewShotClassifier(model).fit(X, labels)
        chances = classifier.predict_proba(drawings[:, 2])
        assert chances.shape == (4, len(set(labels)))
        np.testing.assert_allclose(chances.sum(axis=1), 1)
        assert set(classifier.predict(drawings[:, 2])) <= set(labels)
    with pytest.raises(ValueError, match="MetaNetworks: way=3; its head is not for 4 classes"):
        classifier.fit(drawings[:, 0], ["a", "b", "c", "d"])


shapes = st.lists(st.lists(st.integers(1, 3), max_size=3).map(tuple), min_size=1, max_size=4)


@given(shapes, st.integers(1, 3), st.integers(1, 3), plain.seeds)
def test_flat_and_layered_are_each_others_inverse(shapes, tasks, other, seed):
    rng = np.random.default_rng(seed)
    weights = {f"layer{i}": {"w": rng.random((tasks, *shape))} for i, shape in enumerate(shapes)}
    theta = flat(weights)
    assert theta.shape == (tasks, sum(math.prod(shape) for shape in shapes))
    tree.map(np.testing.assert_array_equal, layered(theta, weights), weights)
    rows = rng.random((other, theta.shape[1]))  # of another number of tasks
    np.testing.assert_array_equal(flat(layered(rows, weights)), rows)


@pytest.mark.parametrize("sign", [-1, 1])
def test_at_the_border_of_its_cases_log_and_sign_is_minus_one_and_the_sign(sign):
    for factor in (1 - 1e-12, 1, 1 + 1e-12):
        close(log_and_sign(np.array(sign * factor * math.exp(-7)), fast_weights.P), [-1, sign], 1e-11)


def test_bad_settings_are_named():
    for name, least in (("way", 2), *((name, 1) for name in ("size", "channels", "filters", "chunks", "hidden"))):
        with pytest.raises(ValueError, match=f"MetaNetworks: {name}={least - 1}; need {name} >= {least}"):
            make("meta-networks", **{name: least - 1})
    for weight in (-0.1, math.inf, math.nan):
        with pytest.raises(ValueError, match=f"MetaNetworks: embedding_loss={weight}; need a finite number, 0 or more"):
            make("meta-networks", embedding_loss=weight)


def test_more_classes_than_the_head_has_are_refused():
    learner, rng = make("meta-networks", **SMALL), np.random.default_rng(0)
    params, episode = learner.init(rng), plain.episode(rng, way=4, size=5)
    with pytest.raises(ValueError, match="MetaNetworks: way=3; its head is not for 4 classes"):
        adapt(learner, params, episode)
