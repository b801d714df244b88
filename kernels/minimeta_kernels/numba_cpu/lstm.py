"""The cell of an LSTM, row by row; the equations are in the reference.

A row is worked on in several short loops with one result each, because with more the compiler gives up proving that
they do not overlap and leaves them scalar; between the loops the row stays in the first cache.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minimeta_kernels import launch
from minimeta_kernels.numba_cpu.compiled import compiled, inlined
from minimeta_kernels.numba_cpu.elementary import sigmoid, tanh
from minimeta_kernels.registry import register

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
    size = c.shape[1]
    active = np.empty(4 * size, c.dtype)
    for row in range(begin, end):
        _activate(gates[row], active)
        i, f, o, u = _blocks(active)
        for n in range(size):
            c_new[row, n] = f[n] * c[row, n] + i[n] * u[n]
        for n in range(size):
            h[row, n] = o[n] * tanh(c_new[row, n])


@compiled
def _lstm_cell_vjp(begin: Any, end: Any, g_h: Any, g_c: Any, gates: Any, c: Any, to_gates: Any, to_c: Any) -> None:
    size, one = c.shape[1], c.dtype.type(1)
    active, q, g = np.empty(4 * size, c.dtype), np.empty(size, c.dtype), np.empty(size, c.dtype)
    for row in range(begin, end):
        _activate(gates[row], active)
        i, f, o, u = _blocks(active)
        to_i, to_f, to_o, to_u = _blocks(to_gates[row])
        for n in range(size):
            q[n] = tanh(f[n] * c[row, n] + i[n] * u[n])
        for n in range(size):
            g[n] = g_c[row, n] + g_h[row, n] * o[n] * (one - q[n] * q[n])
        for n in range(size):
            to_i[n] = g[n] * u[n] * i[n] * (one - i[n])
        for n in range(size):
            to_f[n] = g[n] * c[row, n] * f[n] * (one - f[n])
        for n in range(size):
            to_o[n] = g_h[row, n] * q[n] * o[n] * (one - o[n])
        for n in range(size):
            to_u[n] = g[n] * i[n] * (one - u[n] * u[n])
        for n in range(size):
            to_c[row, n] = g[n] * f[n]


@inlined
def _activate(gates: Any, active: Any) -> None:
    """The first three blocks through the sigmoid, the last through tanh."""
    for n in range(len(gates) // 4 * 3):
        active[n] = sigmoid(gates[n])
    for n in range(len(gates) // 4 * 3, len(gates)):
        active[n] = tanh(gates[n])


@inlined
def _blocks(row: Any) -> Any:
    size = len(row) // 4
    return row[:size], row[size : 2 * size], row[2 * size : 3 * size], row[3 * size :]
