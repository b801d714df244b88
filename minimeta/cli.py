"""The command line: `minimeta train`, `minimeta evaluate`, `minimeta kernels`, `minimeta doctor`.

Results go to stdout, progress and errors to stderr. Exit codes: 0 done; 1 training failed (the loss diverged); 2 the
request cannot be met, explained in one line; 130 ended by Ctrl-C, with everything saved, so that a script which goes on
after success does not take half a run for a whole one.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # imported where used: --help answers at once
    from minimeta.experiment import Trial
    from minimeta.recipe import Recipe

FAILED, REFUSED, INTERRUPTED, UNREAD = 1, 2, 130, 141  # the last two as a shell names SIGINT and SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code."""
    args = _parser().parse_args(argv)
    try:
        from minimeta import memory, threads

        memory.keep()
        with threads.limited():
            code = int(args.command(args))
            sys.stdout.flush()
            return code
    except BrokenPipeError:  # who was reading has seen enough, as in `minimeta kernels | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nor is there anything to flush at exit
        return UNREAD
    except KeyboardInterrupt:
        print("minimeta: interrupted", file=sys.stderr)
        return INTERRUPTED
    except ArithmeticError as error:
        print(f"minimeta: error: {error}", file=sys.stderr)
        return FAILED
    # what users can cause: wrong values, missing or damaged files, missing extras, a missing GPU
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        print(f"minimeta: error: {error}", file=sys.stderr)
        return REFUSED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="minimeta", description="Few-shot and meta-learning from scratch.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_train(commands)
    _add_evaluate(commands)
    _add_kernels(commands)
    doctor = commands.add_parser("doctor", help="what is installed, which kernels run, which data is found")
    doctor.add_argument("--json", action="store_true", help="print one JSON object")
    doctor.set_defaults(command=_doctor)
    return parser


def _add_train(commands: Any) -> None:
    parser = commands.add_parser(
        "train",
        help="meta-train a learner and test it; without arguments, a prototypical network on glyphs",
        description="Meta-train a learner, keep the best by validation, test it. Defaults are the learner's recipe.",
    )
    parser.add_argument("learner", nargs="?", metavar="LEARNER", help="default: prototypical")
    _add_data_options(parser)
    parser.add_argument("--split", metavar="SCHEME", help="how classes are divided: vinyals, random1200, lake")
    _add_episode_options(parser, "training")
    parser.add_argument("--test-way", type=int, metavar="N", help="of validation and test; default: as --way, if given")
    parser.add_argument("--test-shot", type=int, metavar="K", help="default: as --shot, if given")
    parser.add_argument("--tasks", type=int, metavar="T", help="episodes per step")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--steps", type=int, metavar="N")
    budget.add_argument("--minutes", type=float, metavar="M", help="of wall clock, instead of --steps")
    parser.add_argument("--seed", type=int, metavar="S", help="of parameters and episodes; default 0")
    parser.add_argument("--backend", choices=("numpy", "cupy"))
    parser.add_argument("--out", metavar="DIR", help="a new folder; default: runs/LEARNER-DATA, numbered if taken")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out, or the latest by default")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="assignments",
        help="a hyper-parameter of the learner or a training setting, e.g. filters=32, lr=0.01, patience=10",
    )  # fmt: skip
    parser.set_defaults(command=_train)


def _add_evaluate(commands: Any) -> None:
    parser = commands.add_parser(
        "evaluate",
        help="test a trained model",
        description="Test the best model of a run folder. Defaults are the run's own test.",
    )
    parser.add_argument("dir", metavar="DIR", help="the folder of a run")
    _add_data_options(parser)
    parser.add_argument("--split", metavar="SPLIT", help="SCHEME, PART or SCHEME/PART, e.g. vinyals/val; part: test")
    _add_episode_options(parser, "test")
    parser.add_argument("--episodes", type=int, metavar="N")
    parser.add_argument("--seed", type=int, metavar="S", help="of the episodes")
    parser.add_argument("--batch-norm", metavar="MODE", help="statistics to normalise by: running, batch")
    parser.add_argument("--backend", choices=("numpy", "cupy"), default="numpy")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(command=_evaluate)


def _add_kernels(commands: Any) -> None:
    parser = commands.add_parser(
        "kernels",
        help="which implementation of each fast operation runs; `minimeta kernels warmup` compiles them all",
        description="The kernels, their implementations here, best first, and the one that would run now.",
    )
    parser.set_defaults(command=_kernels)
    warmup = parser.add_subparsers(metavar="COMMAND").add_parser(
        "warmup",
        help="compile every kernel now, so that no run has to wait for it",
        description="Compile every kernel now, once, so that no run has to wait for it.",
    )
    warmup.add_argument("--dtype", choices=("float32", "float64"), help="default: both")
    warmup.set_defaults(command=_warmup)


def _add_data_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", choices=("glyphs", "omniglot", "sinusoid"))
    parser.add_argument("--data-dir", metavar="D", help="the folder that holds omniglot/; default: $MINIMETA_DATA")
    parser.add_argument(
        "--rotations", metavar="M", help="none, fixed_classes, per_class_random or per_episode"
    )


def _add_episode_options(parser: argparse.ArgumentParser, which: str) -> None:
    parser.add_argument("--way", type=int, metavar="N", help=f"classes per {which} episode")
    parser.add_argument("--shot", type=int, metavar="K", help="support examples per class")
    parser.add_argument("--query", type=int, metavar="Q", help="queries per class")


def _train(args: argparse.Namespace) -> int:
    from minimeta.experiment import run

    folder = _out_folder(args)
    recipe = _recipe(args, folder)
    print(f"{recipe.learner} on {recipe.data}, {recipe.way}-way {recipe.shot}-shot, into {folder}", file=sys.stderr)
    result, outcome = run(recipe, folder, resume=args.resume, data_dir=args.data_dir, say=_say)
    print(f"test {recipe.test_way}-way {recipe.test_shot}-shot: {result}")
    print(f"best at step {outcome.best_step} of {outcome.step}, {outcome.seconds:.0f} s; model and results in {folder}")
    if outcome.interrupted:
        _say(f"interrupted; go on with: minimeta train --resume --out {folder}")
    return INTERRUPTED if outcome.interrupted else 0


def _evaluate(args: argparse.Namespace) -> int:
    from minimeta.experiment import assess, load_model

    learner, params, recipe = load_model(args.dir)
    if args.batch_norm is not None:
        learner = replace(recipe, hyper={**recipe.hyper, "batch_norm": args.batch_norm}).make_learner()
    trial = _trial(args, recipe)
    if trial.data == recipe.data and trial.split != recipe.split:
        _say(f"note: trained on split {recipe.split}, so {trial.split} may test on classes of the training")
    result, record = assess(learner, params, trial, trial.source(args.data_dir))
    if args.json:
        print(json.dumps(record))
    else:
        print(f"{trial.way}-way {trial.shot}-shot, {record['split']}, batch norm {record['bn_mode']}: {result}")
    return 0


def _kernels(args: argparse.Namespace) -> int:
    from minimeta.doctor import kernels
    from minimeta_kernels import registry

    order = registry.order()
    print(f"{'kernel':<24}{'implementations':<20}runs")
    for name, backends in registry.table().items():
        print(f"{name:<24}{', '.join(backends):<20}{next((b for b in order if b in backends), 'none')}")
    print(kernels())
    return 0


def _warmup(args: argparse.Namespace) -> int:
    from importlib.util import find_spec

    from minimeta_kernels import warmup

    if find_spec("numba") is None:
        print("nothing to compile: the kernels run in NumPy; compiled ones need Numba: pip install 'minimeta[train]'")
        return 0
    dtypes = [args.dtype] if args.dtype else warmup.DTYPES
    seconds = warmup.warmup(dtypes, _say)
    folder = warmup.cache_folder()
    kept = f"kept in {folder}" if folder else "not kept: no folder can be written to; NUMBA_CACHE_DIR names one"
    print(f"all kernels for {' and '.join(dtypes)} in {seconds:.0f} s; compiled code {kept}")
    return 0


def _doctor(args: argparse.Namespace) -> int:
    from minimeta.doctor import describe, examine

    report = examine()
    print(json.dumps(report) if args.json else describe(report))
    return 0


def _recipe(args: argparse.Namespace, folder: Path) -> Recipe:
    """The recipe of the learner, or when resuming the run's own, with what the command line says otherwise."""
    from minimeta.data import DataError, parse_split
    from minimeta.experiment import load_recipe
    from minimeta.recipe import with_settings
    from minimeta.recipes import recipe_for
    from minimeta.run_folder import RunFolder

    if args.resume and RunFolder(folder).config.exists():
        recipe = replace(load_recipe(folder), **_given(args, "learner", "data"))
    else:
        recipe = recipe_for(args.learner or "prototypical", args.data or "glyphs")
    if args.split is not None and parse_split(args.split)[1] is not None:
        raise DataError(f"--split {args.split}: training takes a scheme, e.g. vinyals, and uses all its parts")
    changes = _given(args, "split", "rotations", "way", "shot", "query", "test_way", "test_shot", "backend")
    for name in ("way", "shot"):
        if name in changes:
            changes.setdefault(f"test_{name}", changes[name])
    budget = _given(args, "steps", "minutes")
    if budget:
        budget = {"steps": None, "minutes": None, **budget}
    training = replace(recipe.training, **_given(args, "tasks", "seed"), **budget)
    return with_settings(replace(recipe, **changes, training=training), args.assignments)


def _trial(args: argparse.Namespace, recipe: Recipe) -> Trial:
    """The run's own test, with what the command line says otherwise."""
    from minimeta.data import parse_split
    from minimeta.experiment import trial_of
    from minimeta.recipes import recipe_for

    trial = trial_of(recipe)
    if args.data is not None and args.data != recipe.data:  # other data has schemes and rotations of its own
        other = recipe_for(recipe.learner, args.data)
        trial = replace(trial, data=args.data, split=other.split, rotations=other.rotations)
    scheme, part = parse_split(args.split) if args.split is not None else (None, None)
    trial = replace(trial, split=scheme or trial.split, part=part or trial.part)
    return replace(trial, **_given(args, "way", "shot", "query", "episodes", "seed", "rotations", "backend"))


def _given(args: argparse.Namespace, *names: str) -> dict[str, Any]:
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def _out_folder(args: argparse.Namespace) -> Path:
    """--out, else runs/LEARNER-DATA with the first free number, or to resume the last taken one."""
    if args.out is not None:
        return Path(args.out)
    base = Path("runs") / f"{args.learner or 'prototypical'}-{args.data or 'glyphs'}"
    taken, folder, number = base, base, 1
    while folder.exists():
        number += 1
        taken, folder = folder, base.with_name(f"{base.name}-{number}")
    return taken if args.resume else folder


def _say(text: str) -> None:
    print(f"minimeta: {text}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
