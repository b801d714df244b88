"""Accuracy by recipe: `python bench/accuracy.py [RECIPE ...] [--runs FOLDER]`, by default all with published figures.

Each run is trained, or gone on with where it was stopped, its best model tested 5-way and 20-way on the test part, in
every batch-norm mode worth knowing. What is left of it goes to bench/results/RECIPE, and the README's table to stdout.
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

RESULTS = Path(__file__).parent / "results"
WAYS = (5, 20)
EXAMPLE = "prototypical/glyphs"  # whose model the README loads


def main() -> None:
    parser = argparse.ArgumentParser(description="Train and test the recipes whose figures are published.")
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help="see `minimeta recipes`")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="FOLDER", help="of the run folders")
    options = parser.parse_args()
    memory.keep()
    with threads.limited():
        for name in options.recipes or [name for name, recipe in RECIPES.items() if recipe.ours]:
            folder = options.runs / name.replace("/", "-")
            if not RunFolder(folder).results.exists():
                run(named(name), folder, resume=folder.exists())
            publish(name, folder)


def publish(name: str, folder: Path) -> None:
    """Test the model of a run folder, keep what is worth it, print its lines of the table."""
    kept = RESULTS / name.replace("/", "-")
    kept.mkdir(parents=True, exist_ok=True)
    for file in ("config.json", "results.json", "curve.png", *(["model.safetensors"] if name == EXAMPLE else [])):
        shutil.copyfile(folder / file, kept / file)
    tests = [test(folder, way, mode) for way in WAYS for mode in modes(folder)]
    checkpoint.write_json(kept / "tests.json", tests)
    results = checkpoint.read_json(folder / "results.json")
    for record in tests:
        way = f"{record['way']}w{record['shot']}s"
        figures = f"{100 * record['accuracy']:.2f} ± {100 * record['ci95']:.2f}"
        paper = RECIPES[name].paper.get(way, "")
        minutes = results["seconds"] / 60
        print(f"| {name} | {results['steps']}, {minutes:.0f} min | {way} | {record['bn_mode']} | {figures} | {paper} |")


def modes(folder: Path) -> tuple[str, ...]:
    """The batch-norm mode of the recipe; where that lets queries see each other, also those in which they cannot."""
    mode: str = load_model(folder).recipe.hyper["batch_norm"]
    return (mode, "running", "episode") if mode == "batch" else (mode,)


def test(folder: Path, way: int, mode: str) -> dict[str, Any]:
    """The record of 1,000 episodes."""
    _, params, recipe = load_model(folder)
    learner = replace(recipe, hyper={**recipe.hyper, "batch_norm": mode}).make_learner()
    trial = replace(trial_of(recipe), way=way, episodes=1000)
    return assess(learner, params, trial, trial.source())[1]


if __name__ == "__main__":
    main()
