"""The picture of a Taylor study: the measured coefficients beside the theory, and the residual as alpha falls."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from minimeta.analysis.taylor import INNER, NAMES, Study
from minimeta.checkpoint import write_bytes
from minimeta.data.lazy import require

FIRST, SECOND, GREY = "#2a6f97", "#c0603a", "#555555"
MARKERS = (("o", "#7a4f9a"), ("s", "#3b8a5a"), ("D", "#b5892b"))


def draw(study: Study, path: Path, about: str) -> None:
    """Draw a study as a PNG file, written whole or not at all, its folder made; `about` says what was studied.

    Raises ImportError where matplotlib is missing.
    """
    require("matplotlib", "matplotlib", path.name)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    figure.suptitle(f"{_finding(study)}\n{about}", x=0.01, ha="left", fontsize=11)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, axis="y" if axes is left else "both")
        axes.tick_params(which="both", colors=GREY)
    _draw_coefficients(left, study)
    _draw_residuals(right, study)
    content = io.BytesIO()
    figure.savefig(content, dpi=150)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content.getvalue())


def _finding(study: Study) -> str:
    if study.second.reptile == INNER:
        claim = "MAML, FOMAML and Reptile pull the same two ways, in different proportions"
    else:
        claim = f"Beside AvgGrad, MAML and FOMAML pull by {INNER}, Reptile on one mini-batch by {study.second.reptile}"
    furthest = np.abs(np.array(study.coefficients) / np.array(study.theory) - 1).max()
    return f"{claim}: measured within {100 * furthest:.2g} % of the theory"


def _draw_coefficients(axes: Any, study: Study) -> None:
    places = np.arange(len(NAMES))
    values, halves, theory = (np.array(part) for part in (study.coefficients, study.ci95, study.theory))
    for i, (color, label) in enumerate(((FIRST, "a, of AvgGrad"), (SECOND, rf"b, of $\alpha$ {INNER}"))):
        bars = places + 0.4 * i - 0.2
        axes.bar(bars, values[:, i], 0.36, yerr=halves[:, i], capsize=4, color=color, alpha=0.75, label=label)
        axes.hlines(theory[:, i], bars - 0.19, bars + 0.19, color="black", label="theory" if i else None)
        ends = np.maximum(np.abs(values) + halves, np.abs(theory))[:, i]  # beyond bar, interval and theory
        for x, value, end in zip(bars, values[:, i], ends, strict=True):
            away = 1 if value > 0 else -1
            axes.annotate(f"{value:.3f}", (x, away * end), (0, 4 * away), textcoords="offset points",
                          ha="center", va="bottom" if away > 0 else "top", color=color)  # fmt: skip
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.margins(y=0.12)
    # the legend says what b is of; where it is of something else, the algorithm's own label does
    notes = ["" if second == INNER else rf"b of $\alpha$ {second}" for second in study.second]
    axes.set_xticks(places, [f"{name}\n{note}".strip() for name, note in zip(NAMES, notes, strict=True)])
    axes.set_ylabel("coefficient, with 95 % interval over groups of tasks", color=GREY)
    axes.set_title("what the gradients are made of", fontsize=10, color=GREY)
    axes.legend(frameon=False, fontsize=9, labelcolor=GREY)


def _draw_residuals(axes: Any, study: Study) -> None:
    for name, (marker, color), size, values in zip(NAMES, MARKERS, (7, 9, 4), study.residuals, strict=True):
        # at k = 2 Reptile's residual is FOMAML's: a small marker in a large, hollow one
        axes.loglog(study.alphas, values, marker=marker, color=color, markersize=size, linewidth=1, label=name,
                    markerfacecolor="none" if size > 7 else color)  # fmt: skip
    largest = max(values[0] for values in study.residuals)
    guide = [1.7 * largest * (alpha / study.alphas[0]) ** 2 for alpha in study.alphas]
    axes.loglog(study.alphas, guide, "--", color=GREY, linewidth=1, label=r"slope 2: a quarter when $\alpha$ is halved")
    axes.set_xlabel(r"inner rate $\alpha$", color=GREY)
    axes.set_ylabel("|g - expansion| / |AvgGrad|", color=GREY)
    axes.set_title("what the expansion leaves out", fontsize=10, color=GREY)
    axes.legend(frameon=False, fontsize=9, labelcolor=GREY)
