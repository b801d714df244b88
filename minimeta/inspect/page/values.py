"""Arrays as a page shows them: statistics and a histogram of all, small ones entry by entry, of large ones a map."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from minimeta.inspect.graph import describe, host

#: How dark a cell of a map is, from -LEVELS to LEVELS, is written as one letter; "!" is a cell that is not finite.
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-"
LEVELS = len(LETTERS) // 2


class Detail(NamedTuple):
    """How much of an array is shown: up to how many entries all of them, else a map of `side` x `side` cells."""

    entries: int
    side: int
    bins: int

    @classmethod
    def of(cls, nodes: int) -> Detail:
        """Less of each, the more there are, so that a page stays of a size that a browser opens at once."""
        entries = min(max(40_000 // max(nodes, 1), 8), 64)
        return cls(entries, 16, 16) if entries == 64 else cls(entries, 6, 12)


def encode(value: Any, detail: Detail) -> dict[str, Any]:
    """An array, number or Tensor as JSON: its type and statistics, and its entries or a map of them.

    >>> encode(np.array([1.0, -2.0, np.inf]), Detail.of(3))["entries"]
    [1.0, -2.0, 'Infinity']
    """
    array = host(value)
    flat = array.ravel().astype(np.float64)
    finite = flat[np.isfinite(flat)]
    top = float(np.abs(finite).max(initial=0))
    unit = finite / top if top else finite  # sums of these cannot overflow
    found: dict[str, Any] = {
        "type": describe(array),
        "size": array.size,
        "top": number(top),
        "norm": number(top * float(np.linalg.norm(unit)) if finite.size == flat.size else math.nan),
    }
    if finite.size < flat.size:
        found["nan"] = int(np.isnan(flat).sum())
        found["inf"] = int(np.isinf(flat).sum())
    if array.size > 1 and finite.size:
        found["low"], found["high"] = number(finite.min()), number(finite.max())
        found["mean"] = number(top * float(unit.mean()))
        found["bars"] = histogram(unit, detail.bins)
    rows = as_rows(array)
    if array.size <= detail.entries:
        found["columns"] = rows.shape[1]
        found["entries"] = [number(x) for x in flat]
    else:
        found["columns"], found["map"] = small_map(rows, top, detail.side)
    return found


def histogram(x: np.ndarray, bins: int) -> list[int]:
    """How many entries lie in each of as many equal parts of their range, which is at most 2 wide.

    >>> histogram(np.array([0.0, 0.1, 1.0]), 4)
    [2, 0, 0, 1]
    """
    low, span = x.min(), np.ptp(x)
    if not span:
        return [x.size]
    places = np.minimum((x - low) / span * bins, bins - 1).astype(int)
    return np.bincount(places, minlength=bins).tolist()


def number(x: Any) -> Any:
    """To 9 digits, which are all of a float32; what JSON has no number for as the text that JavaScript reads."""
    x = float(x)
    if math.isfinite(x):
        return float(f"{x:.9g}")
    return "NaN" if math.isnan(x) else "Infinity" if x > 0 else "-Infinity"


def as_rows(array: np.ndarray) -> np.ndarray:
    """As a matrix: the last axis along the rows, all others below each other; a vector or column is one row."""
    if array.ndim < 2 or array.shape[-1] == 1:
        return array.reshape(1, -1)
    return array.reshape(math.prod(array.shape[:-1]), array.shape[-1])


def small_map(rows: np.ndarray, top: float, side: int) -> tuple[int, str]:
    """The number of columns and the cells, row by row, of a matrix shrunk to at most side x side by averaging.

    A vector may be as long as the square has cells. A block with an entry that is not finite is not finite.

    >>> small_map(np.array([[0.0, 0.0, 1.0, 1.0]] * 4), 1.0, 1)
    (1, 'v')
    """
    columns = min(rows.shape[1], side if len(rows) > 1 else side * side)
    with np.errstate(invalid="ignore"):
        cells = _means(_means(rows.astype(np.float64) / (top or 1.0), 0, min(len(rows), side)), 1, columns)
    levels = np.rint(np.where(np.isfinite(cells), cells, 0) * LEVELS).astype(int) + LEVELS
    finite = np.isfinite(cells).ravel()
    return columns, "".join(LETTERS[k] if ok else "!" for k, ok in zip(levels.ravel(), finite, strict=True))


def _means(rows: np.ndarray, axis: int, count: int) -> np.ndarray:
    """Along an axis the means of `count` stretches of nearly equal length."""
    if count == rows.shape[axis]:
        return rows
    starts = np.arange(count) * rows.shape[axis] // count
    lengths = np.diff(starts, append=rows.shape[axis])
    return np.add.reduceat(rows, starts, axis) / (lengths[:, None] if axis == 0 else lengths)
