"""The rows of the GPU bench, and the process that measures them: `python bench/gpu_rows.py [--dry-run] [ROW ...]`.

bench/gpu.py starts it. It writes JSON, a line per row as soon as that is measured, or without rows a line about the
device. It ends with the first row that fails, because a fault on a GPU spoils the process.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any, NamedTuple

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is loaded

import learners
import race
from gpu_device import Gpu, Processor
from limits import Limits
from race import Row
from workloads.attention import CosineAttention
from workloads.candidate import Candidate, Workload
from workloads.convolution import DIRECTIONS, Convolution
from workloads.lrua import Lrua
from workloads.maml import Maml
from workloads.mann import Mann
from workloads.meta_networks import MetaNetworksGradient
from workloads.pairwise import L1, SquaredEuclidean
from workloads.prototypical import TrainStep

import kernels
import minimeta_kernels

#: A race lasts about so many seconds, and goes around at most so many copies of the inputs.
RACE_SECONDS, MOST_COPIES = 2, 32

KINDS = ("eager", "vmap", "graph")


class Case(NamedTuple):
    """A row, something tiny in its place for dry runs, and how many times faster than peers it is to be on an H200.

    The goals are by kind of peer, one of KINDS, of which the fastest counts.
    """

    row: Row
    tiny: Workload
    goals: dict[str, float]


_KNOWN = {row.name: row for row in (*kernels.ROWS, *learners.ROWS)}
_EPISODES, _FEW, _TILES = (32, 300, 60, 64), (2, 19, 7, 5), (1, 65, 67, 70)
_MAML = {"eager": 20.0, "vmap": 4.0}
_tiny_maml = partial(Maml, tasks=1, filters=2)


def _known(name: str, tiny: Workload, tolerance: float | None = None, **goals: float) -> Case:
    row = _KNOWN[name]
    return Case(row if tolerance is None else replace(row, tolerance=tolerance), tiny, goals)


def _new(
    name: str, title: str, workload: Workload, tiny: Workload, tolerance: float = 1e-5, exact: Workload | None = None,
    **goals: float,
) -> Case:  # fmt: skip
    return Case(Row(name, title, 1, workload, tolerance, exact), tiny, goals)


def _attention(name: str, order: int, **goals: float) -> Case:
    return _known(name, CosineAttention(order, (2, 19, 7, 5, 3)), **goals)


def _memory(name: str, title: str, order: int) -> Case:
    """Which row is least used hangs on rounding: they agree tightly in float64, loosely as timed."""
    tiny, exact = Lrua(order, steps=2, batch=2), Lrua(order, steps=20, dtype="float64")
    return _new(name, f"LRUA sequence, 16 x 50 steps, {title}", Lrua(order), tiny, 0.1, exact, eager=50)


def _convolutions(letters: str) -> list[Case]:
    return [
        _known(f"K4{letter}", Convolution(2, direction, tasks=2, size=5, channels=3))
        for letter, direction in zip(letters, DIRECTIONS, strict=True)
    ]


#: By section; first those that tell most, as time may not suffice for all.
CASES = {
    "kernels": [
        _attention("K3b", 1, eager=6),
        _memory("K5b", "gradient", 1),
        _new("K1c", "L1 distances, gradient", L1(_EPISODES, 1), L1(_FEW, 1), eager=10),
        _new("K1d", "L1 distances, second order", L1(_EPISODES, 2), L1(_FEW, 2), eager=10),
        _new("K2c", "squared distances, gradient", SquaredEuclidean(_EPISODES, 1), SquaredEuclidean(_FEW, 1), eager=3),
        *_convolutions("def"),
        _known("K1a", L1(_FEW), eager=3),
        _known("K2a", SquaredEuclidean(_FEW), eager=3),
        _attention("K3a", 0),
        _attention("K3c", 2),
        _memory("K5a", "forward", 0),
        _new("K2d", "squared distances, second order", SquaredEuclidean(_EPISODES, 2), SquaredEuclidean(_FEW, 2)),
        _known("K1b", L1(_TILES)),
        _known("K2b", SquaredEuclidean(_TILES)),
        *_convolutions("abc"),
    ],
    "learners": [
        _known("M1", _tiny_maml(1, 1), **_MAML),
        _known("M3b", _tiny_maml(2, 2), **_MAML),
        _known("R1", Mann(steps=2, batch=2), tolerance=0.05),  # sums in another order choose other rows, see _memory
        _known("P1", TrainStep(way=3, queries=1, filters=4)),
        _known("N1", MetaNetworksGradient(queries=1, filters=4)),
        _known("M2", _tiny_maml(1, 2), **_MAML),
        _known("M3a", _tiny_maml(2, 1), **_MAML),
        _known("M4", _tiny_maml(2, 1, first_order=True), **_MAML),
    ],
}


def measure(case: Case, device: Any, peers: Sequence[str], limits: Limits, quick: bool, graphs: bool) -> dict[str, Any]:
    """The race's figures, how many times faster than each kind of peer we are, and who could not take part.

    Raises SystemExit where results differ, and whatever keeps minimeta or an eager peer from running.
    """
    left_out: dict[str, str] = {}
    candidates_of = partial(_candidates, device=device, peers=peers, graphs=graphs, left_out=left_out)
    figures = race.race(case.row, candidates_of, limits, quick, device.seconds, RACE_SECONDS)
    medians = {name: times["median"] for name, times in figures["seconds"].items()}
    fastest = {kind: min(found) for kind in KINDS if (found := [s for n, s in medians.items() if _kind(n) == kind])}
    ratios = {kind: seconds / medians[figures["ours"]] for kind, seconds in fastest.items()}
    kept = {key: value for key, value in figures.items() if key not in ("fastest_peer", "ratio", "reach")}
    return {**kept, "ratios": ratios, "goals": case.goals, "left_out": left_out}


def _kind(name: str) -> str | None:
    """Of a peer; None for what is minimeta itself."""
    if not name.startswith("torch"):
        return None
    return "graph" if name.endswith(_GRAPH) else "vmap" if "vmap" in name else "eager"


_GRAPH = ", graph"


def _candidates(
    workload: Workload, device: Any, peers: Sequence[str], graphs: bool, left_out: dict[str, str]
) -> dict[str, Candidate]:
    """Everyone, and as far as they can each as a graph, and minimeta by the reference's kernels on the device."""
    copies = range(_copies(workload, device))
    found = {name: _around(of) for name, of in _each(workload, device, peers, copies).items()}
    further = {name: partial(_tried, candidate) for name, candidate in found.items() if _kind(name) == "vmap"}
    further["reference kernels"] = partial(_by_reference, workload, device, copies)
    if graphs:
        for name, fresh in _each(workload, device, peers, copies).items():
            further[name + _GRAPH] = partial(_recorded, device, name, fresh)
    for name, make in further.items():
        try:
            found[name] = make()
        except Exception as error:
            found.pop(name, None)
            left_out[name] = _reason(error)
    return found


def _each(workload: Workload, device: Any, peers: Sequence[str], copies: range) -> dict[str, list[Candidate]]:
    """Minimeta and its peers by name, every copy on arrays of its own."""
    found = {race.OURS: [workload.minimeta(device.arrays) for _ in copies]}
    if "torch" in peers:
        import torch

        with torch.device(device.torch):
            sets = [workload.torch() for _ in copies]
        found |= {f"torch {variant}": [a_set[variant] for a_set in sets] for variant in sets[0]}
    return found


def _copies(workload: Workload, device: Any) -> int:
    """So many that their arrays do not fit in the device's cache; one where memory cannot be what limits."""
    needed = -(-2 * device.cache_bytes // int(workload.bytes)) if workload.bytes else 1
    return min(needed, MOST_COPIES)


def _around(copies: Sequence[Candidate]) -> Candidate:
    """One that runs its copies in turn, and keeps the result of each until its next, so that these rotate too."""
    results: list[Any] = [None] * len(copies)
    turns = count()

    def run() -> Any:
        i = next(turns) % len(copies)
        results[i] = copies[i].run()
        return results[i]

    return copies[0]._replace(run=run)


def _tried(candidate: Candidate) -> Candidate:
    candidate.run()
    return candidate


def _by_reference(workload: Workload, device: Any, copies: range) -> Candidate:
    first, *others = (race.with_reference(workload.minimeta(device.arrays)) for _ in (*copies, None))
    first.run()  # only to see whether it can; what takes part has not run before
    return _around(others)


def _recorded(device: Any, name: str, copies: Sequence[Candidate]) -> Candidate:
    return _around([device.graph(name, candidate) for candidate in copies])


def main() -> None:
    say = _only_json()
    options = _parser().parse_args()
    peers = [name for name in ("torch",) if importlib.util.find_spec(name) is not None]
    device = Processor(peers) if options.dry_run else Gpu(peers)
    minimeta_kernels.use(device.kernels)
    if not options.rows:
        others = sorted(name for name, backends in minimeta_kernels.table().items() if device.kernels not in backends)
        say({"device": device.describe(), "by_reference": others, "limits": device.limits(peers)._asdict()})
    cases = {case.row.name: case for section in CASES.values() for case in section}
    for name in options.rows:
        case = cases[name]
        if options.dry_run:
            case = case._replace(row=replace(case.row, workload=case.tiny, exact=None))
        try:
            say(measure(case, device, peers, Limits(*options.limits), options.quick, options.graphs))
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            say({"row": name, "error": _reason(error)})
            sys.exit(1)


def _only_json() -> Callable[[Any], None]:
    """What writes a value to stdout; all else that is printed there goes to stderr."""
    lines = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return lambda value: print(json.dumps(value), file=lines, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure rows of the GPU bench, for bench/gpu.py.")
    parser.add_argument("rows", nargs="*", metavar="ROW", help="by name; none: describe the device")
    parser.add_argument("--limits", type=float, nargs=2, metavar=("FLOP", "BYTES"), help="per second, of the device")
    parser.add_argument("--dry-run", action="store_true", help="tiny rows on the processor")
    parser.add_argument("--quick", action="store_true", help="few runs")
    parser.add_argument("--no-graphs", dest="graphs", action="store_false", help="record no CUDA graphs")
    return parser


def _reason(error: BaseException) -> str:
    """In one line."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]


if __name__ == "__main__":
    main()
