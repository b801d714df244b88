"""A picture of a run: loss and validation over the steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from minimeta.data.lazy import require

INK, LOSS, VALIDATION = "#333333", "#c0603a", "#2a6f97"


def draw(records: list[dict[str, Any]], path: Path, title: str = "") -> None:
    """Draw the records of a log.jsonl as a PNG file. Raises ImportError where matplotlib is missing."""
    require("matplotlib", "matplotlib", "curve.png")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    left = figure.subplots()
    losses = [record for record in records if "loss" in record]
    steps = [record["step"] for record in losses]
    left.plot(steps, [record["loss"] for record in losses], color=LOSS, alpha=0.3, linewidth=1)
    left.plot(steps, _smooth([record["loss"] for record in losses]), color=LOSS, linewidth=2)
    left.set_xlabel("step")
    left.set_ylabel("training loss", color=LOSS)
    left.set_yscale("log")
    left.grid(alpha=0.2)
    left.set_title(title, loc="left", fontsize=11, color=INK)
    _draw_validation(left.twinx(), records)
    figure.savefig(path, dpi=150)


def _draw_validation(right: Any, records: list[dict[str, Any]]) -> None:
    metric = next((name for record in records for name in record if name in ("val_accuracy", "val_mse")), None)
    if metric is None:
        right.set_axis_off()
        return
    measured = [record for record in records if metric in record]
    percent = 100 if metric == "val_accuracy" else 1
    steps = [record["step"] for record in measured]
    values = [percent * record[metric] for record in measured]
    errors = [percent * record["val_ci95"] for record in measured]
    right.errorbar(steps, values, errors, color=VALIDATION, marker="o", markersize=4, linewidth=1.5, capsize=2)
    best = measured[-1]["best_step"]
    right.plot(best, values[steps.index(best)], "o", markersize=11, markerfacecolor="none", color=VALIDATION)
    unit = "accuracy (%)" if metric == "val_accuracy" else "mean squared error"
    right.set_ylabel(f"validation {unit}, 95 % interval, best circled", color=VALIDATION)


def _smooth(values: list[float], weight: float = 0.9) -> list[float]:
    """Exponential averages, corrected for their start.

    >>> _smooth([2.0, 2.0])
    [2.0, 2.0]
    """
    smooth, total, norm = [], 0.0, 0.0
    for value in values:
        total, norm = weight * total + (1 - weight) * value, weight * norm + (1 - weight)
        smooth.append(total / norm)
    return smooth
