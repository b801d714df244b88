"""Gradients against finite differences, entry by entry: not only whether they differ, but where and by how much."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minimeta.autodiff import grad
from minimeta.autodiff.transforms import scalar
from minimeta.finite_differences import float_leaves, float_places, partial_slopes
from minimeta.inspect.graph import host
from minimeta.inspect.tracing import argument_names


class Difference(NamedTuple):
    """One leaf: how many of its entries were compared, and of the one that differs most the index and both values."""

    name: str
    shape: tuple[int, ...]
    compared: int
    worst: tuple[int, ...]
    gradient: float
    expected: float

    @property
    def error(self) -> float:
        """The difference relative to the larger of the expected slope and 1; infinite for NaN."""
        error = abs(self.gradient - self.expected) / max(1.0, abs(self.expected))
        return error if error == error else np.inf


class Differences(list[Difference]):
    """All leaves; `print` shows them, the worst one marked."""

    @property
    def worst(self) -> Difference:
        """The leaf whose gradient differs most."""
        return max(self, key=lambda row: row.error)

    def __str__(self) -> str:
        width = max(map(len, ("worst entry", *map(_place, self))))
        lines = [f"{'worst entry':<{width}}  {'gradient':>14}  {'differences':>14}  {'error':>8}  compared"]
        for row in self:
            compared = f"{row.compared} of {int(np.prod(row.shape))}"
            line = f"{_place(row):<{width}}  {row.gradient:14.8g}  {row.expected:14.8g}  {row.error:8.1e}  {compared}"
            lines.append(line + ("  <- worst" if len(self) > 1 and row is self.worst else ""))
        return "\n".join(lines)


def compare(f: Callable[..., Any], *args: Any, entries: int = 100, eps: float = 1e-3, seed: int = 0) -> Differences:
    """The gradient of scalar f(*args) beside central finite differences of step `eps`, in float64, leaf by leaf.

    Arguments are trees; only floating-point leaves vary. Of a leaf with more than `entries` entries that many are drawn
    by `seed`. `minimeta.testing.check_grads` says whether derivatives of any order are right; this shows where they are
    not. Raises ValueError if `f` returns more than one number, or for entries < 1.

    >>> from minimeta import ops
    >>> print(compare(lambda p: ops.tanh(p["w"]).sum() + p["b"] ** 2, {"w": np.zeros(3), "b": 2.0}))
    worst entry        gradient     differences     error  compared
    p['w'][0]                 1               1   ...      3 of 3...
    p['b']                    4               4   ...      1 of 1...
    """
    if entries < 1:
        raise ValueError(f"minimeta.compare: entries={entries}; need entries >= 1")
    point, call = float_leaves(f, args)
    arguments = zip(argument_names(f, len(args)), args, strict=True)
    names = [place for name, arg in arguments for place in float_places(name, arg)]

    def function(point: Any) -> Any:
        return scalar(call(point)[0])

    rows, rng = Differences(), np.random.default_rng(seed)
    for i, (name, gradient) in enumerate(zip(names, grad(function)(point), strict=True)):
        g = host(gradient)
        chosen = sorted(rng.choice(g.size, min(entries, g.size), replace=False).tolist())
        indices = [tuple(map(int, np.unravel_index(k, g.shape))) for k in chosen]
        slopes = partial_slopes(function, point, i, indices, eps)
        found = [
            Difference(name, g.shape, len(chosen), at, float(g[at]), slope)
            for at, slope in zip(indices, slopes, strict=True)
        ]
        rows += [max(found, key=lambda row: row.error)] if found else []
    return rows


def _place(row: Difference) -> str:
    return row.name + (str(list(row.worst)) if row.worst else "")
