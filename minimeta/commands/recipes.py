"""`minimeta recipes`: the runs that have a name, with the paper's figures and ours."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minimeta.recipes import NamedRecipe


def add(commands: Any) -> None:
    """Describe the command to argparse."""
    parser = commands.add_parser(
        "recipes",
        help="the runs that have a name, for `minimeta train --recipe NAME`",
        description="The runs that have a name: what each is, and its figures, the paper's and ours: accuracies in "
        "percent, of sinusoids mean squared errors by steps of adaptation, of bit sequences wrong bits by length.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, every setting included")
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Print the recipes; the exit code."""
    from minimeta.recipes import RECIPES

    if args.json:
        print(json.dumps({name: _record(entry) for name, entry in RECIPES.items()}))
        return 0
    for name, entry in RECIPES.items():
        print(f"{name}: {entry.about}")
        _print_figures("paper", {test: f"{mean:g}" for test, mean in entry.paper.items()})
        _print_figures("ours", {test: f"{mean:.2f} ± {half:.2f}" for test, (mean, half) in entry.ours.items()})
    return 0


def _record(entry: NamedRecipe) -> dict[str, Any]:
    return {"about": entry.about, "paper": entry.paper, "ours": entry.ours, "recipe": entry.recipe.record()}


def _print_figures(whose: str, figures: dict[str, str]) -> None:
    if figures:
        print(f"    {whose:<6}" + ", ".join(f"{test} {figure}" for test, figure in figures.items()))
