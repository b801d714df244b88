"""`minimeta plot`: pictures of what a trained model does."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from minimeta.commands import options


def add(commands: Any) -> None:
    """Describe the command to argparse."""
    parser = commands.add_parser("plot", help="pictures of a trained model", description="Pictures of a trained model.")
    subjects = parser.add_subparsers(required=True, metavar="SUBJECT")
    memory = subjects.add_parser(
        "memory",
        help="where the heads of a memory read and wrote over one sequence",
        description="Draw where the heads of a memory read and wrote over one sequence of the test part.",
    )
    memory.add_argument("dir", metavar="DIR", help="the folder of a run")
    memory.add_argument("--shot", type=int, metavar="K", help="items of the sequence, or examples per class")
    memory.add_argument("--seed", type=int, metavar="S", help="of the sequence")
    memory.add_argument("--data-dir", metavar="D", help="the folder that holds omniglot/; default: $MINIMETA_DATA")
    options.add_backend(memory)
    memory.add_argument("--out", metavar="FILE", help="a PNG file; default: DIR/memory.png")
    memory.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Draw, print the name of the file; the exit code."""
    from minimeta.experiment import draw_memory, load_model, sequence_trial

    model = load_model(args.dir)
    trial = replace(sequence_trial(model.recipe), **options.given(args, "shot", "seed"))
    path = Path(args.out or Path(args.dir) / "memory.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_memory(model, trial.source(args.data_dir), path, args.backend)
    print(path)
    return 0
