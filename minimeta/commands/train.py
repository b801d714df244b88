"""`minimeta train`: meta-train a learner and test it."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minimeta.commands import INTERRUPTED, options, say

if TYPE_CHECKING:
    from minimeta.recipe import Recipe


def add(commands: Any) -> None:
    """Describe the command to argparse."""
    parser = commands.add_parser(
        "train",
        help="meta-train a learner and test it; without arguments, a prototypical network on glyphs",
        description="Meta-train a learner, keep the best by validation, test it. Defaults are the learner's recipe.",
    )
    parser.add_argument("learner", nargs="?", metavar="LEARNER", help="default: prototypical")
    parser.add_argument("--recipe", metavar="NAME", help="a run of `minimeta recipes`, instead of LEARNER and --data")
    options.add_data(parser)
    parser.add_argument("--split", metavar="SCHEME", help="how classes are divided: vinyals, random1200, lake")
    options.add_episodes(parser, "training")
    parser.add_argument("--test-way", type=int, metavar="N", help="of validation and test; default: as --way, if given")
    parser.add_argument("--test-shot", type=int, metavar="K", help="default: as --shot, if given")
    parser.add_argument("--tasks", type=int, metavar="T", help="episodes per step")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--steps", type=int, metavar="N")
    budget.add_argument("--minutes", type=float, metavar="M", help="of wall clock, instead of --steps")
    parser.add_argument("--seed", type=int, metavar="S", help="of parameters and episodes; default 0")
    options.add_backend(parser, default=None)
    text = "record a step as a CUDA graph and replay it, with --backend cupy; matrix products are then minimeta's own"
    parser.add_argument("--graph", action=argparse.BooleanOptionalAction, help=text)
    parser.add_argument("--out", metavar="DIR", help="a new folder; default: runs/LEARNER-DATA, numbered if taken")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out, or the latest by default")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="assignments",
        help="a hyper-parameter of the learner or a training setting, e.g. filters=32, lr=0.01, patience=10",
    )  # fmt: skip
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Train, print the result of the test; the exit code."""
    from minimeta import experiment
    from minimeta.sources import task

    folder = _out_folder(args)
    recipe = _recipe(args, folder)
    print(f"{recipe.learner} on {recipe.data}, into {folder}", file=sys.stderr)
    result, outcome = experiment.run(recipe, folder, resume=args.resume, data_dir=args.data_dir, say=say)
    print(f"test {task(recipe.data, recipe.test_way, recipe.test_shot)}, {result}")
    print(f"best at step {outcome.best_step} of {outcome.step}, {outcome.seconds:.0f} s; model and results in {folder}")
    if outcome.interrupted:
        say(f"interrupted; go on with: minimeta train --resume --out {folder}")
    return INTERRUPTED if outcome.interrupted else 0


def _recipe(args: argparse.Namespace, folder: Path) -> Recipe:
    """What to run by default, with what the command line says otherwise."""
    from minimeta.data import DataError, parse_split
    from minimeta.recipe import with_settings

    recipe = _default_recipe(args, folder)
    if args.split is not None and parse_split(args.split)[1] is not None:
        raise DataError(f"--split {args.split}: training takes a scheme, e.g. vinyals, and uses all its parts")
    names = ("split", "rotations", "way", "shot", "query", "test_way", "test_shot", "backend", "graph")
    changes = options.given(args, *names)
    for name in ("way", "shot"):
        if name in changes:
            changes.setdefault(f"test_{name}", changes[name])
    budget = options.given(args, "steps", "minutes")
    if budget:
        budget = {"steps": None, "minutes": None, **budget}
    training = replace(recipe.training, **options.given(args, "tasks", "seed"), **budget)
    return with_settings(replace(recipe, **changes, training=training), args.assignments)


def _default_recipe(args: argparse.Namespace, folder: Path) -> Recipe:
    """The named recipe, or when resuming the run's own, or that of the learner."""
    from minimeta.defaults import recipe_for
    from minimeta.experiment import load_recipe
    from minimeta.recipes import named
    from minimeta.run_folder import RunFolder

    if args.recipe is not None:
        for label, value in (("LEARNER", args.learner), ("--data", args.data)):
            if value is not None:
                raise ValueError(f"--recipe {args.recipe} says learner and data itself; leave out {label} {value}")
        return named(args.recipe)
    if args.resume and RunFolder(folder).config.exists():
        recipe = load_recipe(folder)
        asked = recipe_for(args.learner or recipe.learner, args.data or recipe.data)
        return replace(recipe, learner=asked.learner, data=asked.data)
    return recipe_for(args.learner or "prototypical", args.data or "glyphs")


def _out_folder(args: argparse.Namespace) -> Path:
    """--out, else runs/LEARNER-DATA with the first free number, or to resume the last taken one."""
    from minimeta.run_folder import numbered

    if args.out is not None:
        return Path(args.out)
    data = Path(args.data or "glyphs").resolve().name  # of a folder its own name
    name = f"{args.learner or 'prototypical'}-{data}" if args.recipe is None else args.recipe.replace("/", "-")
    taken, free = numbered(Path("runs") / name)
    return taken if args.resume else free
