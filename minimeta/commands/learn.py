"""`minimeta learn`: seven short lessons on automatic differentiation, run as they are printed."""

from __future__ import annotations

import argparse
from typing import Any


def add(commands: Any) -> None:
    """Describe the command to argparse."""
    parser = commands.add_parser(
        "learn",
        help="seven short lessons on automatic differentiation; `minimeta learn 1` is the first",
        description="Seven short lessons on automatic differentiation, for readers who know calculus. The examples of "
        "a lesson run as it is printed; one that gives something else than the lesson says is an error.",
    )
    parser.add_argument("lesson", nargs="?", type=int, metavar="N", help="the lesson; without it, what there is")
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """List the lessons, or print one; the exit code."""
    from minimeta.inspect import lessons

    if args.lesson is None:
        for number in range(1, len(lessons.LESSONS) + 1):
            print(lessons.lesson(number).splitlines()[0])
        print(f"\nRead one: minimeta learn 1\nTry it:   python -i -m {lessons.__name__}.{lessons.LESSONS[0]}")
        return 0
    names: dict[str, Any] = {}
    try:
        lessons.play(lessons.lesson(args.lesson), names)
    finally:
        names.clear()  # its functions hold these names, and so themselves and every graph among them
    return 0
