"""A whole run from recipe to results, and the evaluation of what it left behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minimeta import adapted_curves, backend, checkpoint, curve, doctor, memory_maps
from minimeta.checkpoint import CheckpointError
from minimeta.data import JointSampler, SinusoidSampler, parse_split
from minimeta.data.lake_runs import WAY, LakeRuns
from minimeta.evaluation import OnDevice, Result, half_interval, scores, scores_by_presentation, scores_by_step
from minimeta.learners.base import Learner, Params
from minimeta.progress import Progress
from minimeta.recipe import Recipe, from_record
from minimeta.run_folder import RunFolder
from minimeta.sources import AUGMENTATIONS, Source, source, task
from minimeta.training import Outcome, train

Folder = str | PathLike[str]

PRESENTATIONS = 10  # of each class, unless a test says otherwise


class Model(NamedTuple):
    """A trained learner: what adapts, with which parameters, and the recipe it was trained by."""

    learner: Learner
    params: Params
    recipe: Recipe


def load_recipe(folder: Folder) -> Recipe:
    """The recipe in a run folder's config.json. Raises RunError or CheckpointError where there is none."""
    files = RunFolder(folder)
    config = files.read_config()
    try:
        return from_record(config)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{files.config}: not a configuration this version reads: {error}") from error


def load_model(folder: Folder) -> Model:
    """The best model of a run folder, from config.json and model.safetensors; NumPy and safetensors suffice.

    Raises RunError or CheckpointError, naming the file and what is wrong with it.
    """
    recipe = load_recipe(folder)
    learner = recipe.make_learner()
    params, _ = checkpoint.load(RunFolder(folder).model, like=learner.init(np.random.default_rng(0)))
    return Model(learner, params, recipe)


@dataclass(frozen=True)
class Trial:
    """What to evaluate on: `episodes` episodes of a part of a data set, or train on, `joint` in all classes at once."""

    data: str
    part: str
    way: int
    shot: int
    query: int
    episodes: int
    seed: int
    split: str | None
    rotations: str
    size: int
    channels: int
    shuffle_support: bool
    labels: int | None = None
    bits: int = 8
    backend: str = "numpy"
    joint: bool = False

    def source(self, data_dir: Folder | None = None) -> Source:
        """The episodes. Raises DataError where the data cannot supply them."""
        return source(
            self.data, self.part, self.way, self.shot, self.query,
            split=self.split, rotations=self.rotations, size=self.size, channels=self.channels,
            shuffle_support=self.shuffle_support, labels=self.labels, bits=self.bits, joint=self.joint,
            seed=self.seed, data_dir=data_dir,
        )  # fmt: skip


def trial_of(recipe: Recipe, part: str = "test") -> Trial:
    """The test that ends a run by this recipe, or the same on another part of the data."""
    learner = recipe.make_learner()
    return Trial(
        recipe.data, part, recipe.test_way, recipe.test_shot, recipe.test_query, recipe.test_episodes,
        recipe.training.seed, recipe.split, recipe.rotations, getattr(learner, "size", 28),
        getattr(learner, "channels", 1), learner.order_sensitive, getattr(learner, "label_count", None),
        getattr(learner, "bits", 8), recipe.backend,
    )  # fmt: skip


def sequence_trial(recipe: Recipe) -> Trial:
    """As `trial_of`, for a learner that reads an episode as a sequence: each class comes 10 times, and no queries."""
    trial = trial_of(recipe)
    return trial if trial.way == 0 else replace(trial, shot=PRESENTATIONS, query=0)


def assess(
    learner: Learner, params: Params, trial: Trial, drawn: Source, by: str | None = None
) -> tuple[Result, dict[str, Any]]:
    """The result of a test on its episodes, and the record of it for JSON. Progress goes to stderr.

    By "step", for a learner that adapts by steps, the record also has the metric before and after each of them, and the
    result is that of the last; by "presentation", for one that reads an episode as a sequence, the metric when a class
    comes for the first time, the second, and the result is that of all.
    """
    measure = scores if by is None else _SCORES_BY[by]
    with Progress(trial.episodes, "episodes") as progress:
        metric, values = measure(
            learner,
            backend.to_device(params, trial.backend),
            OnDevice(drawn.episodes, trial.backend),
            trial.episodes,
            report=progress.show,
        )
    whole = values if by is None else values[-1] if by == "step" else values.mean(axis=0)
    result = Result.of(metric, whole, learner)
    record = {
        **result.record(),
        **({} if by is None else _parts(metric, by, values)),
        "way": trial.way,
        "shot": trial.shot,
        "query": trial.query,
        "data": trial.data,
        "split": drawn.split,
        "rotations": trial.rotations,
        "seed": trial.seed,
        "backend": trial.backend,
    }
    return result, record


_SCORES_BY: dict[str, Callable[..., tuple[str, np.ndarray]]] = {
    "step": scores_by_step,
    "presentation": scores_by_presentation,
}
#: The number of the first value: steps begin before the first one.
_FIRST = {"step": 0, "presentation": 1}


def _parts(metric: str, by: str, values: np.ndarray) -> dict[str, Any]:
    """For JSON: of values [steps or presentations, n] the mean of each, and half the interval."""
    rows = {str(number): row for number, row in enumerate(values, _FIRST[by])}
    return {
        f"{metric}_by_{by}": {number: float(row.mean()) for number, row in rows.items()},
        f"ci95_by_{by}": {number: half_interval(row) for number, row in rows.items()},
    }


def assess_lake(model: Model, runs: Folder, device: str) -> tuple[Result, dict[str, Any]]:
    """The result of a model on Lake's one-shot runs in a zip file or folder, and the record of it for JSON.

    Raises DataError for damaged runs, ValueError for a model of images in colour.
    """
    learner, params, recipe = model
    trial = trial_of(recipe)
    if trial.channels != 1:
        raise ValueError(f"{recipe.learner}: channels={trial.channels}; drawings of Lake's runs have 1")
    episodes = LakeRuns(runs, trial.size, shuffle_support=trial.shuffle_support)
    metric, values = scores(learner, backend.to_device(params, device), OnDevice(episodes, device), len(episodes))
    result = Result.of(metric, values, learner)
    record = {
        **result.record(),
        "error_by_run": (1 - values).tolist(),
        "way": WAY,
        "shot": 1,
        "query": 1,
        "data": "lake runs",
        "backend": device,
    }
    return result, record


def run(
    recipe: Recipe,
    folder: Folder,
    *,
    resume: bool = False,
    data_dir: Folder | None = None,
    say: Callable[[str], None] = print,
) -> tuple[Result, Outcome]:
    """Train by the recipe, test the best model, write results.json and curve.png.

    Raises what `source` and `train` raise; all data is at hand and checked before training begins.
    """
    learner = recipe.make_learner()
    training = replace(
        trial_of(recipe, "train"), way=recipe.way, shot=recipe.shot, query=recipe.query, joint=learner.joint
    ).source(data_dir)
    # where the data has chosen its split scheme itself, the whole run and its evaluation must keep to it
    recipe = replace(recipe, split=parse_split(training.split)[0])
    if isinstance(training.episodes, JointSampler):
        recipe = replace(recipe, way=training.episodes.classes)
        learner = recipe.make_learner()
    _check(learner, recipe)
    validation = replace(trial_of(recipe, "val"), query=recipe.query or recipe.test_query).source(data_dir)
    trial = trial_of(recipe)
    drawn = trial.source(data_dir)
    episodes = AUGMENTATIONS[recipe.augmentation](training.episodes, recipe.training.seed)
    outcome = train(
        learner, episodes, validation.episodes, recipe.training, folder,
        config=recipe.record(), resume=resume, device=recipe.backend, graph=recipe.graph,
    )  # fmt: skip
    result, record = assess(learner, outcome.params, trial, drawn)
    files = RunFolder(folder)
    about = {
        "learner": recipe.learner,
        "steps": outcome.step,
        "best_step": outcome.best_step,
        "interrupted": outcome.interrupted,
        "seconds": outcome.seconds,
        "versions": doctor.versions(),
        "git_revision": doctor.git_revision(),
        "machine": doctor.machine(),
        **({"gpu": doctor.gpu()} if recipe.backend == "cupy" else {}),
        "config": recipe.record(),
    }
    checkpoint.write_json(files.results, {**record, **about})
    title = f"{recipe.learner} on {recipe.data}\n{task(recipe.data, recipe.test_way, recipe.test_shot)}, {result}"
    try:
        curve.draw(files.records(), files.curve, title)
        if isinstance(drawn.episodes, SinusoidSampler):
            adapted_curves.draw(learner, outcome.params, drawn.episodes, files.adapted)
        if memory_maps.drawable(learner):
            draw_memory(Model(learner, outcome.params, recipe), sequence_trial(recipe).source(data_dir), files.memory)
    except ImportError as error:
        say(f"no curve.png: {error}")
    return result, outcome


def draw_memory(model: Model, drawn: Source, path: Path, device: str = "numpy") -> None:
    """Draw where the heads of a model's memory read and wrote, over the first sequence of `drawn`, run on `device`.

    Raises ValueError for a model without such a memory, ImportError where matplotlib is missing.
    """
    learner, params, recipe = model
    if not memory_maps.drawable(learner):
        raise ValueError(f"{recipe.learner} has no memory with heads; ntm and mann have")
    task = drawn.episodes.batch(0, 1)
    memory_maps.draw(learner, params, task, path, f"{recipe.learner} on {recipe.data}, {drawn.split}", device)


def _check(learner: Learner, recipe: Recipe) -> None:
    """Raises ValueError where a learner has fewer classes than its episodes, or these have no queries to learn from."""
    way = getattr(learner, "way", None) if getattr(learner, "label_count", None) is None else None
    for name in ("way", "test_way"):
        if way is not None and getattr(recipe, name) > way:
            raise ValueError(f"{recipe.learner}: {name}={getattr(recipe, name)}; its head is for {way} classes")
    least = {"query": 0 if hasattr(learner, "presented") else 1, "test_query": 1}
    for name, bound in least.items():
        if getattr(recipe, name) < bound:
            raise ValueError(f"{recipe.learner}: {name}={getattr(recipe, name)}; need {name} >= {bound}")
