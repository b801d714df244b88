"""Accuracy by recipe: `python bench/accuracy.py [RECIPE ...]`, by default of all whose figures are published.

Each run is trained, or gone on with where it was stopped, and its best model tested on the test part: 5-way and, unless
it has a head for fewer classes, 20-way, in every batch-norm mode worth knowing, with 15 queries per class; of learners
that adapt by steps by batch statistics also with 1, as their papers do, because these queries see each other. Of
sinusoids the error is measured by step. What is worth keeping goes to bench/results/RECIPE, the table to stdout.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from minimeta import checkpoint, memory, threads
from minimeta.experiment import assess, load_model, run, trial_of
from minimeta.recipes import RECIPES, named
from minimeta.run_folder import RunFolder

WAYS = (5, 20)
STEPS = ("1", "5", "10")
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
            tests = [test(folder, options.quick, **case) for case in cases(folder)]
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


def cases(folder: Path) -> list[dict[str, Any]]:
    """What to test a run's model in: way, number of queries per class, batch-norm mode."""
    learner, _, recipe = load_model(folder)
    if recipe.test_way == 0:
        return [{"way": 0, "query": recipe.test_query, "mode": learner.batch_norm}]
    return [
        {"way": way, "query": query, "mode": mode}
        for way in WAYS
        if way <= getattr(learner, "way", way)
        for mode in modes(learner)
        for query in ((1, 15) if mode == "batch" and hasattr(learner, "states") else (15,))
    ]


def modes(learner: Any) -> list[str]:
    """The batch-norm mode of the recipe; where that or another lets queries see each other, also the others."""
    mode = learner.batch_norm
    if not hasattr(learner, "states"):
        return [mode, "running", "episode"] if mode == "batch" else [mode]
    others = [other for other in learner.modes if other not in (mode, "none")]
    return [mode, *others] if mode != "running" else [mode]


def test(folder: Path, quick: bool, way: int, query: int, mode: str) -> dict[str, Any]:
    """The record of a test of a run's model."""
    _, params, recipe = load_model(folder)
    learner = replace(recipe, hyper={**recipe.hyper, "batch_norm": mode}).make_learner()
    episodes = 5 if quick else max(1000, recipe.test_episodes)
    trial = replace(trial_of(recipe), way=way, query=query, episodes=episodes)
    return assess(learner, params, trial, trial.source(), by_step=way == 0)[1]


def keep(name: str, folder: Path, tests: list[dict[str, Any]], kept: Path) -> None:
    """Copy what tells about a run."""
    kept.mkdir(parents=True, exist_ok=True)
    for file in ("config.json", "results.json", "curve.png", "adapted.png", "model.safetensors"):
        if (folder / file).exists() and (file != "model.safetensors" or name == EXAMPLE):
            shutil.copyfile(folder / file, kept / file)
    checkpoint.write_json(kept / "tests.json", tests)


def line(name: str, folder: Path, record: dict[str, Any]) -> str:
    """A line of the table."""
    results = checkpoint.read_json(folder / "results.json")
    training = f"{results['steps']:,} steps, {results['seconds'] / 60:.1f} min"
    paper = RECIPES[name].paper
    if record["way"] == 0:
        test = "error after 1, 5, 10 steps"
        figures = ", ".join(f"{record['mse_by_step'][k]:.3f} ± {record['ci95_by_step'][k]:.3f}" for k in STEPS)
        theirs = ", ".join(map(str, paper.values()))
    else:
        test = f"{record['way']}w{record['shot']}s"
        figures, theirs = f"{100 * record['accuracy']:.2f} ± {100 * record['ci95']:.2f}", str(paper.get(test, ""))
        test = f"{test}, {record['query']} queries"
    return f"| {name} | {training} | {test} | {record['bn_mode']} | {figures} | {theirs} |"


if __name__ == "__main__":
    main()
