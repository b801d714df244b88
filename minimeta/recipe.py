"""What a run consists of: a learner, its data and episodes, its training; in a record, and changed by "key=value"."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from minimeta import learners
from minimeta.learners.base import Learner
from minimeta.sources import AUGMENTATIONS
from minimeta.training import Settings


@dataclass(frozen=True)
class Recipe:
    """One run: a learner with its hyper-parameters, data, episodes for training and for test, how to train.

    Training episodes are `way`-way `shot`-shot with `query` queries per class. Validation and test episodes are
    `test_way`-way `test_shot`-shot, with `query` queries in validation and `test_query` in test; with `query` 0
    training episodes are a support set alone, for learners that read it as a sequence, and validation has `test_query`.
    In regression both ways are 0, shots and queries are points of a task; of bit sequences shots are items, in training
    at most so many, and queries repeats. A learner trained on all classes at once takes `shot` examples a step; its
    `way` is their number, found when the run begins. `split` is a scheme of the data set, None where it has
    none. Images have the size the learner says; those of the training are distorted by random affine maps if
    `augmentation` is "affine". With `graph`, for backend "cupy", training steps are recorded (`minimeta.replay`).
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
    augmentation: str = "none"
    backend: str = "numpy"
    graph: bool = False
    hyper: dict[str, Any] = field(default_factory=dict)
    training: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        if self.test_episodes < 2:
            raise ValueError(f"test_episodes={self.test_episodes}; an interval needs at least 2")
        if self.augmentation not in AUGMENTATIONS:
            raise ValueError(f"augmentation={self.augmentation!r}; choose from {', '.join(AUGMENTATIONS)}")
        if self.graph and self.backend != "cupy":
            raise ValueError(f"graph with backend={self.backend!r}: only 'cupy' records CUDA graphs")

    def make_learner(self) -> Learner:
        """The learner. Raises ValueError for an unknown one and for hyper-parameters it has not.

        One that has weights for each class is for as many as training episodes have.
        """
        own = {"way": self.way} if "way" in learners.hyper_parameters(self.learner) else {}
        return learners.make(self.learner, **{**own, **self.hyper})

    def record(self) -> dict[str, Any]:
        """For JSON, with every hyper-parameter of the learner spelled out, so that later defaults change nothing."""
        return {**asdict(self), "hyper": asdict(self.make_learner())}  # type: ignore[call-overload]


def from_record(record: Mapping[str, Any]) -> Recipe:
    """The recipe of a config.json. Raises TypeError for names that a recipe has not.

    >>> recipe = Recipe("prototypical", "glyphs", way=20, shot=1, query=5)
    >>> from_record(recipe.record()).training == recipe.training
    True
    """
    return Recipe(**{**record, "training": Settings(**record["training"])})


#: What `with_settings` takes beside the fields of the learner and of `Settings`.
RECIPE_KEYS = {"test_query": int, "test_episodes": int, "augmentation": str}


def with_settings(recipe: Recipe, assignments: list[str]) -> Recipe:
    """The recipe with each "key=value" applied: the learner's hyper-parameters, training settings, RECIPE_KEYS.

    Raises ValueError for an unknown key, listing those there are, and for a value of the wrong type.

    >>> with_settings(Recipe("prototypical", "glyphs", way=20, shot=1, query=5), ["filters=32", "lr=0.01"]).hyper
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
        elif key in RECIPE_KEYS:
            recipe = replace(recipe, **{key: parse(key, text, RECIPE_KEYS[key])})
        else:
            known = {recipe.learner: hyper, "training": training, "episodes": RECIPE_KEYS}
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
