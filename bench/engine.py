"""The engine's own cost per operation: a chain of tiny ones, to first and second order.

On 8 float64 numbers, where arithmetic is next to nothing, 1,000 operations alternate tanh and multiply. "First order"
is the forward pass and the gradient of the sum; "second order" the gradient of the sum of that gradient. Every library
runs the same chain, and must agree on its derivatives before it is timed.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import timing

from minimeta import grad, ops

LENGTH = 1000
Workloads = dict[str, Callable[[], Any]]


def chain(tanh: Callable[[Any], Any], x: Any) -> Any:
    y = x
    for _ in range(LENGTH // 2):
        y = tanh(y) * x
    return y


def numpy_workloads(x: np.ndarray) -> Workloads:
    return {"forward": lambda: chain(np.tanh, x)}


def minimeta_workloads(x: np.ndarray) -> Workloads:
    first = grad(lambda x: chain(ops.tanh, x).sum())
    second = grad(lambda x: first(x).sum())
    return {
        "forward": lambda: chain(ops.tanh, x),
        "first order": lambda: first(x),
        "second order": lambda: second(x),
    }


def autograd_workloads(x: np.ndarray) -> Workloads:
    import autograd
    import autograd.numpy as anp

    first = autograd.grad(lambda x: anp.sum(chain(anp.tanh, x)))
    second = autograd.grad(lambda x: anp.sum(first(x)))
    return {"first order": lambda: first(x), "second order": lambda: second(x)}


def torch_workloads(x: np.ndarray) -> Workloads:
    import torch

    torch.set_num_threads(1)
    leaf = torch.from_numpy(x).requires_grad_()

    def first() -> Any:
        return torch.autograd.grad(chain(torch.tanh, leaf).sum(), leaf)[0]

    def second() -> Any:
        (slope,) = torch.autograd.grad(chain(torch.tanh, leaf).sum(), leaf, create_graph=True)
        return torch.autograd.grad(slope.sum(), leaf)[0]

    return {"first order": first, "second order": second}


PEERS = {"autograd": autograd_workloads, "torch": torch_workloads}


def run(peers: list[str], quick: bool) -> dict[str, Any]:
    """Microseconds per operation of each library, and what `import minimeta` adds to NumPy's import."""
    x = np.random.default_rng(0).normal(size=8)
    workloads = {"NumPy": numpy_workloads(x), "minimeta": minimeta_workloads(x)}
    workloads |= {name: PEERS[name](x) for name in peers}
    _agree(workloads)
    rounds = 5 if quick else 41
    figures = {}
    for label in ("forward", "first order", "second order"):
        candidates = {name: runs[label] for name, runs in workloads.items() if label in runs}
        samples = timing.alternate(candidates, rounds)
        figures[label] = {name: 1e6 * statistics.median(times) / LENGTH for name, times in samples.items()}
    milliseconds = import_milliseconds(3 if quick else 11)
    print(f"\nmicroseconds per operation, median of {rounds} alternating runs, one thread; in brackets: against ours\n")
    print(timing.table(figures, base="minimeta"))
    print(f"\nimport minimeta adds {milliseconds:.0f} ms to import numpy")
    return {
        "length": LENGTH, "elements": len(x), "rounds": rounds,
        "microseconds_per_operation": figures, "import_milliseconds": milliseconds,
    }  # fmt: skip


def import_milliseconds(rounds: int) -> float:
    """What `import minimeta` takes after `import numpy`: the median over fresh interpreters."""
    code = "import numpy, time; t = time.perf_counter(); import minimeta; print(time.perf_counter() - t)"
    command = [sys.executable, "-c", code]
    return 1e3 * statistics.median(float(subprocess.check_output(command)) for _ in range(rounds))


def _agree(workloads: dict[str, Workloads]) -> None:
    """Stop unless every library computes the same values and derivatives."""
    for label, ours in workloads["minimeta"].items():
        for name, runs in workloads.items():
            if label in runs and not np.allclose(np.asarray(runs[label]()), ours(), rtol=1e-9):
                raise SystemExit(f"{name} and minimeta disagree: {label}")
