"""A picture of learning sinusoids: what a few steps of adaptation make of the regressor, on tasks never seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from minimeta import backend
from minimeta.curve import GREY
from minimeta.data.lazy import require
from minimeta.data.sinusoid import INPUTS, SinusoidSampler
from minimeta.learners.base import Params

TASKS = 3
TRUTH, BEFORE, ONE, LAST = "#bbbbbb", "#c0603a", "#7fb069", "#2a6f97"


def draw(learner: Any, params: Params, sampler: SinusoidSampler, path: Path) -> None:
    """Draw the first tasks of `sampler` as a PNG file: the wave, its support points, and the regressor by step.

    `learner` adapts by steps (`states`). Raises ImportError where matplotlib is missing.
    """
    require("matplotlib", "matplotlib", path.name)
    from matplotlib.figure import Figure

    xs, ys, *_ = sampler.batch(0, TASKS)
    amplitude, phase = sampler.waves(0, TASKS)
    grid = np.linspace(*INPUTS, 200, dtype=np.float32)
    queries = np.tile(grid[:, None], (TASKS, 1, 1))
    curves = [
        backend.asnumpy(learner.predict(params, state, queries))[..., 0]
        for state in learner.states(params, xs, ys, 0)
    ]
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    for i, axes in enumerate(figure.subplots(1, TASKS)):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=GREY)
        axes.plot(grid, amplitude[i] * np.sin(grid - phase[i]), color=TRUTH, linewidth=5, label="the task")
        _draw_steps(axes, grid, [curve[i] for curve in curves])
        axes.plot(xs[i, :, 0], ys[i, :, 0], "^", color="black", markersize=7, label=f"{xs.shape[1]} points seen")
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, labelcolor=GREY)
    figure.savefig(path, dpi=150)


def _draw_steps(axes: Any, grid: np.ndarray, curves: list[np.ndarray]) -> None:
    last = len(curves) - 1
    axes.plot(grid, curves[0], color=BEFORE, linestyle=":", linewidth=1.5, label="before adaptation")
    if last > 1:
        axes.plot(grid, curves[1], color=ONE, linestyle="--", linewidth=1.5, label="after 1 step")
    if last > 0:
        axes.plot(grid, curves[last], color=LAST, linewidth=1.5, label=f"after {last} step{'s' * (last > 1)}")
