"""Accuracy by recipe: `python bench/accuracy.py [RECIPE ...]`, by default of all whose figures are published.

Each run is trained, or gone on with where it was stopped, and its best model tested on the test part: 5-way and, unless
it has a head for fewer classes, 20-way, in every batch-norm mode worth knowing, with 15 queries per class; of learners
that adapt by steps by batch statistics also with 1, as their papers do, because these queries see each other. Of
sinusoids the error is measured by step, of learners that read an episode as a sequence the accuracy by presentation, of
sequences of bits the wrong ones by length. What is worth keeping goes to bench/results/RECIPE, the table to stdout.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from minimeta import checkpoint, memory, threads
from minimeta.data import SEQUENCE_TASKS
from minimeta.experiment import Trial, assess, load_model, run, sequence_trial, trial_of
from minimeta.recipes import RECIPES, named
from minimeta.run_folder import RunFolder

WAYS = (5, 20)
STEPS = ("1", "5", "10")
PRESENTATIONS = ("1", "2", "5", "10")
LENGTHS = (20, 60, 120)  # of sequences of bits; the longest in training is 20
EXAMPLE = "prototypical/glyphs"  # whose model the README loads


def main() -> None:
    options = _parser().parse_args()
    memory.keep()
    print("| recipe | training | test | batch norm | accuracy (95 % interval) | paper |\n|---|---|---|---|---|---|")
    with threads.limited():
        for name in options.recipes or [name for name, entry in RECIPES.items() if entry.ours]:
            folder = options.runs / name.replace("/", "-")
            if not RunFolder(folder).results.exists():
                recipe = named(name)
                if options.quick:
                    recipe = replace(recipe, test_episodes=2, training=replace(recipe.training, steps=2))
                run(recipe, folder, resume=folder.exists())
            tests = [test(folder, case, options.quick) for case in cases(folder)]
            keep(name, folder, tests, options.results / folder.name)
            for record in tests:
                print(line(name, folder, record), flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Train and test the recipes whose figures are published.")
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help="see `minimeta recipes`")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="FOLDER", help="of the run folders")
    default = Path(__file__).parent / "results"
    parser.add_argument("--results", type=Path, default=default, metavar="FOLDER", help="for what is worth keeping")
    parser.add_argument("--quick", action="store_true", help="few steps and episodes: to see that it works")
    return parser


class Case(NamedTuple):
    """A test: its episodes, by which batch-norm statistics, and whether each "step" or "presentation" has a figure."""

    trial: Trial
    mode: str | None = None
    by: str | None = None


def cases(folder: Path) -> list[Case]:
    """All tests of a run's model."""
    learner, _, recipe = load_model(folder)
    trial = trial_of(recipe)
    if recipe.data in SEQUENCE_TASKS:
        return [Case(replace(trial, shot=length)) for length in LENGTHS]
    if recipe.test_way == 0:
        return [Case(trial, learner.batch_norm, "step")]
    if hasattr(learner, "presented"):
        return [Case(sequence_trial(recipe), by="presentation")]
    return [
        Case(replace(trial, way=way, query=query), mode)
        for way in WAYS
        if way <= getattr(learner, "way", way)
        for mode in modes(learner)
        for query in ((1, 15) if mode == "batch" and hasattr(learner, "states") else (15,))
    ]


def modes(learner: Any) -> list[str | None]:
    """The batch-norm mode of the recipe; where that or another lets queries see each other, also the others."""
    mode = getattr(learner, "batch_norm", None)
    if not hasattr(learner, "states"):
        return [mode, "running", "episode"] if mode == "batch" else [mode]
    others = [other for other in learner.modes if other not in (mode, "none")]
    return [mode, *others] if mode != "running" else [mode]


def test(folder: Path, case: Case, quick: bool) -> dict[str, Any]:
    """The record of a test of a run's model."""
    learner, params, recipe = load_model(folder)
    if case.mode is not None:
        learner = replace(recipe, hyper={**recipe.hyper, "batch_norm": case.mode}).make_learner()
    trial = replace(case.trial, episodes=5 if quick else max(1000, recipe.test_episodes))
    return assess(learner, params, trial, trial.source(), case.by)[1]


def keep(name: str, folder: Path, tests: list[dict[str, Any]], kept: Path) -> None:
    """Copy what tells about a run."""
    kept.mkdir(parents=True, exist_ok=True)
    for file in ("config.json", "results.json", "curve.png", "adapted.png", "memory.png", "model.safetensors"):
        if (folder / file).exists() and (file != "model.safetensors" or name == EXAMPLE):
            shutil.copyfile(folder / file, kept / file)
    checkpoint.write_json(kept / "tests.json", tests)


def line(name: str, folder: Path, record: dict[str, Any]) -> str:
    """A line of the table."""
    results = checkpoint.read_json(folder / "results.json")
    training = f"{results['steps']:,} steps, {results['seconds'] / 60:.1f} min"
    tested, figures, theirs = described(record, RECIPES[name].paper)
    return f"| {name} | {training} | {tested} | {record['bn_mode'] or ''} | {figures} | {theirs} |"


def described(record: dict[str, Any], paper: dict[str, float]) -> tuple[str, str, str]:
    """What was tested, what came of it, and the paper's figures."""
    if "mse" in record:
        return "error after 1, 5, 10 steps", _listed(record, "mse", "step", STEPS), ", ".join(map(str, paper.values()))
    if "bit_error" in record:
        length = str(record["shot"])
        figure = f"{record['bit_error']:.3f} ± {record['ci95']:.3f}"
        return f"wrong bits, {length} items", figure, str(paper.get(length, ""))
    if "accuracy_by_presentation" in record:
        figures = _listed(record, "accuracy", "presentation", PRESENTATIONS, 100)
        return "presentations 1, 2, 5, 10", figures, ", ".join(map(str, paper.values()))
    test = f"{record['way']}w{record['shot']}s"
    figure = f"{100 * record['accuracy']:.2f} ± {100 * record['ci95']:.2f}"
    return f"{test}, {record['query']} queries", figure, str(paper.get(test, ""))


def _listed(record: dict[str, Any], metric: str, by: str, keys: tuple[str, ...], unit: float = 1) -> str:
    """Some of the means with their intervals."""
    means, intervals = record[f"{metric}_by_{by}"], record[f"ci95_by_{by}"]
    digits = 3 if unit == 1 else 2
    return ", ".join(f"{unit * means[k]:.{digits}f} ± {unit * intervals[k]:.{digits}f}" for k in keys)


if __name__ == "__main__":
    main()
