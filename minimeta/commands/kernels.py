"""`minimeta kernels`: which implementation of each fast operation runs, and compiling them all ahead."""

from __future__ import annotations

import argparse
from typing import Any

from minimeta.commands import say


def add(commands: Any) -> None:
    """Describe the command, and its own command `warmup`, to argparse."""
    parser = commands.add_parser(
        "kernels",
        help="which implementation of each fast operation runs; `minimeta kernels warmup` compiles them all",
        description="The kernels, their implementations here, best first, and the one that would run now.",
    )
    parser.set_defaults(command=run)
    warmup = parser.add_subparsers(metavar="COMMAND").add_parser(
        "warmup",
        help="compile every kernel now, so that no run has to wait for it",
        description="Compile every kernel now, once, so that no run has to wait for it, in as many processes as there "
        "are cores, or MINIMETA_NUM_THREADS.",
    )
    warmup.add_argument("--dtype", choices=("float32", "float64"), help="default: both")
    warmup.set_defaults(command=run_warmup)


def run(args: argparse.Namespace) -> int:
    """Print the table of kernels; the exit code."""
    from minimeta.doctor import kernels
    from minimeta_kernels import registry

    order = registry.order()
    print(f"{'kernel':<24}{'implementations':<44}runs")
    for name, backends in registry.table().items():
        print(f"{name:<24}{', '.join(backends):<44}{next((b for b in order if b in backends), 'none')}")
    print(kernels())
    return 0


def run_warmup(args: argparse.Namespace) -> int:
    """Compile every kernel; the exit code."""
    from importlib.util import find_spec

    from minimeta_kernels import launch, warmup

    if find_spec("numba") is None:
        print("nothing to compile: the kernels run in NumPy; compiled ones need Numba: pip install 'minimeta[train]'")
        return 0
    dtypes = [args.dtype] if args.dtype else warmup.DTYPES
    folder = warmup.cache_folder()
    seconds = warmup.warmup(dtypes, say, processes=launch.threads() if folder else 1)
    kept = f"kept in {folder}" if folder else "not kept: no folder can be written to; NUMBA_CACHE_DIR names one"
    print(f"all kernels for {' and '.join(dtypes)} in {seconds:.0f} s; compiled code {kept}")
    return 0
