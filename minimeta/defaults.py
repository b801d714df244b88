"""What to run where only a learner and data are named: a recipe with a name, or one made from those there are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from minimeta import learners
from minimeta.data import SEQUENCE_TASKS
from minimeta.data.image_folder import channels_of, class_counts
from minimeta.recipe import Recipe
from minimeta.recipes import RECIPES, omniglot, sinusoid
from minimeta.sources import DATASETS, check

#: For learners of images without a recipe of their own on these data.
_ANY = {
    "glyphs": RECIPES["prototypical/glyphs"].recipe,
    "omniglot": omniglot("", way=20, query=5),
}

#: Items of the longest sequences in training, and repeats (Graves et al., 2014).
_LONGEST = {"copy": (20, 1), "repeat-copy": (10, 10), "associative-recall": (6, 1), "priority-sort": (20, 1)}


def recipe_for(learner: str, data: str) -> Recipe:
    """The defaults of a learner on a data set by name (`sources.DATASETS`) or on a folder of class folders.

    The first recipe with a name, if there is one. Raises ValueError for unknown names, and for data that are not for
    this learner.

    >>> recipe_for("prototypical", "sinusoid")
    Traceback (most recent call last):
    ValueError: sinusoid is a regression task and prototypical a classifier; choose --data glyphs or omniglot
    """
    if learner not in learners.names():
        raise ValueError(f"unknown learner {learner!r}; choose from {', '.join(learners.names())}")
    check(data)
    own = _named(learner, data)
    if own is not None:
        return own
    hyper = learners.hyper_parameters(learner)
    if data in SEQUENCE_TASKS:
        if "bits" not in hyper:
            raise ValueError(f"{data} is a task of sequences, for ntm, mann and lstm; {learner} learns from examples")
        return _sequences(learner, data)
    if data == "sinusoid":
        if "test_steps" not in hyper:
            raise ValueError(
                f"{data} is a regression task and {learner} a classifier; choose --data glyphs or omniglot"
            )
        return _regression(learner)
    fixed_head = "way" in hyper
    if data not in DATASETS:
        return _of_folder(learner, Path(data).resolve(), fixed_head)
    return _short(learner, data) if fixed_head else replace(_ANY[data], learner=learner)


def _sequences(learner: str, data: str) -> Recipe:
    """As the copy task, with as many items and repeats as in the paper."""
    items, repeats = _LONGEST[data]
    copy = RECIPES["ntm/copy"].recipe
    hyper = copy.hyper if learner == "ntm" else {}
    return replace(
        copy, learner=learner, data=data, hyper=hyper,
        shot=items, query=repeats, test_shot=items, test_query=repeats,
    )  # fmt: skip


def _named(learner: str, data: str) -> Recipe | None:
    recipes = (entry.recipe for entry in RECIPES.values())
    return next((recipe for recipe in recipes if (recipe.learner, recipe.data) == (learner, data)), None)


def _short(learner: str, data: str) -> Recipe:
    """As on Omniglot, where every learner with a head for so many classes has a recipe of its own."""
    own = _on_omniglot(learner)
    training = replace(own.training, steps=1000, validate_every=100, validation_episodes=100)
    return replace(own, data=data, split=None, rotations="none", test_episodes=600, training=training)


def _regression(learner: str) -> Recipe:
    own = _on_omniglot(learner).training
    names = ("optimizer", "lr", "schedule", "clip_norm")
    # with steps as long as on images first-order MAML diverges
    rate = {"inner_lr": RECIPES["maml/sinusoid"].recipe.hyper["inner_lr"]} if learner == "fomaml" else {}
    return sinusoid(learner, {"steps": 20_000, **{name: getattr(own, name) for name in names}}, **rate)


def _on_omniglot(learner: str) -> Recipe:
    own = _named(learner, "omniglot")
    assert own is not None, f"{learner} has no recipe on omniglot, from which others could be made"
    return own


def _of_folder(learner: str, folder: Path, fixed_head: bool) -> Recipe:
    """A run on one's own images: 20-way and tested 5-way, or with as many classes as there are."""
    counts = class_counts(folder)
    channels = channels_of(folder)
    way, test_way = min(20, counts["train"]), min(5, counts["val"], counts["test"])
    if not fixed_head:
        hyper = {"channels": channels}
        return Recipe(learner, str(folder), way=way, shot=1, query=5, test_way=test_way, test_query=5, hyper=hyper)
    short = _short(learner, str(folder))
    joint = short.make_learner().joint
    return replace(
        short, way=0 if joint else test_way, shot=short.shot if joint else 1, query=5, test_way=test_way,
        test_query=5, hyper={**short.hyper, "channels": channels},
    )  # fmt: skip
