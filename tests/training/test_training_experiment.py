"""Whole runs as a library call, on glyphs that pose as data with split schemes."""

import dataclasses
import json

import numpy as np
import pytest

from minimeta import sources, tree
from minimeta.data import glyphs
from minimeta.experiment import load_model, run, trial_of
from minimeta.recipe import Recipe
from minimeta.training import Settings

TINY = Recipe(
    "prototypical", "omniglot", way=5, shot=1, query=2, test_query=2, test_episodes=4, hyper={"filters": 4},
    training=Settings(steps=2, validate_every=1, validation_episodes=2),
)  # fmt: skip


@pytest.fixture
def asked(monkeypatch):
    """The (part, split) of each loading; where no split is asked for, "lake" is chosen."""
    calls = []

    def load(name, part, *, split=None, size=None, channels=1, data_dir=None):
        calls.append((part, split))
        return dataclasses.replace(glyphs.load(part, classes=8, size=16), split=f"{split or 'lake'}/{part}")

    monkeypatch.setattr(sources, "load", load)
    return calls


def test_a_split_that_the_data_chose_holds_for_the_whole_run(tmp_path, asked):
    run(TINY, tmp_path / "run", say=pytest.fail)
    assert asked == [("train", None), ("val", "lake"), ("test", "lake")]
    assert json.loads((tmp_path / "run/config.json").read_text())["split"] == "lake"
    assert json.loads((tmp_path / "run/results.json").read_text())["split"] == "lake/test"
    assert trial_of(load_model(tmp_path / "run").recipe).split == "lake"


def test_a_model_comes_back_as_the_learner_that_was_trained(tmp_path, asked):
    result, outcome = run(TINY, tmp_path / "run")
    learner, params, recipe = load_model(tmp_path / "run")
    assert learner == TINY.make_learner()
    assert recipe.training == TINY.training
    tree.map(np.testing.assert_array_equal, params, outcome.params)
    xs = np.random.default_rng(0).random((1, 5, 16, 16, 1), np.float32)
    state = learner.adapt(params, xs, np.arange(5)[None], 5)
    assert np.asarray(learner.predict(params, state, xs)).argmax(axis=-1).tolist() == [[0, 1, 2, 3, 4]]
    assert result.episodes == 4
