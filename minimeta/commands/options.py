"""Options that several commands share."""

from __future__ import annotations

import argparse
from typing import Any


def add_data(parser: argparse.ArgumentParser) -> None:
    """Where episodes come from."""
    named = "glyphs, omniglot, sinusoid, copy, repeat-copy, associative-recall, priority-sort"
    parser.add_argument("--data", metavar="DATA", help=f"{named}, or a folder of class folders")
    parser.add_argument("--data-dir", metavar="D", help="the folder that holds omniglot/; default: $MINIMETA_DATA")
    parser.add_argument("--rotations", metavar="M", help="none, fixed_classes, per_class_random or per_episode")


def add_episodes(parser: argparse.ArgumentParser, which: str) -> None:
    """The size of `which` episodes, "training" or "test"."""
    parser.add_argument("--way", type=int, metavar="N", help=f"classes per {which} episode")
    parser.add_argument("--shot", type=int, metavar="K", help="support examples per class; of bit sequences items")
    parser.add_argument("--query", type=int, metavar="Q", help="queries per class; of repeat-copy repeats")


def add_backend(parser: argparse.ArgumentParser, default: str | None = "numpy") -> None:
    """Where to compute; None is where the run did."""
    text = f"numpy, or cupy on a GPU; default: {default or 'that of the run'}"
    parser.add_argument("--backend", choices=("numpy", "cupy"), default=default, help=text)


def given(args: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The options among `names` that the user gave a value.

    >>> given(argparse.Namespace(way=5, shot=None), "way", "shot")
    {'way': 5}
    """
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}
