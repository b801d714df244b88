"""How large the gradient of each parameter is: where learning stops, or runs away."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from minimeta import tree
from minimeta.inspect.graph import host
from minimeta.inspect.steps import norm

_BAR = 24  # characters


class Flow(NamedTuple):
    """One parameter: its norm, its gradient's, and how many entries of the gradient are 0, and NaN or infinite."""

    name: str
    size: int
    norm: float
    gradient: float
    zeros: int
    bad: int


class Flows(list[Flow]):
    """The gradients of all parameters; `print` shows them, with bars on a scale of powers of ten."""

    def __str__(self) -> str:
        width = max(map(len, ("parameter", *(row.name for row in self))))
        logs = [math.log10(row.gradient) for row in self if 0 < row.gradient < math.inf]
        low, high = min(logs, default=0.0), max(logs, default=0.0)
        lines = [f"{'parameter':<{width}}  {'|w|':>9}  {'|g|':>9}  {'zeros':>5}"]
        for row in self:
            end = f"{row.bad} of {row.size} entries NaN or Inf" if row.bad else _bar(row.gradient, low, high)
            share = row.zeros / max(1, row.size)
            lines.append(f"{row.name:<{width}}  {row.norm:9.3g}  {row.gradient:9.3g}  {share:5.0%}  {end}".rstrip())
        return "\n".join(lines)


def gradient_flow(params: Any, grads: Any) -> Flows:
    """The norm of each parameter and of its gradient, two trees of arrays of the same shapes.

    Raises ValueError naming the place where they differ.

    >>> params = {"w": np.ones(4), "b": np.zeros(1)}
    >>> print(gradient_flow(params, {"w": np.array([3.0, 4.0, 0.0, 0.0]), "b": np.array([0.05])}))
    parameter          |w|        |g|  zeros
    params['w']          2          5    50%  ████████████████████████
    params['b']          0       0.05     0%  █
    """
    rows = Flows()
    gradients = tree.leaves(tree.map(lambda w, g: g, params, grads))
    for (path, w), g in zip(tree.items(params), gradients, strict=True):
        name, w, g = tree.place("params", path), host(w), host(g)
        if w.shape != g.shape:
            raise ValueError(f"minimeta.gradient_flow: {name} has shape {w.shape}, its gradient {g.shape}")
        bad = int((~np.isfinite(g)).sum())
        rows.append(Flow(name, w.size, norm(w), norm(g), int((g == 0).sum()), bad))
    return rows


def _bar(value: float, low: float, high: float) -> str:
    """Nothing for 0, one block for the smallest norm, all for the largest."""
    if value == 0:
        return ""
    share = (math.log10(value) - low) / (high - low) if high > low else 1.0
    return "█" * (1 + round(share * (_BAR - 1)))
