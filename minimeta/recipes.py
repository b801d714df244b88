"""What a run consists of, and the defaults that are known to work for each learner and data set."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from os import PathLike
from typing import Any

import numpy as np

from minimeta import learners
from minimeta.data import DataError, EpisodeSampler, SinusoidSampler, load
from minimeta.evaluation import Episodes
from minimeta.learners.base import Learner
from minimeta.training import Settings

DATASETS = ("glyphs", "omniglot", "sinusoid")


@dataclass(frozen=True)
class Recipe:
    """One run: a learner with its hyper-parameters, data, episodes for training and for test, how to train.

    Training episodes are `way`-way `shot`-shot with `query` queries per class. Validation and test episodes are
    `test_way`-way `test_shot`-shot, with `query` queries in validation and `test_query` in test. `split` is a scheme
    of the data set, None where it has none.
    """

    learner: str
    data: str
    way: int
    shot: int
    query: int
    test_way: int = 5
    test_shot: int = 1
    test_query: int = 15
    test_episodes: int = 600
    split: str | None = None
    rotations: str = "none"
    backend: str = "numpy"
    hyper: dict[str, Any] = field(default_factory=dict)
    training: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        if self.test_episodes < 2:
            raise ValueError(f"test_episodes={self.test_episodes}; an interval needs at least 2")

    def make_learner(self) -> Learner:
        """The learner. Raises ValueError for an unknown one and for hyper-parameters it has not."""
        return learners.make(self.learner, **self.hyper)

    def record(self) -> dict[str, Any]:
        """For JSON, with every hyper-parameter of the learner spelled out, so that later defaults change nothing."""
        return {**asdict(self), "hyper": asdict(self.make_learner())}  # type: ignore[call-overload]


def from_record(record: Mapping[str, Any]) -> Recipe:
    """The recipe of a config.json. Raises TypeError for names that a recipe has not.

    >>> recipe = recipe_for("prototypical", "glyphs")
    >>> from_record(recipe.record()).training == recipe.training
    True
    """
    return Recipe(**{**record, "training": Settings(**record["training"])})


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


#: What `with_settings` takes beside the fields of the learner and of `Settings`.
TEST_KEYS = ("test_query", "test_episodes")


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


def with_settings(recipe: Recipe, assignments: list[str]) -> Recipe:
    """The recipe with each "key=value" applied: hyper-parameters of the learner, settings of the training, TEST_KEYS.

    Raises ValueError for an unknown key, listing those there are, and for a value of the wrong type.

    >>> with_settings(recipe_for("prototypical", "glyphs"), ["filters=32", "lr=0.01"]).hyper
    {'filters': 32}
    """
    hyper, training = _field_types(type(recipe.make_learner())), _field_types(Settings)
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise ValueError(f"--set {assignment}: need key=value")
        if key in hyper:
            recipe = replace(recipe, hyper={**recipe.hyper, key: parse(key, text, hyper[key])})
        elif key in training:
            recipe = replace(recipe, training=replace(recipe.training, **{key: parse(key, text, training[key])}))
        elif key in TEST_KEYS:
            recipe = replace(recipe, **{key: parse(key, text, int)})
        else:
            known = {recipe.learner: hyper, "training": training, "test": TEST_KEYS}
            choices = "; ".join(f"{', '.join(names)} ({topic})" for topic, names in known.items())
            raise ValueError(f"--set {key}: unknown; choose from {choices}")
    return recipe


def _field_types(kind: type) -> dict[str, Any]:
    types_by_name = typing.get_type_hints(kind)
    return {field.name: types_by_name[field.name] for field in fields(kind)}  # type: ignore[arg-type]


def parse(key: str, text: str, kind: Any) -> Any:
    """The value that `text` spells for a field of type int, float, bool, str, tuple[...] or a union with None.

    >>> parse("steps", "100", int | None), parse("flag", "true", bool), parse("sizes", "3,4", tuple[int, ...])
    (100, True, (3, 4))
    """
    options = typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)
    if text == "none" and type(None) in options:
        return None
    for option in options:
        try:
            if option is bool:
                return {"true": True, "false": False}[text]
            if option in (int, float, str):
                return option(text)
            if typing.get_origin(option) is tuple:
                return tuple(parse(key, part, typing.get_args(option)[0]) for part in text.split(","))
        except (KeyError, ValueError):
            continue
    raise ValueError(f"--set {key}={text}: need {getattr(kind, '__name__', None) or kind}")


class Source(typing.NamedTuple):
    """Where a sampler's episodes come from: the sampler, and the split it reads, e.g. "vinyals/test"."""

    episodes: Episodes
    split: str


def source(
    data: str,
    part: str,
    way: int,
    shot: int,
    query: int,
    *,
    split: str | None = None,
    rotations: str = "none",
    seed: int = 0,
    data_dir: str | PathLike[str] | None = None,
) -> Source:
    """The episodes of a part of a data set; train, val and test have streams of random numbers of their own.

    The seed draws episodes, never the data's split, so that runs with different seeds can be compared and a model is
    never tested on classes it was trained on. Raises DataError where the data cannot supply such episodes.

    >>> episodes, split = source("glyphs", "val", way=5, shot=1, query=2)
    >>> episodes.batch(0, 1).xq.shape, split
    ((1, 10, 28, 28, 1), 'val')
    """
    stream = int(np.random.SeedSequence([seed, *part.encode()]).generate_state(1)[0])
    if data == "sinusoid":
        if split is not None:
            raise DataError(f"sinusoid has no split schemes, got split={split!r}")
        return Source(SinusoidSampler(shot, query, seed=stream), part)
    dataset = load(data, part, split=split, data_dir=data_dir)
    return Source(EpisodeSampler(dataset, way, shot, query, rotations=rotations, seed=stream), dataset.split)
