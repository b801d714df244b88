"""`minimeta evaluate`: test the model of a run, on episodes drawn anew or on Lake's one-shot runs."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from minimeta.commands import options, say

if TYPE_CHECKING:
    from minimeta.experiment import Model, Trial
    from minimeta.recipe import Recipe

PROTOCOLS = ("episodes", "presentations", "lake")

#: What Lake's runs fix, so that it cannot be chosen.
EPISODES = ("data", "data_dir", "rotations", "split", "way", "shot", "query", "episodes", "seed")


def add(commands: Any) -> None:
    """Describe the command to argparse."""
    parser = commands.add_parser(
        "evaluate",
        help="test a trained model",
        description="Test the best model of a run folder. Defaults are the run's own test. By presentations: accuracy "
        "when a class comes for the first time, the second, ..., of learners that read an episode as a sequence.",
    )
    parser.add_argument("dir", metavar="DIR", help="the folder of a run")
    parser.add_argument("--protocol", choices=PROTOCOLS, default="episodes", help="default: episodes")
    parser.add_argument("--runs", metavar="PATH", help="of Lake's one-shot runs: all_runs.zip, or its extracted folder")
    options.add_data(parser)
    parser.add_argument("--split", metavar="SPLIT", help="SCHEME, PART or SCHEME/PART, e.g. vinyals/val; part: test")
    options.add_episodes(parser, "test")
    parser.add_argument("--episodes", type=int, metavar="N")
    parser.add_argument("--seed", type=int, metavar="S", help="of the episodes")
    parser.add_argument(
        "--batch-norm", metavar="MODE", help="statistics to normalise by: running, batch, support+1, episode"
    )
    parser.add_argument("--adapt-steps", type=int, metavar="N", help="adapt by N steps; the result after each")
    options.add_backend(parser, default=None)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Test by the protocol asked for, print the result; the exit code."""
    from minimeta.experiment import load_model

    if (args.protocol == "lake") != (args.runs is not None):
        raise ValueError(f"--protocol {args.protocol}, --runs {args.runs}: the lake protocol needs runs, no other does")
    model = load_model(args.dir)
    if args.adapt_steps is not None and not hasattr(model.learner, "states"):
        raise ValueError(f"--adapt-steps {args.adapt_steps}: {model.recipe.learner} does not adapt by steps")
    if args.protocol == "presentations":
        _check_presentations(args, model)
    if args.query is not None and args.query < 1:
        raise ValueError(f"--query {args.query}; need 1 or more")
    changes = {"batch_norm": args.batch_norm, "test_steps": args.adapt_steps}
    hyper = {**model.recipe.hyper, **{name: value for name, value in changes.items() if value is not None}}
    model = model._replace(learner=replace(model.recipe, hyper=hyper).make_learner())
    record, text = (_on_lake_runs if args.protocol == "lake" else _on_episodes)(args, model)
    print(json.dumps(record) if args.json else text)
    return 0


def _on_episodes(args: argparse.Namespace, model: Model) -> tuple[dict[str, Any], str]:
    """The record of the result, and the result in words."""
    from minimeta.experiment import assess
    from minimeta.sources import task

    learner, params, recipe = model
    trial = _trial(args, recipe)
    if trial.data == recipe.data and trial.split != recipe.split:
        say(f"note: trained on split {recipe.split}, so {trial.split} may test on classes of the training")
    by = "presentation" if args.protocol == "presentations" else None if args.adapt_steps is None else "step"
    result, record = assess(learner, params, trial, trial.source(args.data_dir), by)
    text = f"{task(trial.data, trial.way, trial.shot)}, {record['split']}, {result}"
    if by is None:
        return record, text
    means, intervals = record[f"{result.metric}_by_{by}"], record[f"ci95_by_{by}"]
    part = {"step": "after {} steps", "presentation": "presentation {}"}[by].format
    lines = [f"{part(number)}: {replace(result, mean=means[number], ci95=intervals[number])}" for number in means]
    return record, "\n".join([*lines, text])


def _check_presentations(args: argparse.Namespace, model: Model) -> None:
    """Raises ValueError where there are none to go by."""
    if not hasattr(model.learner, "presented"):
        raise ValueError(f"--protocol presentations: {model.recipe.learner} does not read an episode as a sequence")
    if model.recipe.way == 0:
        raise ValueError(f"--protocol presentations: {model.recipe.data} has no classes that come again")
    if args.query is not None:
        raise ValueError(f"--query {args.query}: not with --protocol presentations, where every example is asked for")


def _on_lake_runs(args: argparse.Namespace, model: Model) -> tuple[dict[str, Any], str]:
    """The record of the result, and the result in words."""
    from minimeta.experiment import assess_lake

    fixed = options.given(args, *EPISODES)
    if fixed:
        name = next(iter(fixed)).replace("_", "-")
        raise ValueError(f"--{name}: not with --protocol lake, whose runs are given")
    if model.recipe.data == "omniglot" and model.recipe.split != "lake":
        say(f"note: trained on split {model.recipe.split}, which has characters of the runs; see --split lake")
    result, record = assess_lake(model, args.runs, args.backend or model.recipe.backend)
    lines = [f"run{i:02d}: error {100 * error:.1f} %" for i, error in enumerate(record["error_by_run"], 1)]
    total = f"{len(lines)} runs: error {100 * (1 - result.mean):.2f} %; {record['way']}-way 1-shot, {result}"
    return record, "\n".join([*lines, total])


def _trial(args: argparse.Namespace, recipe: Recipe) -> Trial:
    """The run's own test, with what the command line says otherwise."""
    from minimeta.data import parse_split
    from minimeta.defaults import recipe_for
    from minimeta.experiment import sequence_trial, trial_of

    trial = (sequence_trial if args.protocol == "presentations" else trial_of)(recipe)
    other = recipe_for(recipe.learner, args.data) if args.data is not None else recipe
    if (other.test_way == 0) != (recipe.test_way == 0):
        raise ValueError(f"--data {args.data}: the model was trained on {recipe.data}, and its network is for the like")
    if other.data != recipe.data:  # other data has schemes and rotations of its own
        trial = replace(trial, data=other.data, split=other.split, rotations=other.rotations)
    scheme, part = parse_split(args.split) if args.split is not None else (None, None)
    trial = replace(trial, split=scheme or trial.split, part=part or trial.part)
    return replace(trial, **options.given(args, "way", "shot", "query", "episodes", "seed", "rotations", "backend"))
