"""The runs that have a name, and the defaults that are known to work for each learner and data set."""

from __future__ import annotations

from dataclasses import replace

from minimeta import learners
from minimeta.recipe import Recipe
from minimeta.sources import DATASETS
from minimeta.training import Settings

#: Defaults by (learner, data); None stands for any classifier. Regression data needs an entry of its own.
RECIPES: dict[tuple[str | None, str], Recipe] = {
    ("prototypical", "glyphs"): Recipe(
        "prototypical",
        "glyphs",
        way=20,
        shot=1,
        query=5,
        training=Settings(steps=600, schedule="cosine", lr=2e-3),
    ),
    # Snell et al. 2017: 60-way episodes, Adam at 1e-3 that is halved over and over
    ("prototypical", "omniglot"): Recipe(
        "prototypical",
        "omniglot",
        way=60,
        shot=1,
        query=5,
        rotations="fixed_classes",
        training=Settings(steps=4000, schedule="step", lr=1e-3),
    ),
    (None, "glyphs"): Recipe("", "glyphs", way=5, shot=1, query=5),
    (None, "omniglot"): Recipe("", "omniglot", way=5, shot=1, query=5, rotations="fixed_classes"),
}


def recipe_for(learner: str, data: str) -> Recipe:
    """The defaults of a learner on a data set ("glyphs", "omniglot", "sinusoid").

    Raises ValueError for unknown names, and for a classifier on regression data.

    >>> recipe_for("prototypical", "sinusoid")
    Traceback (most recent call last):
    ValueError: sinusoid is a regression task and prototypical a classifier; choose --data glyphs or omniglot
    """
    if learner not in learners.names():
        raise ValueError(f"unknown learner {learner!r}; choose from {', '.join(learners.names())}")
    if data not in DATASETS:
        raise ValueError(f"unknown data {data!r}; choose from {', '.join(DATASETS)}")
    found = RECIPES.get((learner, data)) or RECIPES.get((None, data))
    if found is None:
        raise ValueError(
            f"{data} is a regression task and {learner} a classifier; choose --data glyphs or omniglot"
        )
    return replace(found, learner=learner)
