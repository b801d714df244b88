"""Queries scored one by one: as a naive loop over them does, whatever the others are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minimeta import Tensor
from minimeta.autodiff import grad
from minimeta.learners import query_by_query as module
from minimeta.learners.query_by_query import query_by_query
from tests.learners import plain


def score(of_task, images):
    """Every image by its task's weights, beside the mean of all images at hand: sees whatever it is given."""
    centred = images - images.mean(axis=1, keepdims=True)
    return centred.reshape(*images.shape[:2], -1) @ of_task["w"] * of_task["scale"][:, None, None]


def case(rng, tasks, shots, queries, feat=(3, 2)):
    size = int(np.prod(feat))
    of_task = {"w": rng.standard_normal((tasks, size, 4)), "scale": rng.standard_normal(tasks)}
    return of_task, rng.standard_normal((tasks, shots, *feat)), rng.standard_normal((tasks, queries, *feat))


def one_by_one(of_task, xs, xq):
    scores = np.empty((len(xq), xq.shape[1], 4))
    for t, q in np.ndindex(scores.shape[:2]):
        of_this = {name: leaf[t : t + 1] for name, leaf in of_task.items()}
        scores[t, q] = score(of_this, np.concatenate([xs[t], xq[t, q : q + 1]])[None])[0, -1]
    return scores


sizes = st.integers(1, 5)


@settings(max_examples=40)
@given(seed=plain.seeds, tasks=sizes, shots=sizes, queries=sizes, at_once=st.integers(1, 60))
def test_equals_a_loop_over_queries(seed, tasks, shots, queries, at_once):
    """However many images are in hand at once; never more than allowed, unless one query of each task already is."""
    of_task, xs, xq = case(np.random.default_rng(seed), tasks, shots, queries)
    seen = []

    def watched(of_task, images):
        seen.append(images.shape[0] * images.shape[1])
        return score(of_task, images)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "IMAGES_AT_ONCE", at_once)
        found = query_by_query(watched, of_task, xs, xq)
    np.testing.assert_allclose(found, one_by_one(of_task, xs, xq), rtol=0, atol=1e-12)
    assert max(seen) <= max(at_once, tasks * (shots + 1))
    assert sum(seen) == tasks * queries * (shots + 1)


@plain.drawn(20)
def test_a_query_does_not_see_the_others(seed):
    """Not their values, nor their order, nor how many there are: to the bit."""
    of_task, xs, xq = case(np.random.default_rng(seed), 2, 3, 5)
    scores = query_by_query(score, of_task, xs, xq)
    np.testing.assert_array_equal(query_by_query(score, of_task, xs, xq[:, ::-1]), scores[:, ::-1])
    other = np.concatenate([xq[:, :2], 1 + 100 * xq[:, 2:]], axis=1)
    np.testing.assert_array_equal(query_by_query(score, of_task, xs, other)[:, :2], scores[:, :2])
    np.testing.assert_allclose(query_by_query(score, of_task, xs, xq[:, :1]), scores[:, :1], rtol=0, atol=1e-13)


def test_is_differentiated_through():
    of_task, xs, xq = case(np.random.default_rng(0), 2, 3, 4)
    found = grad(lambda w: (query_by_query(score, {**of_task, "w": w}, xs, xq) ** 2).sum())(of_task["w"])
    expected = np.zeros_like(found)
    for t, q in np.ndindex(xq.shape[:2]):
        images = np.concatenate([xs[t], xq[t, q : q + 1]]).reshape(4, -1)
        centred = images[-1] - images.mean(0)
        expected[t] += 2 * np.outer(centred, centred @ of_task["w"][t]) * of_task["scale"][t] ** 2
    assert type(found) is not Tensor
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)
