"""`minimeta doctor`: what this installation is made of."""

from __future__ import annotations

import argparse
import json
from typing import Any


def add(commands: Any) -> None:
    """Describe the command to argparse."""
    parser = commands.add_parser("doctor", help="what is installed, which kernels run, which data is found")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Print what is found; the exit code."""
    from minimeta.doctor import describe, examine

    report = examine()
    print(json.dumps(report) if args.json else describe(report))
    return 0
