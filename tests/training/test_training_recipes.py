"""Recipes: what they record, where their episodes come from, how settings are spelled."""

import dataclasses

import numpy as np
import pytest

from minimeta import learners
from minimeta.data import SEQUENCE_TASKS, DataError
from minimeta.defaults import recipe_for
from minimeta.experiment import run, trial_of
from minimeta.recipe import RECIPE_KEYS, from_record, parse, with_settings
from minimeta.recipes import RECIPES, named
from minimeta.sources import source
from minimeta.training import Settings


@pytest.mark.parametrize("name", RECIPES)
def test_records_come_back_whole(name):
    recipe = named(name)
    assert name.startswith(f"{recipe.learner}/{recipe.data}")
    record = recipe.record()
    assert record["hyper"] == dataclasses.asdict(recipe.make_learner())
    assert from_record(record).record() == record


def test_every_learner_has_defaults_on_every_data_set_of_images():
    for learner in learners.names():
        for data in ("glyphs", "omniglot"):
            recipe = recipe_for(learner, data)
            assert (recipe.learner, recipe.data) == (learner, data)
            recipe.make_learner()


@pytest.mark.parametrize("learner", ["maml", "fomaml", "reptile", "lstm-meta", "finetune"])
def test_learners_that_adapt_by_steps_have_defaults_for_regression(learner):
    recipe = recipe_for(learner, "sinusoid")
    assert (recipe.way, recipe.test_way) == (0, 0)
    assert recipe.make_learner().way == 0
    assert recipe.training.optimizer == ("sgd" if learner == "reptile" else "adam")


@pytest.mark.parametrize("learner", ["ntm", "mann", "lstm"])
@pytest.mark.parametrize("data", SEQUENCE_TASKS)
def test_learners_that_read_sequences_have_defaults_for_all_their_tasks(learner, data):
    recipe = recipe_for(learner, data)
    assert (recipe.learner, recipe.data, recipe.make_learner().way) == (learner, data, 0)
    assert recipe.shot == recipe.test_shot == {"associative-recall": 6, "repeat-copy": 10}.get(data, 20)
    assert recipe.query == recipe.test_query == (10 if data == "repeat-copy" else 1)


def test_other_learners_do_not_take_sequences():
    for learner in ("prototypical", "maml", "meta-networks"):
        with pytest.raises(ValueError, match=rf"copy is a task of sequences, .*; {learner} learns from examples"):
            recipe_for(learner, "copy")


@pytest.mark.parametrize("data", ["sinusoid", *SEQUENCE_TASKS])
@pytest.mark.parametrize(("way", "rotations"), [(5, "none"), (0, "per_episode")])
def test_data_without_classes_take_nothing_that_is_of_classes(data, way, rotations):
    with pytest.raises(DataError, match=f"{data} has no classes, got way={way}, rotations='{rotations}'"):
        source(data, "test", way, 5, 1, rotations=rotations)


def test_bits_reach_the_sequences():
    recipe = with_settings(recipe_for("ntm", "copy"), ["bits=3"])
    assert trial_of(recipe).source().episodes.batch(0, 1).inputs.shape[2] == 3 + 2


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown recipe 'protonet'; choose from prototypical/glyphs, "):
        named("protonet")
    with pytest.raises(ValueError, match=r"unknown data 'mnist'; choose from glyphs, omniglot, sinusoid"):
        recipe_for("siamese", "mnist")


def test_no_learner_has_a_field_that_is_also_a_training_setting():
    settings = {field.name for field in dataclasses.fields(Settings)} | set(RECIPE_KEYS)
    for name in learners.names():
        assert not settings & {field.name for field in dataclasses.fields(learners.make(name))}, name


def test_settings_reach_their_place():
    recipe = with_settings(
        recipe_for("prototypical", "glyphs"),
        ["filters=16", "batch_norm=batch", "lr=0.5", "patience=3", "clip_norm=none", "test_episodes=9"],
    )
    assert (recipe.make_learner().filters, recipe.make_learner().batch_norm) == (16, "batch")
    assert (recipe.training.lr, recipe.training.patience, recipe.training.clip_norm) == (0.5, 3, None)
    assert recipe.test_episodes == 9


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("3", int, 3),
        ("1e-3", float, 1e-3),
        ("false", bool, False),
        ("none", int | None, None),
        ("2", float | None, 2.0),
        ("none", str, "none"),
        ("1,2", tuple[int, ...], (1, 2)),
    ],
)
def test_values_are_parsed_by_type(text, kind, value):
    parsed = parse("key", text, kind)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("text", "kind"), [("x", int), ("1.5", int), ("yes", bool), ("none", int), ("1,x", tuple[int, ...])]
)
def test_values_of_the_wrong_type_are_refused(text, kind):
    with pytest.raises(ValueError, match=f"--set key={text}|--set key=x"):
        parse("key", text, kind)


def test_each_part_has_episodes_of_its_own():
    batches = {part: source("sinusoid", part, 0, 5, 5).episodes.batch(0, 2).xs for part in ("train", "val", "test")}
    assert len({batch.tobytes() for batch in batches.values()}) == 3
    again = source("sinusoid", "test", 0, 5, 5).episodes.batch(0, 2).xs
    np.testing.assert_array_equal(batches["test"], again)
    other = source("sinusoid", "test", 0, 5, 5, seed=1).episodes.batch(0, 2).xs
    assert not np.array_equal(batches["test"], other)
    with pytest.raises(DataError, match="sinusoid has no split schemes"):
        source("sinusoid", "test", 0, 5, 5, split="lake")


def test_the_seed_of_a_run_does_not_change_its_classes():
    one, other = (source("glyphs", "test", 5, 1, 1, seed=seed).episodes for seed in (0, 1))
    np.testing.assert_array_equal(one.dataset.images, other.dataset.images)


@pytest.mark.parametrize(
    ("learner", "changes", "message"),
    [
        ("prototypical", {"query": 0}, r"prototypical: query=0; need query >= 1"),
        ("mann", {"test_query": 0}, r"mann: test_query=0; need test_query >= 1"),
        ("maml", {"test_way": 20}, r"maml: test_way=20; its head is for 5 classes"),
    ],
)
def test_what_a_learner_cannot_be_trained_on_is_refused_before_training(learner, changes, message, tmp_path):
    recipe = dataclasses.replace(recipe_for(learner, "glyphs"), **changes)
    with pytest.raises(ValueError, match=message):
        run(recipe, tmp_path)
    assert not any(tmp_path.iterdir())
