"""Accuracy by recipe: `python bench/accuracy.py [RECIPE ...]`, by default of all whose figures are published.

Each run is trained, or gone on with where it was stopped, and its best model tested 5-way and 20-way on the test part,
in every batch-norm mode worth knowing. What is worth keeping goes to bench/results/RECIPE, the table to stdout.
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
            tests = [test(folder, way, mode, 5 if options.quick else 1000) for way in WAYS for mode in modes(folder)]
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


def modes(folder: Path) -> tuple[str, ...]:
    """The batch-norm mode of the recipe; where that lets queries see each other, also those in which they cannot."""
    mode: str = load_model(folder).recipe.hyper["batch_norm"]
    return (mode, "running", "episode") if mode == "batch" else (mode,)


def test(folder: Path, way: int, mode: str, episodes: int) -> dict[str, Any]:
    """The record of a test of a run's model."""
    _, params, recipe = load_model(folder)
    learner = replace(recipe, hyper={**recipe.hyper, "batch_norm": mode}).make_learner()
    trial = replace(trial_of(recipe), way=way, episodes=episodes)
    return assess(learner, params, trial, trial.source())[1]


def keep(name: str, folder: Path, tests: list[dict[str, Any]], kept: Path) -> None:
    """Copy what tells about a run."""
    kept.mkdir(parents=True, exist_ok=True)
    for file in ("config.json", "results.json", "curve.png", *(["model.safetensors"] if name == EXAMPLE else [])):
        shutil.copyfile(folder / file, kept / file)
    checkpoint.write_json(kept / "tests.json", tests)


def line(name: str, folder: Path, record: dict[str, Any]) -> str:
    """A line of the table."""
    results = checkpoint.read_json(folder / "results.json")
    way = f"{record['way']}w{record['shot']}s"
    figures = f"{100 * record['accuracy']:.2f} ± {100 * record['ci95']:.2f}"
    training = f"{results['steps']:,} steps, {results['seconds'] / 60:.1f} min"
    return f"| {name} | {training} | {way} | {record['bn_mode']} | {figures} | {RECIPES[name].paper.get(way, '')} |"


if __name__ == "__main__":
    main()
