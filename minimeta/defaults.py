"""What to run where only a learner and data are named: a recipe with a name, or one made from those there are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from minimeta import learners
from minimeta.data.image_folder import channels_of, class_counts
from minimeta.recipe import Recipe
from minimeta.recipes import RECIPES, omniglot, sinusoid
from minimeta.sources import DATASETS, check

#: For learners of images without a recipe of their own on these data.
_ANY = {
    "glyphs": RECIPES["prototypical/glyphs"].recipe,
    "omniglot": omniglot("", way=20, query=5),
}


def recipe_for(learner: str, data: str) -> Recipe:
    """The defaults of a learner on a data set ("glyphs", "omniglot", "sinusoid") or on a folder of class folders.

    The first recipe with a name, if there is one. Raises ValueError for unknown names, and for a classifier on
    regression data.

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
    by_steps = "way" in learners.hyper_parameters(learner)
    if data not in DATASETS:
        return _of_folder(learner, Path(data).resolve(), by_steps)
    if by_steps:
        return _regression(learner) if data == "sinusoid" else _short(learner, data)
    if data not in _ANY:
        raise ValueError(
            f"{data} is a regression task and {learner} a classifier; choose --data glyphs or omniglot"
        )
    return replace(_ANY[data], learner=learner)


def _named(learner: str, data: str) -> Recipe | None:
    recipes = (entry.recipe for entry in RECIPES.values())
    return next((recipe for recipe in recipes if (recipe.learner, recipe.data) == (learner, data)), None)


def _short(learner: str, data: str) -> Recipe:
    """As on Omniglot, where every learner that adapts by steps has a recipe: episodes and optimizer are its own."""
    own = RECIPES[f"{learner}/omniglot-5w1s"].recipe
    training = replace(own.training, steps=1000, validate_every=100, validation_episodes=100)
    return replace(own, data=data, split=None, rotations="none", test_episodes=600, training=training)


def _regression(learner: str) -> Recipe:
    own = RECIPES[f"{learner}/omniglot-5w1s"].recipe.training
    names = ("optimizer", "lr", "schedule", "clip_norm")
    return sinusoid(learner, {"steps": 20_000, **{name: getattr(own, name) for name in names}})


def _of_folder(learner: str, folder: Path, by_steps: bool) -> Recipe:
    """A run on one's own images: 20-way and tested 5-way, or with as many classes as there are."""
    counts = class_counts(folder)
    channels = channels_of(folder)
    way, test_way = min(20, counts["train"]), min(5, counts["val"], counts["test"])
    if not by_steps:
        hyper = {"channels": channels}
        return Recipe(learner, str(folder), way=way, shot=1, query=5, test_way=test_way, test_query=5, hyper=hyper)
    short = _short(learner, str(folder))
    joint = short.make_learner().joint
    return replace(
        short, way=0 if joint else test_way, shot=short.shot if joint else 1, query=5, test_way=test_way,
        test_query=5, hyper={**short.hyper, "channels": channels},
    )  # fmt: skip
