"""By whose statistics support and queries are normalised, mode by mode, in plain NumPy, one query at a time."""

from __future__ import annotations

import re

import numpy as np
import pytest

from minimeta import learners, tree
from minimeta.learners import make, query_by_query
from minimeta.learners.metric_based.base import MetricLearner
from minimeta.learners.optimization_based.base import OptimizationLearner
from minimeta.testing import check_learner
from tests.learners import plain, plain_maml

RELATION = {"size": 20, "padding": 1}


def modes_of(family):
    """The names of a family's learners, each with each of its modes."""
    made = {name: make(name) for name in learners.names()}
    normed = {name: learner.modes for name, learner in made.items() if isinstance(learner, family)}
    return [(name, mode) for name, modes in normed.items() for mode in modes if mode != "none"]


METRIC, OPTIMIZATION = modes_of(MetricLearner), modes_of(OptimizationLearner)


class Prototypical:
    """The parts of a prototypical network for one task; each returns the statistics it saw, too."""

    hyper = ("prototypical", plain.SMALL)

    @staticmethod
    def embed(params, x, given):
        return plain.conv_net(params["net"], x, given)

    @staticmethod
    def compare(params, support, labels, queries, given):
        centres = plain.of_classes(np.mean, support, labels, 3)
        return np.array([[-((query - centre) ** 2).sum() for centre in centres] for query in queries]), {}


class Relation:
    """The parts of a relation network, which normalises again in comparing."""

    hyper = ("relation", RELATION | {"filters": 2})

    @staticmethod
    def embed(params, x, given):
        return plain.relation_embed(params["net"], x, given)

    @staticmethod
    def compare(params, support, labels, queries, given):
        classes = plain.of_classes(np.sum, support, labels, 3)
        return plain.relation_scores(params["relation"], classes, queries, given)


def running(parts, params, xs, ys, xq):
    support, queries = (parts.embed(params, x, params["running"])[0] for x in (xs, xq))
    return parts.compare(params, support, ys, queries, params["running"])[0]


def batch(parts, params, xs, ys, xq):
    """Support and queries apart."""
    support, queries = (parts.embed(params, x, None)[0] for x in (xs, xq))
    return parts.compare(params, support, ys, queries, None)[0]


def episode(parts, params, xs, ys, xq):
    """The support by its own, the queries by the support's, also those of its comparison with itself."""
    support, seen = parts.embed(params, xs, None)
    statistics = seen | parts.compare(params, support, ys, support, None)[1]
    queries, _ = parts.embed(params, xq, statistics)
    return parts.compare(params, support, ys, queries, statistics)[0]


def support_plus_one(parts, params, xs, ys, xq):
    """The batch of the support and one query, compared as a whole."""
    scores = []
    for query in xq:
        features, _ = parts.embed(params, np.concatenate([xs, query[None]]), None)
        scores.append(parts.compare(params, features[:-1], ys, features, None)[0][-1])
    return np.array(scores)


PLAIN = {"running": running, "batch": batch, "episode": episode, "support+1": support_plus_one}


def case(parts, mode, seed):
    rng = np.random.default_rng(seed)
    name, hyper = parts.hyper
    learner = make(name, **hyper, batch_norm=mode)
    return learner, plain.weights(learner, rng), plain.episode(rng, query=4, size=learner.size)


def check(learner, params, of, parts, mode):
    expected = [PLAIN[mode](parts, params, *task) for task in zip(*of[:3], strict=True)]
    np.testing.assert_allclose(plain.logits(learner, params, of), expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(("name", "mode"), METRIC)
def test_every_metric_based_learner_keeps_its_promises(name, mode):
    hyper = RELATION if name == "relation" else {"size": 8, "blocks": 2}
    learner = make(name, **hyper, filters=8, batch_norm=mode)
    check_learner(learner, size=learner.size, transductive=mode == "batch")


@pytest.mark.parametrize("mode", PLAIN)
@pytest.mark.parametrize("parts", [Prototypical, Relation])
@plain.drawn(4)
def test_each_mode_normalises_as_it_says(parts, mode, seed):
    """Two tasks at once against each alone: statistics of tasks stay apart."""
    check(*case(parts, mode, seed), parts, mode)


@pytest.mark.parametrize("parts", [Prototypical, Relation])
@pytest.mark.parametrize("images", [1, 12, 25])
def test_queries_are_taken_a_few_at_a_time_where_memory_is_short(parts, images, monkeypatch):
    """2 tasks of 5 + 1 images: 12 are one query of both; fewer cannot be."""
    learner, params, of = case(parts, "support+1", 0)
    seen, embed = [], type(learner).embed

    def counted(self, params, x, statistics):
        seen.append(x.shape[0] * x.shape[1])
        return embed(self, params, x, statistics)

    monkeypatch.setattr(query_by_query, "IMAGES_AT_ONCE", images)
    monkeypatch.setattr(type(learner), "embed", counted)
    check(learner, params, of, parts, "support+1")
    assert seen == ([24, 24] if images == 25 else [12] * 4)


@pytest.mark.parametrize("mode", ["running", "batch", "episode", "support+1"])
@plain.drawn(3)
def test_training_does_not_depend_on_the_mode(mode, seed):
    """It normalises by the batch of support and queries, and averages what it saw into the running statistics."""
    learner, params, of = case(Prototypical, mode, seed)
    loss, aux = learner.meta_loss(params, of)
    seen = [plain.conv_net(params["net"], np.concatenate(pair))[1] for pair in zip(of.xs, of.xq, strict=True)]
    losses = []
    for xs, ys, xq, yq in zip(*of[:4], strict=True):
        support, queries = plain.embed_both(params, xs, xq)
        scores, _ = Prototypical.compare(params, support, ys, queries, None)
        losses += [-np.log(plain.softmax(row)[label]) for row, label in zip(scores, yq, strict=True)]
    np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-12)
    for name, before in params["running"].items():
        for key, old in before.items():
            expected = 0.9 * old + 0.1 * np.mean([one[name][key] for one in seen], axis=0)
            np.testing.assert_allclose(aux["running"][name][key], expected, rtol=0, atol=1e-12)


def adapting(name, mode):
    """An optimization-based learner, parameters with noise on all, and tasks."""
    rng = np.random.default_rng(0)
    learner = make(name, way=3, size=16, filters=2, test_steps=2, batch_norm=mode)
    params, tasks = plain.weights(learner, rng), plain.episode(rng, query=4, size=16)
    running = tree.map(np.abs, params.get("running", {}))  # there are roots of them
    return learner, params | ({"running": running} if running else {}), tasks


@pytest.mark.parametrize(("name", "mode"), OPTIMIZATION)
def test_adapted_weights_predict_in_each_mode_as_it_says(name, mode):
    learner, params, tasks = adapting(name, mode)
    state = learner.adapt(params, *tasks[:2], 3)
    scores = learner.predict(params, state, tasks.xq)
    for t, (xs, xq) in enumerate(zip(tasks.xs, tasks.xq, strict=True)):
        net = tree.map(lambda w, t=t: w[t], state.weights)

        def score(x, given=None, net=net):
            return plain_maml.network(learner.architecture, net, x, given)[0]

        expected = {
            "running": lambda: score(xq, params["running"]),  # noqa: B023 (used at once)
            "batch": lambda: score(xq),  # noqa: B023
            "episode": lambda: score(xq, plain_maml.network(learner.architecture, net, xs)[1]),  # noqa: B023
            "support+1": lambda: np.stack([score(np.concatenate([xs, query[None]]))[-1] for query in xq]),  # noqa: B023
        }[mode]()
        np.testing.assert_allclose(scores[t], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", dict(OPTIMIZATION))
def test_adaptation_and_training_do_not_depend_on_the_mode(name):
    """Support sets, and queries in training, are normalised by their own; but where averages are kept, by these."""
    found = {mode: adapting(name, mode) for of_name, mode in OPTIMIZATION if of_name == name}
    weights = [
        learner.adapt(params, *tasks[:2], 3).weights
        for mode, (learner, params, tasks) in found.items()
        if mode != "running"
    ]
    signals = [learner.meta_grad(params, tasks) for learner, params, tasks in found.values()]
    assert len(weights) >= 3
    for first, *others in (weights, signals):
        for other in others:
            tree.map(np.testing.assert_array_equal, other, first)


@pytest.mark.parametrize("name", dict(METRIC + OPTIMIZATION))
def test_unknown_modes_are_named(name):
    modes = re.escape(", ".join(type(make(name)).modes))
    with pytest.raises(ValueError, match=f"batch_norm='frozen'; choose from {modes}"):
        make(name, batch_norm="frozen")
