"""The memory of a MAML step: it grows with the tasks computed at a time (chunk), not with those of the meta-batch."""

from __future__ import annotations

import gc
import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
from workloads import images
from workloads.maml import WAY, Maml

from minimeta.autodiff import Node
from minimeta.learners.base import chunked_meta_grad

#: (tasks, chunk): a meta-batch in ever larger pieces, then ever larger meta-batches in pieces of one size.
CASES = ((8, 1), (8, 2), (8, 4), (8, 8), (2, 2), (4, 2), (16, 2))


def measure() -> list[dict[str, Any]]:
    """Peak bytes of a step of row M3a, as it is and with inner steps computed again, and nodes alive after it."""
    workload = Maml(inner_steps=5, queries=1)
    learners = {"kept": workload.learner, "recomputed": replace(workload.learner, recompute=True)}
    params = workload.init()
    chunked_meta_grad(workload.learner, params, images.episode(1, WAY, workload.queries, np.float32))  # compiles
    figures = []
    for tasks, chunk in CASES:
        episode = images.episode(tasks, WAY, workload.queries, np.float32)
        peaks = {
            name: _peak(lambda learner=learner: chunked_meta_grad(learner, params, episode, chunk))  # noqa: B023
            for name, learner in learners.items()
        }
        figures.append({"tasks": tasks, "chunk": chunk, "bytes": peaks, "nodes_left": _nodes()})
    return figures


def _peak(run: Any) -> int:
    """The most bytes allocated at a time while it runs, beyond those before."""
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _nodes() -> int:
    """Graph nodes that are alive, and thus hold memory."""
    return sum(type(thing) is Node for thing in gc.get_objects())


def describe(figures: list[dict[str, Any]]) -> str:
    """As a table."""
    lines = ["memory of a MAML step, 5 steps, 1 query, in MB:", "tasks  chunk  inner steps kept  recomputed"]
    for row in figures:
        kept, recomputed = (1e-6 * row["bytes"][name] for name in ("kept", "recomputed"))
        lines.append(f"{row['tasks']:5}  {row['chunk']:5}  {kept:16.0f}  {recomputed:10.0f}")
    left = sum(row["nodes_left"] for row in figures)
    return "\n".join([*lines, f"graph nodes left alive after these steps: {left}"])
