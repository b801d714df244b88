"""One row of the table: minimeta and its peers agree on the result, then run in turns."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import timing
from limits import Limits
from workloads.candidate import Candidate, Workload

import minimeta_kernels
from minimeta import backend

#: A race lasts about so long and a turn at least so long, as far as the rounds allow.
RACE_SECONDS, TURN_SECONDS = 10, 0.02
QUICK_ROUNDS, LEAST_ROUNDS, MOST_ROUNDS = 2, 3, 41

#: What minimeta's candidates begin with.
OURS = "minimeta"


def is_ours(name: str) -> bool:
    return name.startswith(OURS)


@dataclass(frozen=True)
class Row:
    """`reach` is how many times faster than the fastest peer minimeta is to be.

    Results agree to `tolerance`, relative to their norm; of `exact`, a smaller workload in float64, to 1e-9.
    """

    name: str
    title: str
    reach: float
    workload: Workload
    tolerance: float = 1e-5
    exact: Workload | None = None


def select(rows: Sequence[Row], only: Sequence[str] | None) -> list[Row]:
    """Those of the names in `only`: "M1", or "M3" for both M3a and M3b; all where it is None.

    Raises SystemExit for a name that no row has.
    """
    if only is None:
        return list(rows)
    for name in only:
        if not any(name in _names(row) for row in rows):
            raise SystemExit(f"no row {name!r}; there are {', '.join(row.name for row in rows)}")
    return [row for row in rows if not _names(row).isdisjoint(only)]


def _names(row: Row) -> set[str]:
    return {row.name, row.name.rstrip("abcdef")}


def race(
    row: Row, candidates_of: Callable[[Workload], dict[str, Candidate]], limits: Limits, quick: bool,
    clock: timing.Clock = timing.seconds, length: float = RACE_SECONDS,
) -> dict[str, Any]:  # fmt: skip
    """The row's figures; of about `length` seconds. Raises SystemExit naming the row where results differ."""
    if row.exact is not None:
        _agree(row.name, candidates_of(row.exact), 1e-9)
    candidates = candidates_of(row.workload)
    _agree(row.name, candidates, row.tolerance)
    repeats, pace = _pace(candidates, clock)
    racing = _in_the_running(pace, length)
    fitting = int(length / sum(repeats[name] * pace[name] for name in racing))
    rounds = QUICK_ROUNDS if quick else min(max(fitting, LEAST_ROUNDS), MOST_ROUNDS)
    runs = {name: candidates[name].run for name in racing}
    samples = timing.alternate(runs, rounds, warm_up=0, repeats=repeats, clock=clock)
    return _figures(row, limits, {name: samples.get(name, [seconds]) for name, seconds in pace.items()})


def candidates(workload: Workload, peers: Sequence[str]) -> dict[str, Candidate]:
    """Minimeta on the processor and its peers, by name."""
    found = {OURS: workload.minimeta()}
    if "torch" in peers:
        found |= {f"torch {variant}": candidate for variant, candidate in workload.torch().items()}
    if "reference" in peers:
        found["reference kernels"] = with_reference(workload.minimeta())
    return found


def with_reference(candidate: Candidate) -> Candidate:
    """The same work by the reference's kernels."""

    def run() -> Any:
        with minimeta_kernels.use("reference"):
            return candidate.run()

    return candidate._replace(run=run)


def _agree(row: str, candidates: dict[str, Candidate], tolerance: float) -> None:
    """Stop unless all candidates, each in its first run, give the same arrays."""
    ours: list[np.ndarray] = []
    for name, candidate in candidates.items():
        arrays = backend.asnumpy(candidate.arrays(candidate.run()))
        ours = ours or arrays
        for i, (a, b) in enumerate(zip(ours, arrays, strict=True)):
            error = difference(a, b)
            if not error <= tolerance:
                shapes = f"{a.shape} and {b.shape}, {a.dtype}"
                raise SystemExit(f"{row}: {name} and minimeta disagree by {error:.1e} in result {i} ({shapes})")


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Relative to a; 0 between zeros, as the gradient of a dead unit is."""
    if a.shape != b.shape:
        return math.inf
    size, distance = float(np.linalg.norm(a)), float(np.linalg.norm(a - b))
    if size == 0:
        return math.inf if distance else 0.0
    return distance / size


def _pace(candidates: dict[str, Candidate], clock: timing.Clock) -> tuple[dict[str, int], dict[str, float]]:
    """How many runs fill a turn, and the seconds of one, by name."""
    repeats, pace = {}, {}
    for name, candidate in candidates.items():
        repeats[name], pace[name] = 1, clock(candidate.run, 1)
        while repeats[name] * pace[name] < TURN_SECONDS:
            repeats[name] *= 2
            pace[name] = clock(candidate.run, repeats[name])
    return repeats, pace


def _in_the_running(pace: dict[str, float], length: float) -> list[str]:
    """Everyone, or where that takes too long ours and the peers that may win; the others keep the time they have."""
    best = min((seconds for name, seconds in pace.items() if not is_ours(name)), default=0.0)
    short = LEAST_ROUNDS * sum(pace.values()) < length
    return [name for name, seconds in pace.items() if short or is_ours(name) or seconds < 2 * best]


def _figures(row: Row, limits: Limits, samples: dict[str, list[float]]) -> dict[str, Any]:
    seconds = {name: _quartiles(times) for name, times in samples.items()}
    best = min(filter(is_ours, seconds), key=lambda name: seconds[name]["median"])
    ours = seconds[best]["median"]
    peers = {name: figures["median"] for name, figures in seconds.items() if not is_ours(name)}
    fastest = min(peers, key=lambda name: peers[name], default=None)
    ratio = None if fastest is None else peers[fastest] / ours
    compute, traffic = row.workload.flop / limits.flop, row.workload.bytes / limits.bytes
    return {
        "row": row.name, "title": row.title, "rounds": len(samples[best]), "seconds": seconds,
        "ours": best, "fastest_peer": fastest, "ratio": ratio, "reach": row.reach,
        "gflop_per_second": 1e-9 * row.workload.flop / ours,
        "gbytes_per_second": 1e-9 * row.workload.bytes / ours,
        "limited_by": "arithmetic" if compute >= traffic else "memory",
        "share_of_limit": max(compute, traffic) / ours,
    }  # fmt: skip


def _quartiles(times: list[float]) -> dict[str, float]:
    low, median, high = np.quantile(times, (0.25, 0.5, 0.75))
    return {"low": float(low), "median": float(median), "high": float(high)}
