"""Relation networks against pairs made one by one: maps stacked, one convolution for the stack, one batch norm."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from minimeta import tree
from minimeta.learners import make
from tests.learners import plain

SMALL = {"size": 20, "filters": 2, "padding": 1}


def plain_loss(params, xs, ys, xq, yq, n_way):
    support, queries = (plain.relation_embed(params["net"], x)[0] for x in (xs, xq))
    scores, _ = plain.relation_scores(params["relation"], plain.of_classes(np.sum, support, ys, n_way), queries)
    relations = plain.sigmoid(scores)
    return np.mean([(relations[q, n] - (n == yq[q])) ** 2 for q, n in np.ndindex(relations.shape)])


def case(seed, **hyper):
    rng = np.random.default_rng(seed)
    learner = make("relation", **SMALL | hyper)
    return learner, plain.weights(learner, rng), plain.episode(rng, size=learner.size, query=4)


@plain.drawn(5)
def test_meta_gradient_equals_an_independent_loop(seed):
    plain.check_meta_gradient(*case(seed), plain_loss)


@pytest.mark.parametrize("batch_norm", ["batch", "running"])
@pytest.mark.parametrize("paddings", [(20, 1, 1), (28, 0, 1), (36, 2, 0)])
@plain.drawn(3)
def test_scores_equal_full_convolutions_of_stacked_maps(batch_norm, paddings, seed):
    size, padding, relation_padding = paddings
    learner, params, episode = case(
        seed, size=size, batch_norm=batch_norm, padding=padding, relation_padding=relation_padding
    )
    given = params["running"] if batch_norm == "running" else None
    for xs, ys, xq, found in zip(*episode[:3], plain.logits(learner, params, episode), strict=True):
        support, queries = (plain.relation_embed(params["net"], x, given, padding)[0] for x in (xs, xq))
        classes = plain.of_classes(np.sum, support, ys, 3)
        expected, _ = plain.relation_scores(params["relation"], classes, queries, given, relation_padding)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("way", [2, 5, 20])
def test_constant_relations_of_1_in_n_lose_what_they_must(way):
    """The plateau: 0.16 for 5 classes, 0.0475 for 20."""
    logits, labels = np.full((2, 6, way), -np.log(way - 1)), np.arange(12).reshape(2, 6) % way
    loss = make("relation").loss(logits, labels)
    np.testing.assert_allclose(loss, (way - 1) / way**2, rtol=1e-14)


@plain.drawn(10)
def test_renaming_the_classes_permutes_the_columns(seed):
    learner, params, episode = case(seed)
    order = np.random.default_rng(seed).permutation(3)
    renamed = plain.logits(learner, params, episode._replace(ys=order[episode.ys]))
    np.testing.assert_allclose(renamed[..., order], plain.logits(learner, params, episode), rtol=0, atol=1e-12)


@plain.drawn(10)
def test_the_maps_of_repeated_examples_add_up(seed):
    learner, params, episode = case(seed, batch_norm="running")
    one = learner.adapt(params, *episode[:2], 3)
    thrice = learner.adapt(params, np.tile(episode.xs, (1, 3, 1, 1, 1)), np.tile(episode.ys, (1, 3)), 3)
    np.testing.assert_allclose(thrice.summary, 3 * one.summary, rtol=1e-12)


def test_sizes_and_parameters_are_the_papers():
    """111,936 + 111,505 parameters by the authors, with a bias for each of the six convolutions, which norms cancel."""
    learner = make("relation")
    params = learner.init(np.random.default_rng(0))
    count = {part: sum(w.size for w in tree.leaves(params[part])) for part in ("net", "relation")}
    assert {part: n + 64 * blocks for (part, n), blocks in zip(count.items(), (4, 2), strict=True)} == {
        "net": 111_936,
        "relation": 111_505,
    }
    maps, _ = learner.embed(params, np.zeros((1, 1, 28, 28, 1), np.float32), None)
    assert (maps.shape, learner.features) == ((1, 1, 5, 5, 64), 64)
    mini = make("relation", size=84, channels=3, relation_padding=0)
    maps, _ = mini.embed(mini.init(np.random.default_rng(0)), np.zeros((1, 1, 84, 84, 3), np.float32), None)
    assert (maps.shape, mini.features) == ((1, 1, 19, 19, 64), 64 * 9)


def test_weights_start_as_the_authors_do():
    params = make("relation").init(np.random.default_rng(0))
    assert params["net"]["conv2"]["w"].std() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)
    assert params["relation"]["fc1"]["w"].std() == pytest.approx(0.01, rel=0.1)
    for layer in ("fc1", "fc2"):
        np.testing.assert_array_equal(params["relation"][layer]["b"], 1)


@plain.drawn(5)
def test_running_statistics_are_those_of_support_and_queries_in_equal_parts(seed):
    learner, params, episode = case(seed)
    found = learner.meta_loss(params, episode)[1]["running"]
    seen = [plain.relation_embed(params["net"], x)[1] for both in (episode.xs, episode.xq) for x in both]
    for name, key in itertools.product(params["net"], ("mean", "var")):
        new = np.mean([one[name][key] for one in seen], axis=0)
        expected = 0.9 * params["running"][name][key] + 0.1 * new
        np.testing.assert_allclose(found[name][key], expected, rtol=0, atol=1e-12)


def test_unknown_settings_are_named():
    with pytest.raises(ValueError, match="Relation: hidden=0; need hidden >= 1"):
        make("relation", hidden=0)
    with pytest.raises(ValueError, match="Relation: blocks=1; need blocks >= 2"):
        make("relation", blocks=1)
    with pytest.raises(ValueError, match="Relation: padding=-1; need padding >= 0"):
        make("relation", padding=-1)
    with pytest.raises(ValueError, match="poolings leave nothing of 16 x 16 pixels"):
        make("relation", size=16)


def test_only_the_blocks_that_pool_ask_for_pixels():
    """Two of the embedding's, two of the relation network's, whatever `blocks` is."""
    learner = make("relation", **SMALL, blocks=6)
    episode = plain.episode(np.random.default_rng(0), size=20)
    assert plain.logits(learner, learner.init(np.random.default_rng(0)), episode).shape == (2, 3, 3)
