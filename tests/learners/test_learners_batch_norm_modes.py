"""By whose statistics support and queries are normalised, mode by mode, in plain NumPy, one query at a time."""

from __future__ import annotations

import numpy as np
import pytest

from minimeta import learners
from minimeta.learners import make
from minimeta.learners.metric_based import base
from minimeta.testing import check_learner
from tests.learners import plain

RELATION = {"size": 20, "padding": 1}


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


@pytest.mark.parametrize("mode", base.MODES)
@pytest.mark.parametrize("name", learners.names())
def test_every_learner_keeps_its_promises(name, mode):
    hyper = RELATION if name == "relation" else {"size": 8, "blocks": 2}
    learner = make(name, **hyper, filters=8, batch_norm=mode)
    check_learner(learner, size=learner.size, transductive=mode == "batch")


@pytest.mark.parametrize("mode", base.MODES)
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

    monkeypatch.setattr(base, "IMAGES_AT_ONCE", images)
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


@pytest.mark.parametrize("name", learners.names())
def test_unknown_modes_are_named(name):
    with pytest.raises(ValueError, match=r"batch_norm='frozen'; choose from running, batch, support\+1, episode"):
        make(name, batch_norm="frozen")
