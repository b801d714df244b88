"""A picture of a run: the training loss above, the validation below, over the steps."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from minimeta.data.lazy import require

#: What a validation may have measured: its unit and name.
METRICS = {
    "val_accuracy": (100, "validation accuracy (%)"),
    "val_mse": (1, "validation error (mse)"),
    "val_bit_error": (1, "wrong bits per sequence"),
}
LOSS, VALIDATION, GREY = "#c0603a", "#2a6f97", "#555555"


def draw(records: list[dict[str, Any]], path: Path, title: str = "") -> None:
    """Draw the records of a log.jsonl as a PNG file. Raises ImportError where matplotlib is missing."""
    require("matplotlib", "matplotlib", "curve.png")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5.5), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        axes.tick_params(which="both", colors=GREY)
    _draw_loss(above, [record for record in records if "loss" in record])
    _draw_validation(below, [record for record in records if "val_ci95" in record])
    below.set_xlabel("step", color=GREY)
    figure.savefig(path, dpi=150)


def _draw_loss(axes: Any, records: list[dict[str, Any]]) -> None:
    steps, losses = [record["step"] for record in records], [record["loss"] for record in records]
    axes.plot(steps, losses, color=LOSS, alpha=0.3, linewidth=1)
    axes.set_ylabel("training loss", color=LOSS)
    positive = bool(losses) and min(losses) > 0
    # on a logarithmic axis the mean that the eye sees is that of the logarithms
    scale, back = (math.log, math.exp) if positive else (float, float)
    smooth = _smooth([scale(loss) for loss in losses], len(losses) // 40)
    axes.plot(steps, [back(value) for value in smooth], color=LOSS, linewidth=2)
    if positive:
        from matplotlib.ticker import LogLocator, NullFormatter

        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")  # 0.2, not 2 x 10^-1
        axes.yaxis.set_minor_formatter(NullFormatter())


def _draw_validation(axes: Any, records: list[dict[str, Any]]) -> None:
    metric = next((name for name in METRICS if any(name in record for record in records)), "val_accuracy")
    unit, name = METRICS[metric]
    axes.set_ylabel(name, color=VALIDATION)
    if not records:
        return
    steps = [record["step"] for record in records]
    values = [unit * record[metric] for record in records]
    low = [unit * (record[metric] - record["val_ci95"]) for record in records]
    high = [unit * (record[metric] + record["val_ci95"]) for record in records]
    axes.fill_between(steps, low, high, color=VALIDATION, alpha=0.15, linewidth=0, label="95 % interval")
    axes.plot(steps, values, color=VALIDATION, marker="o", markersize=3, linewidth=1.5)
    best = records[-1]["best_step"]
    value = values[steps.index(best)]
    axes.plot(best, value, "o", markersize=10, markerfacecolor="none", color=VALIDATION, linestyle="none",
              label=f"best: {value:.4g} at step {best}")  # fmt: skip
    axes.legend(frameon=False, loc="best", fontsize=9, labelcolor=GREY)


def _smooth(values: list[float], reach: int) -> list[float]:
    """Each value averaged with `reach` neighbours on either side.

    >>> _smooth([1.0, 2.0, 6.0], reach=1)
    [1.5, 3.0, 4.0]
    """
    windows = [values[max(0, i - reach) : i + reach + 1] for i in range(len(values))]
    return [sum(window) / len(window) for window in windows]
