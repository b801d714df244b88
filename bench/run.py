"""Benchmarks: `python bench/run.py [engine kernels learners] [--peer torch] [--only M1 K2] [--json FILE] [--quick]`.

All of them without a name; kernels and learners share one table. Minimeta and its peers use $MINIMETA_NUM_THREADS
threads, every core by default, save for `engine`, where all use one.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

BENCHMARKS = ("engine", "kernels", "learners")
LIBRARIES = ("autograd", "torch")
#: Besides other libraries, minimeta itself without compiled kernels.
PEERS = (*LIBRARIES, "reference")


def main() -> None:
    options = _parser().parse_args()
    peers = [name for name in PEERS if _wanted(name, options.peer)]
    threads = _set_threads()
    results = _run(options, peers, threads)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(results, indent=2) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Benchmarks of minimeta, each beside its peers in one run.")
    parser.add_argument("benchmarks", nargs="*", metavar="benchmark", help=f"{', '.join(BENCHMARKS)}; default: all")
    default = "repeatable; default: all libraries installed"
    parser.add_argument("--peer", action="append", choices=[*PEERS, "none"], help=default)
    parser.add_argument("--only", nargs="+", metavar="ROW", help="of the table of kernels and learners, by name")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")
    parser.add_argument("--quick", action="store_true", help="few runs: to see that it works")
    return parser


def _wanted(peer: str, named: list[str] | None) -> bool:
    """Whether it was asked for, or is a library that is installed."""
    if named is not None:
        return peer in named
    return peer in LIBRARIES and importlib.util.find_spec(peer) is not None


def _set_threads() -> int:
    """The number of threads; before NumPy is loaded, whose BLAS reads its own number only then.

    That stays at one: minimeta's kernels divide the work among threads, and each multiplies for itself.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    return int(os.environ.setdefault("MINIMETA_NUM_THREADS", str(cores)))


def _run(options: argparse.Namespace, peers: list[str], threads: int) -> dict[str, Any]:
    import engine
    import memory_use
    import timing

    from minimeta import memory

    memory.keep()  # for all libraries alike
    benchmarks = _benchmarks(options)
    rows = _rows(benchmarks, options.only)
    packages = ["numpy", "numba", *(peer for peer in peers if peer in LIBRARIES)]
    machine = timing.machine([name for name in packages if importlib.util.find_spec(name) is not None])
    print(timing.describe(machine), flush=True)
    if (machine["load"] or 0) > machine["cores"] / 2:
        print("the machine is busy: libraries suffer from that unequally, and the ratios mean little", flush=True)
    results = {"benchmarks": benchmarks, "quick": options.quick, "machine": machine}
    if "engine" in benchmarks:
        results |= engine.run(peers, options.quick)
    if rows:
        results |= _races(rows, peers, threads, options.quick)
    if "learners" in benchmarks and options.only is None:
        results["memory"] = memory_use.measure()
        print(f"\n{memory_use.describe(results['memory'])}")
    return results


def _benchmarks(options: argparse.Namespace) -> list[str]:
    for name in options.benchmarks:
        if name not in BENCHMARKS:
            raise SystemExit(f"no benchmark {name!r}; choose from {', '.join(BENCHMARKS)}")
    return options.benchmarks or [name for name in BENCHMARKS if name != "engine" or options.only is None]


def _rows(benchmarks: list[str], only: list[str] | None) -> list[Any]:
    """The rows of kernels and learners, or those of the names in `only`."""
    import race

    rows = [row for name in benchmarks if name != "engine" for row in importlib.import_module(name).ROWS]
    return race.select(rows, only)


def _races(rows: list[Any], peers: list[str], threads: int, quick: bool) -> dict[str, Any]:
    import limits
    import table
    from race import candidates, race

    if "torch" in peers:
        import torch

        torch.set_num_threads(threads)
    reached = limits.measure(threads, peers)
    print(f"{threads} threads; matrix product {1e-9 * reached.flop:.0f} GFLOP/s, copy {1e-9 * reached.bytes:.0f} GB/s")
    print(f"\n{table.HEADER}", flush=True)
    figures = []
    for i, row in enumerate(rows):
        print(f"{row.name}: {row.title} ({i + 1} of {len(rows)})", end=_END, file=sys.stderr, flush=True)
        figures.append(race(row, partial(candidates, peers=peers), reached, quick))
        print(table.line(figures[-1]), flush=True)
    print(f"\n{table.NOTES}")
    return {"threads": threads, "limits": reached._asdict(), "rows": figures}


#: On a terminal, a row's figures take the place of its announcement.
_END = "\r" if sys.stderr.isatty() and sys.stdout.isatty() else "\n"

if __name__ == "__main__":
    main()
