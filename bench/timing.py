"""Fair timing: candidates take turns, the median counts, and the machine is written down with every figure."""

from __future__ import annotations

import gc
import importlib.metadata
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from minimeta import doctor

#: Seconds per run of so many.
Clock = Callable[[Callable[[], Any], int], float]


def seconds(run: Callable[[], Any], repeats: int = 1) -> float:
    """The mean time of a few runs."""
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - start) / repeats


def alternate(
    candidates: Mapping[str, Callable[[], Any]], rounds: int, warm_up: int = 2,
    repeats: Mapping[str, int] | None = None, clock: Clock = seconds,
) -> dict[str, list[float]]:  # fmt: skip
    """Seconds of each candidate, round by round. They run in turns, so a slow moment of the machine hits all of them.

    `repeats` says of how many runs a candidate's turn is the mean, one where it says nothing.
    """
    for run in candidates.values():
        for _ in range(warm_up):
            run()
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    gc.collect()
    gc.freeze()  # what the libraries keep for good costs no candidate anything ...
    for _ in range(rounds):
        for name, run in candidates.items():
            gc.collect()  # ... and each pays for its own garbage alone
            samples[name].append(_turn(run, (repeats or {}).get(name, 1), clock))
    gc.unfreeze()
    return samples


def _turn(run: Callable[[], Any], repeats: int, clock: Clock) -> float:
    if repeats > 1:
        run()  # a short run would suffer from the turn before: cold caches, threads still spinning for more work
    return clock(run, repeats)


def machine(packages: Iterable[str]) -> dict[str, Any]:
    """What a figure depends on: processor, versions of `packages`, revision of this repository."""
    return {
        **doctor.machine(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in packages},
        "revision": doctor.git_revision(),
    }


def describe(header: dict[str, Any]) -> str:
    """The machine in two lines."""
    packages = ", ".join(f"{name} {version}" for name, version in header["packages"].items())
    return (
        f"{header['cpu']}, {header['cores']} cores, load {header['load']}, {header['system']}\n"
        f"Python {header['python']}, {packages}; revision {header['revision']}"
    )


def table(rows: dict[str, dict[str, float]], base: str) -> str:
    """Rows of figures by candidate, each with its ratio to `base`."""
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    lines = [" " * 24 + "".join(f"{name:>18}" for name in columns)]
    for label, row in rows.items():
        cells = [f"{_cell(row, name, base):>18}" for name in columns]
        lines.append(f"{label:24}" + "".join(cells))
    return "\n".join(lines)


def _cell(row: dict[str, float], name: str, base: str) -> str:
    if name not in row:
        return ""
    ratio = f" ({row[name] / row[base]:.2f}x)" if base in row and name != base else ""
    return f"{row[name]:.2f}{ratio}"
