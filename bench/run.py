"""Benchmarks: `python bench/run.py engine [--peer torch] [--json FILE] [--quick]`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import engine

#: Each has `add_options(parser)` and `run(options) -> dict`, which prints its table and returns what --json writes.
BENCHMARKS = {"engine": engine}


def main() -> None:
    parser = argparse.ArgumentParser(description="Benchmarks of minimeta, each beside its peers in one run.")
    commands = parser.add_subparsers(dest="benchmark", required=True)
    for name, benchmark in BENCHMARKS.items():
        command = commands.add_parser(name, help=(benchmark.__doc__ or "").splitlines()[0])
        command.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")
        command.add_argument("--quick", action="store_true", help="few runs: to see that it works")
        benchmark.add_options(command)
    options = parser.parse_args()
    results = BENCHMARKS[options.benchmark].run(options)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
