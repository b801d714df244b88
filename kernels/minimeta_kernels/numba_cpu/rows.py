"""Rows of a batch (B, N, D): cut into blocks for threads, read into scratch memory, scaled to unit length and back.

Scratch rows are padded with zeros to whole vectors. Equations: `reference/pairwise.py`.
"""

from __future__ import annotations

import math
from typing import Any

from minimeta_kernels.numba_cpu.compiled import inlined
from minimeta_kernels.numba_cpu.product import apart

#: A batch element is cut when there are fewer of them than this, into blocks of no fewer rows than that.
_ITEMS = 8
_ROWS = 48


def blocks_of(batch: int, rows: int) -> int:
    """Into how many blocks to cut the rows of one batch element; depends on shapes alone, so results do too."""
    return max(1, min(-(-_ITEMS // max(batch, 1)), rows // _ROWS))


@inlined
def span(item: Any, blocks: Any, rows: Any) -> Any:
    """Batch element, first and last row of the item-th block."""
    b, block = divmod(item, blocks)
    return b, rows * block // blocks, rows * (block + 1) // blocks


@inlined
def dot(x: Any, y: Any) -> Any:
    """x.y"""
    total = x.dtype.type(0)
    for d in range(x.size):
        total += x[d] * y[d]
    return total


@inlined
def inverse_norm(row: Any, eps: Any) -> Any:
    """1 / n, n = sqrt(|x|^2 + eps^2)."""
    return row.dtype.type(1) / math.sqrt(dot(row, row) + eps * eps)


@apart
def read(x: Any, b: Any, first: Any, last: Any, out: Any) -> None:
    """Rows first .. last of x[b] into scratch."""
    for i in range(last - first):
        row = x[b, first + i]
        for d in range(row.size):
            out[i, d] = row[d]


@apart
def read_less(x: Any, b: Any, first: Any, last: Any, origin: Any, out: Any) -> None:
    """Rows first .. last of x[b] less `origin` into scratch."""
    for i in range(last - first):
        row = x[b, first + i]
        for d in range(row.size):
            out[i, d] = row[d] - origin[d]


@apart
def read_unit(x: Any, b: Any, first: Any, last: Any, eps: Any, out: Any, inverse: Any) -> None:
    """Rows first .. last of x[b] over their norms into scratch, and the norms' inverses."""
    for i in range(last - first):
        row = x[b, first + i]
        inverse[i] = inverse_norm(row, eps)
        for d in range(row.size):
            out[i, d] = row[d] * inverse[i]


@apart
def read_projected(u: Any, b: Any, first: Any, last: Any, units: Any, inverse: Any, out: Any) -> None:
    """P of rows first .. last of u[b] into scratch: P(w) = (w - x (x.w)) / n with x of unit length."""
    for i in range(last - first):
        row = u[b, first + i]
        along = dot(row, units[i])
        for d in range(row.size):
            out[i, d] = (row[d] - units[i, d] * along) * inverse[i]


@apart
def project(units: Any, inverse: Any, w: Any, b: Any, first: Any, last: Any) -> None:
    """Rows first .. last of w[b] <- P of them."""
    for i in range(last - first):
        row = w[b, first + i]
        along = dot(row, units[i])
        for d in range(row.size):
            row[d] = (row[d] - units[i, d] * along) * inverse[i]


@apart
def curve(units: Any, inverse: Any, g: Any, u: Any, b: Any, first: Any, last: Any, out: Any, item: Any) -> None:
    """Rows of out[item] += H(g, u[b]) = -((x.g) u + (x.u) g + (u.g - 3 (x.g)(x.u)) x) / n^2 with x of unit length."""
    for i in range(last - first):
        to, row = out[item, first + i], u[b, first + i]
        a, c, s = dot(units[i], g[i]), dot(row, units[i]), dot(row, g[i])
        ac, scale = a * c, inverse[i] * inverse[i]
        s -= ac + ac + ac
        for d in range(row.size):
            to[d] -= (a * row[d] + c * g[i, d] + s * units[i, d]) * scale
