"""check_learner catches each broken promise: a sound learner with one thing planted wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from minimeta import ops, stop_gradient
from minimeta.learners import make
from minimeta.learners.base import Learner, MetaGradient
from minimeta.testing import check_learner

GOOD = make("prototypical", filters=4)
KEPT = []


@dataclass(frozen=True)
class Sound(Learner):
    """Hands everything to a sound learner."""

    def init(self, rng):
        return GOOD.init(rng)

    def adapt(self, params, xs, ys, n_way):
        return GOOD.adapt(params, xs, ys, n_way)

    def predict(self, params, state, xq):
        return GOOD.predict(params, state, xq)

    def meta_loss(self, params, episode):
        return GOOD.meta_loss(params, episode)


class WrongShape(Sound):
    def predict(self, params, state, xq):
        return super().predict(params, state, xq).swapaxes(1, 2)


class Forgetful(Sound):
    def init(self, rng):
        return GOOD.init(np.random.default_rng())


class PrefersTheFirstLabel(Sound):
    def predict(self, params, state, xq):
        scores = super().predict(params, state, xq)
        return scores - np.arange(scores.shape[-1])


class RemembersTheOrder(Sound):
    def adapt(self, params, xs, ys, n_way):
        return super().adapt(params, xs * (1 + 0.01 * np.arange(xs.shape[1])[:, None, None, None]), ys, n_way)


class DeclaresTheOrder(RemembersTheOrder):
    order_sensitive = True


class ComparesQueries(Sound):
    def predict(self, params, state, xq):
        scores = super().predict(params, state, xq)
        return scores - scores.mean(axis=1, keepdims=True)


class ComparesTasks(Sound):
    def adapt(self, params, xs, ys, n_way):
        state = super().adapt(params, xs, ys, n_way)
        return state._replace(summary=state.summary - state.summary.mean(axis=0, keepdims=True))


class SumsTasks(Sound):
    def meta_grad(self, params, episode):
        result = super().meta_grad(params, episode)
        return MetaGradient(result.loss * len(episode.ys), result.aux, result.grads)


class StopsAGradient(Sound):
    def meta_loss(self, params, episode):
        loss, aux = super().meta_loss(params, episode)
        return loss + stop_gradient(loss) * 0.5, aux


class KeepsTheGraph(Sound):
    def meta_loss(self, params, episode):
        loss, aux = super().meta_loss(params, episode)
        KEPT.append(loss)
        return loss, aux


class NeverLearns(Sound):
    def meta_loss(self, params, episode):
        loss, aux = super().meta_loss(params, episode)
        return ops.tanh(loss) * 1e-12 + 1.0, aux


@pytest.mark.parametrize(
    ("broken", "promise"),
    [
        (WrongShape, "shapes"),
        (Forgetful, "determinism of init"),
        (PrefersTheFirstLabel, "label permutation"),
        (RemembersTheOrder, "support order"),
        (ComparesQueries, "queries apart"),
        (ComparesTasks, "task alone"),
        (SumsTasks, "batched equals looped"),
        (StopsAGradient, "meta-gradient"),
        (KeepsTheGraph, "nodes are alive"),
        (NeverLearns, "overfits"),
    ],
)
def test_names_the_broken_promise(broken, promise):
    try:
        with pytest.raises(AssertionError, match=f"check_learner: .*{promise}"):
            check_learner(broken(), overfit_steps=2)
    finally:
        KEPT.clear()


def test_a_sound_learner_passes_and_is_told_what_was_checked():
    assert "meta-gradient" in check_learner(Sound())


def test_declared_properties_are_not_held_against_a_learner():
    checked = check_learner(ComparesQueries(), transductive=True)
    assert "queries" not in checked
    assert "support order" not in check_learner(DeclaresTheOrder())
