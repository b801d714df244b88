"""The cell of an LSTM, some rows at a time; the equations are in the reference.

The gates of these rows are sorted by block first: loops then run over whole vectors, whatever the size of a cell. There
are several, with one result each, because with more the compiler gives up proving that they do not overlap and leaves
them scalar; between the loops the numbers stay in the first cache.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minimeta_kernels import launch
from minimeta_kernels.numba_cpu.compiled import compiled, inlined
from minimeta_kernels.numba_cpu.elementary import sigmoid, tanh
from minimeta_kernels.registry import register

#: Numbers of a block that are worked on at a time, or those of one row.
_NUMBERS = 256

#: About what a sigmoid or tanh takes.
_FLOP = 20


def _refuses(*arrays: Any, **options: Any) -> str | None:
    """As the launcher, but cotangents may be None."""
    return launch.refuses(*(a for a in arrays if a is not None))


@register("lstm_cell", "numba", _refuses)
def lstm_cell(gates: Any, c: Any) -> tuple[Any, Any]:
    """gates [..., 4 H] (input, forget, output, candidate), cell c [..., H] -> h, c' [..., H]."""
    gates, c = launch.contiguous(gates, c)
    h, c_new = np.empty_like(c), np.empty_like(c)
    launch.parallel(_lstm_cell, _rows(c), 5.0 * _FLOP * c.size, *_by_rows(gates, c, h, c_new))
    return h, c_new


@register("lstm_cell_vjp", "numba", _refuses)
def lstm_cell_vjp(g_h: Any, g_c: Any, gates: Any, c: Any) -> tuple[Any, Any]:
    """The gradients by gates and c for the cotangents of h and c', either of which may be None."""
    g_h, g_c = (np.zeros_like(c) if g is None else g for g in (g_h, g_c))
    g_h, g_c, gates, c = launch.contiguous(g_h, g_c, gates, c)
    to_gates, to_c = np.empty_like(gates), np.empty_like(c)
    work = 6.0 * _FLOP * c.size
    launch.parallel(_lstm_cell_vjp, _rows(c), work, *_by_rows(g_h, g_c, gates, c, to_gates, to_c))
    return to_gates, to_c


def _rows(a: np.ndarray[Any, Any]) -> int:
    return math.prod(a.shape[:-1])


def _by_rows(*arrays: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    """The arrays as matrices of the same number of rows."""
    return [a.reshape(_rows(a), a.shape[-1]) for a in arrays]


@compiled
def _lstm_cell(begin: Any, end: Any, gates: Any, c: Any, h: Any, c_new: Any) -> None:
    rows = max(1, _NUMBERS // c.shape[1])
    scratch = cell_scratch(c, rows)
    for first in range(begin, end, rows):
        last = min(first + rows, end)
        cell(gates[first:last], c[first:last], h[first:last], c_new[first:last], scratch)


@compiled
def _lstm_cell_vjp(begin: Any, end: Any, g_h: Any, g_c: Any, gates: Any, c: Any, to_gates: Any, to_c: Any) -> None:
    rows = max(1, _NUMBERS // c.shape[1])
    scratch = cell_scratch(c, rows)
    for first in range(begin, end, rows):
        last = min(first + rows, end)
        cell_vjp(
            g_h[first:last], g_c[first:last], gates[first:last], c[first:last],
            to_gates[first:last], to_c[first:last], scratch,
        )  # fmt: skip


@inlined
def cell_scratch(c: Any, rows: Any) -> Any:
    """For so many rows of a cell: the gates and their gradients, and two single lines."""
    return np.empty((10, rows * c.shape[1]), c.dtype)


@inlined
def cell(gates: Any, c: Any, h: Any, c_new: Any, scratch: Any) -> None:
    """All rows of gates [rows, 4 H]."""
    _activate(gates, scratch)
    i, f, o, u = scratch[0], scratch[1], scratch[2], scratch[3]
    old, new, out = _numbers(c), _numbers(c_new), _numbers(h)
    for n in range(len(old)):
        new[n] = f[n] * old[n] + i[n] * u[n]
    for n in range(len(old)):
        out[n] = o[n] * tanh(new[n])


@inlined
def cell_vjp(g_h: Any, g_c: Any, gates: Any, c: Any, to_gates: Any, to_c: Any, scratch: Any) -> None:
    """All rows of gates [rows, 4 H]; `to_c` may be `g_c`."""
    size, one = c.shape[1], c.dtype.type(1)
    _activate(gates, scratch)
    i, f, o, u, q, g = scratch[0], scratch[1], scratch[2], scratch[3], scratch[8], scratch[9]
    to_i, to_f, to_o, to_u = scratch[4], scratch[5], scratch[6], scratch[7]
    old, to_old, from_h, from_c = _numbers(c), _numbers(to_c), _numbers(g_h), _numbers(g_c)
    for n in range(len(old)):
        q[n] = tanh(f[n] * old[n] + i[n] * u[n])
    for n in range(len(old)):
        g[n] = from_c[n] + from_h[n] * o[n] * (one - q[n] * q[n])
    for n in range(len(old)):
        to_i[n] = g[n] * u[n] * i[n] * (one - i[n])
    for n in range(len(old)):
        to_f[n] = g[n] * old[n] * f[n] * (one - f[n])
    for n in range(len(old)):
        to_o[n] = from_h[n] * q[n] * o[n] * (one - o[n])
    for n in range(len(old)):
        to_u[n] = g[n] * i[n] * (one - u[n] * u[n])
    for n in range(len(old)):
        to_old[n] = g[n] * f[n]
    for row in range(len(c)):
        for k in range(4):
            for n in range(size):
                to_gates[row, k * size + n] = scratch[4 + k, row * size + n]


@inlined
def _numbers(x: Any) -> Any:
    """Rows one after another."""
    return x.reshape(-1)


@inlined
def _activate(gates: Any, active: Any) -> None:
    """The gates of all rows block by block, the first three through the sigmoid, the last through tanh."""
    rows, size = len(gates), gates.shape[1] // 4
    for row in range(rows):
        for k in range(4):
            for n in range(size):
                active[k, row * size + n] = gates[row, k * size + n]
    for k in range(3):
        for n in range(rows * size):
            active[k, n] = sigmoid(active[k, n])
    for n in range(rows * size):
        active[3, n] = tanh(active[3, n])
