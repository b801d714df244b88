"""A picture of a memory at work: where its heads read and wrote over one sequence, and what was said meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from minimeta import backend
from minimeta.curve import GREY
from minimeta.data.lazy import require
from minimeta.data.sequences import Sequences
from minimeta.learners.base import Params, points

RIGHT, WRONG = "#2a6f97", "#c0603a"
TITLES = {"write": "write weights", "read": "read weights", "usage": "usage"}


def drawable(learner: Any) -> bool:
    """Whether it reads sequences with a memory beside it."""
    return bool(getattr(learner, "read_size", 0))


def draw(learner: Any, params: Params, task: Any, path: Path, title: str = "", device: str = "numpy") -> None:
    """Draw the first of `task`, an `Episode` or `Sequences` on the host, as a PNG file; the learner runs on `device`.

    `learner` is `drawable`. Raises ImportError where matplotlib is missing.
    """
    require("matplotlib", "matplotlib", path.name)
    from matplotlib.figure import Figure

    params, there = backend.to_device((params, task), device)
    if isinstance(task, Sequences):
        outputs, weights = backend.asnumpy(learner.trace(params, there.inputs[:1]))
        above = _bit_rows(task, outputs[0])
    else:
        xs, ys, _, _, n_way = there
        _, weights = backend.asnumpy(learner.trace(params, learner.sequence(xs[:1], ys[:1], n_way)))
        above = {}
    maps = {TITLES[name]: weight[0].mean(axis=1) for name, weight in weights.items()}
    rows = _used_rows(list(maps.values()))
    heights = [0.8] * (len(above) or 1) + [2.0] * len(maps)
    figure = Figure(figsize=(9, 1.2 * sum(heights) + 1), layout="constrained")
    panels = figure.subplots(len(heights), sharex=True, height_ratios=heights)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    for axes, (name, image) in zip(panels, above.items(), strict=False):
        _show(axes, name, image.T, cmap="Greys")
    if not above:
        _show_answers(panels[0], task.ys[0], backend.asnumpy(learner.presented(params, xs[:1], ys[:1], n_way))[0])
    for axes, (name, image) in zip(panels[-len(maps) :], maps.items(), strict=True):
        shown = _show(axes, name, image.T[rows], cmap="magma", first=int(rows[0]))
        axes.yaxis.set_major_formatter(lambda row, _, size=image.shape[1]: str(round(row) % size))
        figure.colorbar(shown, ax=axes, pad=0.01).outline.set_visible(False)
    panels[-1].set_xlabel("time step", color=GREY)
    figure.savefig(path, dpi=150)


def _used_rows(maps: list[np.ndarray]) -> np.ndarray:
    """The rows [n] that ever mattered in maps [L, N], and those between; a memory's end is next to its beginning.

    >>> _used_rows([np.array([[1.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 1.0]])])
    array([-1,  0])
    """
    size = maps[0].shape[1]
    used = np.flatnonzero(np.any([weights.max(axis=0) > 0.1 * weights.max() for weights in maps], axis=0))
    gaps = np.diff(used, append=used[0] + size)
    widest = int(np.flatnonzero(gaps == gaps.max())[-1])  # the last: where all are used, from the memory's beginning
    last = int(used[widest])
    first = last + int(gaps[widest]) - size
    return np.arange(first, last + 1)


def _bit_rows(sequences: Sequences, logits: np.ndarray) -> dict[str, np.ndarray]:
    """What went in, and what was said where it counts, [L, bits] each."""
    said = 1 / (1 + np.exp(-logits)) * sequences.mask[0][:, None]
    return {"input": sequences.inputs[0], "output": said}


def _show(axes: Any, name: str, image: np.ndarray, cmap: str, first: int = 0) -> Any:
    """An image [rows, L] whose rows are numbered from `first` on."""
    extent = (-0.5, image.shape[1] - 0.5, first + len(image) - 0.5, first - 0.5)
    _label(axes, name)
    return axes.imshow(image, aspect="auto", cmap=cmap, interpolation="nearest", extent=extent)


def _show_answers(axes: Any, labels: np.ndarray, scores: np.ndarray) -> None:
    """The class of every example, and whether it was told."""
    won = points(scores, labels) > 0.5
    for told, color, name in ((won, RIGHT, "told right"), (~won, WRONG, "wrong")):
        axes.plot(np.flatnonzero(told), labels[told], "o", color=color, markersize=5, label=name)
    axes.set_yticks(np.unique(labels))
    axes.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1), labelcolor=GREY, fontsize=9)
    _label(axes, "class")


def _label(axes: Any, name: str) -> None:
    axes.set_ylabel(name, color=GREY)
    axes.tick_params(colors=GREY)
    axes.spines[:].set_visible(False)
