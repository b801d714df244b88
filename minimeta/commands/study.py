"""`minimeta study`: measure why algorithms do what they do."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minimeta.commands import options, say

if TYPE_CHECKING:
    from minimeta.analysis.taylor import Study

#: Of the record, beside what was found.
OPTIONS = ("k", "tasks", "alpha", "data", "activation", "same_batch", "seed", "backend")


def add(commands: Any) -> None:
    """Describe the command to argparse."""
    parser = commands.add_parser(
        "study",
        help="measure why MAML, first-order MAML and Reptile behave alike",
        description="The Taylor expansion of the gradients of MAML, first-order MAML and Reptile, measured: "
        "a table, and a picture of it.",
    )
    parser.add_argument("topic", choices=("taylor",))
    parser.add_argument("--k", type=int, default=2, metavar="K", help="inner steps; default 2")
    parser.add_argument("--tasks", type=int, default=40, metavar="N", help="default 40")
    parser.add_argument("--alpha", type=float, default=0.001, metavar="A", help="inner rate; default 0.001")
    parser.add_argument("--data", default="sinusoid", metavar="DATA", help="sinusoid (default), glyphs, omniglot, ...")
    parser.add_argument("--data-dir", metavar="D", help="the folder that holds omniglot/; default: $MINIMETA_DATA")
    parser.add_argument("--activation", default="tanh", metavar="F", help="tanh (default), softplus; relu has kinks")
    parser.add_argument("--same-batch", action="store_true", help="take all inner steps on one mini-batch")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of tasks and parameters; default 0")
    options.add_backend(parser)
    parser.add_argument("--out", metavar="DIR", help="for taylor.png; default: runs/study-taylor, numbered if taken")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Study, print the table, draw the picture; the exit code."""
    from minimeta.analysis import taylor, taylor_figure
    from minimeta.analysis.taylor_problems import problem
    from minimeta.progress import Progress

    taylor.check(args.k, args.tasks, args.alpha)
    picture = _picture(args.out)
    batches = taylor.mini_batches(args.k, args.same_batch)
    tasks = problem(
        args.data, batches, activation=args.activation, seed=args.seed, data_dir=args.data_dir, device=args.backend
    )
    with Progress(args.tasks, "tasks") as progress:
        found = taylor.study(tasks, args.k, args.tasks, args.alpha, same_batch=args.same_batch, report=progress.show)
    record = {**found.record(), **{name: getattr(args, name) for name in OPTIONS}}
    print(json.dumps(record) if args.json else _table(found))
    try:
        taylor_figure.draw(found, picture, _about(args))
    except ImportError as error:
        say(f"no {picture.name}: {error}")
    else:
        say(f"drawn: {picture}")
    return 0


def _picture(out: str | None) -> Path:
    """Where to draw: in --out, else in runs/study-taylor with the first free number."""
    from minimeta.run_folder import numbered

    if out is None:
        return numbered(Path("runs/study-taylor"))[1] / "taylor.png"
    picture = Path(out) / "taylor.png"
    if picture.exists():
        raise ValueError(f"{picture}: there is a picture already; choose another --out")
    return picture


def _about(args: argparse.Namespace) -> str:
    batches = "all on one mini-batch" if args.same_batch else "each on a mini-batch of its own"
    return f"{args.data}, {args.activation}, {args.tasks} tasks; {args.k} inner steps, {batches}, alpha {args.alpha:g}"


def _table(found: Study) -> str:
    from minimeta.analysis.taylor import NAMES

    lines = [f"{'gradient':<9}{'a':>18} theory {'b':>18} theory   of alpha times   left out   as alpha is halved"]
    for i, name in enumerate(NAMES):
        a, b = (
            f"{value:9.4f} ± {half:.4f} {exact:6g}"
            for value, half, exact in zip(found.coefficients[i], found.ci95[i], found.theory[i], strict=True)
        )
        left, halved, *_ = found.residuals[i]
        lines.append(f"{name:<9}  {a}   {b}   {found.second[i]:<14} {left:10.1e}   divided by {left / halved:.2f}")
    return "\n".join(lines)
