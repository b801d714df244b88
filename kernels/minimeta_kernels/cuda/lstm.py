"""The LSTM cell on a GPU; kernels in lstm.cu."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minimeta_kernels.cuda.entries import enter
from minimeta_kernels.cuda.source import Source, shape

_SOURCE = Source("lstm", ["lstm_cell<{S}>", "lstm_cell_vjp<{S}>"])


def lstm_cell(gates: Any, c: Any) -> tuple[Any, Any]:
    """gates [..., 4 H], c [..., H] -> h, c' [..., H]."""
    grid, scalars = _each_unit(c)
    h, c_new = _SOURCE.run("lstm_cell<{S}>", grid, 128, [gates, c], [shape(c), shape(c)], scalars)
    return h, c_new


def lstm_cell_vjp(g_h: Any, g_c: Any, gates: Any, c: Any) -> tuple[Any, Any]:
    """The gradients by gates and c for the cotangents of h and c', either of which may be None."""
    grid, scalars = _each_unit(c)
    inputs = [g_h, g_c, gates, c]
    to_gates, to_c = _SOURCE.run("lstm_cell_vjp<{S}>", grid, 128, inputs, [shape(gates), shape(c)], scalars)
    return to_gates, to_c


def _each_unit(c: Any) -> tuple[tuple[int, ...], list[Any]]:
    count = math.prod(shape(c))
    return (-(-count // 128),), [np.int64(count), np.int32(shape(c)[-1])]


enter("lstm_cell", lstm_cell)
enter("lstm_cell_vjp", lstm_cell_vjp)
