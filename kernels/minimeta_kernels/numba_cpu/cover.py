"""Tiles laid side by side until they cover all rows and columns of a result."""

from __future__ import annotations

from typing import Any

import numpy as np

from minimeta_kernels.numba_cpu.compiled import inlined
from minimeta_kernels.numba_cpu.target import TARGET
from minimeta_kernels.numba_cpu.tile import make_tile, shape
from minimeta_kernels.numba_cpu.vector import ahead, data

VECTOR_BYTES = TARGET.vector_bytes
#: Vectors of the widest tile.
WIDE = 4 if TARGET.registers >= 32 else 2
_ROWS = {vectors: shape(vectors) for vectors in (4, 2, 1)}

#: Tables of positions are this much longer than their rows: the last tile reads past its rows, and repeats one.
SPARE = max(_ROWS.values())


def padded_columns(columns: int, itemsize: int) -> int:
    """The number of columns when the last vector is whole: what `w` must have, since it is read in whole vectors.

    >>> padded_columns(0, 4), padded_columns(65, 4) % 4
    (0, 0)
    """
    lanes = VECTOR_BYTES // itemsize
    return -(-columns // lanes) * lanes


def make_cover(term: str = "product") -> Any:
    """The compiled function `cover(x, x_start, offsets, w, w_start, w_step, y, y_start, rows_at, rows, columns, counts,
    steps, add)`: `make_tile`'s arguments, for any number of rows and columns.

    `offsets` and `rows_at` have SPARE entries more than `rows`, each a valid position; `w` has `padded_columns`.
    """
    wide, double, single = make_tile(4, term), make_tile(2, term), make_tile(1, term)
    wide_rows, double_rows, single_rows = (_ROWS[vectors] for vectors in (4, 2, 1))

    @inlined
    def cover(
        x: Any, x_start: int, offsets: Any, w: Any, w_start: int, w_step: int, y: Any, y_start: int, rows_at: Any,
        rows: int, columns: int, counts: Any, steps: Any, add: bool,
    ) -> None:  # fmt: skip
        lanes = VECTOR_BYTES // y.itemsize
        x_, w_, y_, offsets_, rows_at_ = data(x), data(w), data(y), data(offsets), data(rows_at)
        column = 0
        while column < columns:
            left = columns - column
            if WIDE == 4 and left > 3 * lanes:
                for r in range(0, rows, wide_rows):
                    wide(x_, x_start, ahead(offsets_, r), w_, w_start + column, w_step, y_, y_start + column,
                         ahead(rows_at_, r), min(wide_rows, rows - r), left, counts, steps, add)  # fmt: skip
                column += 4 * lanes
            elif left > lanes:
                for r in range(0, rows, double_rows):
                    double(x_, x_start, ahead(offsets_, r), w_, w_start + column, w_step, y_, y_start + column,
                           ahead(rows_at_, r), min(double_rows, rows - r), left, counts, steps, add)  # fmt: skip
                column += 2 * lanes
            else:
                for r in range(0, rows, single_rows):
                    single(x_, x_start, ahead(offsets_, r), w_, w_start + column, w_step, y_, y_start + column,
                           ahead(rows_at_, r), min(single_rows, rows - r), left, counts, steps, add)  # fmt: skip
                column += lanes

    return cover


@inlined
def positions(rows: int) -> Any:
    """An empty table of positions for `rows` rows and what the last tile reads beyond them."""
    return np.zeros(rows + SPARE, np.int64)
