"""Full context embeddings by the equations: a bidirectional LSTM over the support, an attending LSTM for each query."""

from __future__ import annotations

import numpy as np
import pytest

from minimeta import tree
from minimeta.learners import make
from minimeta.learners.metric_based.matching_fce import embed_queries, embed_support
from minimeta.testing import check_learner
from tests.learners import plain


def cell(x, hidden, state, lstm):
    """One step of an LSTM; gates in the order input, forget, output, candidate."""
    gates = x @ lstm["w"] + hidden @ lstm["u"] + lstm["b"]
    i, f, o, candidate = np.split(gates, 4)
    state = plain.sigmoid(f) * state + plain.sigmoid(i) * np.tanh(candidate)
    return plain.sigmoid(o) * np.tanh(state), state


def plain_support(lstm, features):
    """g(x_i, S) of one task's features [S, D]."""

    def one_way(items, weights):
        hidden = state = np.zeros(items.shape[1])
        outputs = []
        for item in items:
            hidden, state = cell(item, hidden, state, weights)
            outputs.append(hidden)
        return outputs

    forward, backward = ({name: both[i] for name, both in lstm.items()} for i in range(2))
    backwards = one_way(features[::-1], backward)[::-1]
    return np.array([f + b + x for f, b, x in zip(one_way(features, forward), backwards, features, strict=True)])


def plain_query(lstm, query, support, reads):
    """f(x, S) of one query [D]."""
    hidden, state = query, np.zeros_like(query)
    for _ in range(reads):
        read = plain.softmax(support @ hidden) @ support
        output, state = cell(query, np.concatenate([hidden, read]), state, lstm)
        hidden = output + query
    return hidden


def plain_loss(reads):
    def loss(params, xs, ys, xq, yq, n_way):
        support, queries = plain.embed_both(params, xs, xq)
        support = plain_support(params["support_lstm"], support)
        chances = []
        for query, label in zip(queries, yq, strict=True):
            query = plain_query(params["query_lstm"], query, support, reads)
            scores = [np.exp(params["log_temperature"]) * plain.SIMILARITIES["cosine"](query, x) for x in support]
            chances.append(plain.votes(plain.softmax(scores), ys, n_way)[label])
        return -np.log(chances).mean()

    return loss


def features_and_weights(seed):
    """Features of support [2, 5, 8] and queries [2, 3, 8], and weights for them."""
    rng = np.random.default_rng(seed)
    params = plain.weights(make("matching-fce", **plain.SMALL), rng)
    return rng.random((2, 5, 8)), rng.random((2, 3, 8)), params


@pytest.mark.parametrize("reads", [0, 1, 3])
def test_keeps_every_promise_of_a_learner(reads):
    learner = make("matching-fce", **plain.SMALL, reads=reads)
    assert learner.order_sensitive
    check_learner(learner, size=8)


@pytest.mark.parametrize("reads", [1, 3])
@plain.drawn(5)
def test_meta_gradient_equals_an_independent_loop(reads, seed):
    rng = np.random.default_rng(seed)
    learner = make("matching-fce", **plain.SMALL, reads=reads, temperature=2.0)
    plain.check_meta_gradient(learner, plain.weights(learner, rng), plain.episode(rng), plain_loss(reads))


@plain.drawn(20)
def test_embeddings_equal_the_equations(seed):
    support, queries, params = features_and_weights(seed)
    found = embed_support(params["support_lstm"], support)
    expected = [plain_support(params["support_lstm"], task) for task in support]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    for reads in (0, 1, 4):
        of_queries = embed_queries(params["query_lstm"], queries, found, reads)
        for t, q in np.ndindex(2, 3):
            one = plain_query(params["query_lstm"], queries[t, q], found[t], reads)
            np.testing.assert_allclose(of_queries[t, q], one, rtol=0, atol=1e-12)


@pytest.mark.parametrize("reads", [0, 1, 5])
@plain.drawn(5)
def test_with_all_lstm_weights_zero_it_is_plain_matching(reads, seed):
    rng = np.random.default_rng(seed)
    learner, episode = make("matching-fce", **plain.SMALL, reads=reads), plain.episode(rng)
    params = plain.weights(learner, rng)
    silent = {name: tree.map(np.zeros_like, params[name]) for name in ("support_lstm", "query_lstm")}
    expected = plain.logits(make("matching", **plain.SMALL), params, episode)
    np.testing.assert_array_equal(plain.logits(learner, {**params, **silent}, episode), expected)


@plain.drawn(10)
def test_without_reads_queries_stay_as_they_are(seed):
    support, queries, params = features_and_weights(seed)
    np.testing.assert_array_equal(embed_queries(params["query_lstm"], queries, support, 0), queries)


@plain.drawn(10)
def test_the_order_of_the_support_matters_to_it_but_not_to_its_readers(seed):
    support, queries, params = features_and_weights(seed)
    order = np.array([1, 2, 3, 4, 0])
    embedded = embed_support(params["support_lstm"], support)
    turned = embed_support(params["support_lstm"], support[:, order])
    assert np.abs(turned - embedded[:, order]).max() > 1e-4
    f, of_turned = (embed_queries(params["query_lstm"], queries, g, 3) for g in (embedded, embedded[:, order]))
    np.testing.assert_allclose(of_turned, f, rtol=0, atol=1e-12)


def test_unknown_settings_are_named():
    with pytest.raises(ValueError, match="MatchingFCE: reads=-1; need reads >= 0"):
        make("matching-fce", reads=-1)
    with pytest.raises(ValueError, match=r"MatchingFCE: temperature=-1\.0; need a finite temperature > 0"):
        make("matching-fce", temperature=-1.0)
