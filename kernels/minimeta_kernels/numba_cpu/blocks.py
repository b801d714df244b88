"""Small networks on many examples: blocks of examples lie along the vectors and stay in the first caches.

What a layer multiplies is a matrix [terms, BLOCK], so that it is a register tile, and what follows it one loop over
whole vectors, whatever the number of its units. Sums over examples, which gradients of weights are, are made by span of
blocks and then added up: the same whatever the threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minimeta_kernels.numba_cpu.compiled import inlined
from minimeta_kernels.numba_cpu.cover import VECTOR_BYTES
from minimeta_kernels.numba_cpu.product import apart
from minimeta_kernels.numba_cpu.target import TARGET
from minimeta_kernels.numba_cpu.tile import lanes, make_tile, shape
from minimeta_kernels.numba_cpu.vector import ahead, data

#: Twenty units and their bias are the columns of one tile either way, of the tiles that fill the registers.
_VECTORS, _TILE = (2, shape(2)) if TARGET.registers >= 32 else (3, 4)
_tile = make_tile(_VECTORS, rows=_TILE)

#: Examples in a block: whole tiles for both dtypes, and some hundred numbers of each fit the second cache.
BLOCK = 96
#: Spans of blocks, at most: enough for many threads, few enough to add up.
_SPANS = 64


def spans_of(count: int) -> np.ndarray[Any, Any]:
    """Where the spans of so many examples begin, and the last one ends.

    >>> spans_of(130).tolist(), spans_of(0).tolist()
    ([0, 96, 130], [0])
    """
    size = max(1, -(-count // (_SPANS * BLOCK))) * BLOCK
    return np.minimum(np.arange(-(-count // size) + 1) * size, count)


def tile_columns(columns: int, itemsize: int) -> int:
    """So many columns, and what a tile takes beyond them."""
    width = _VECTORS * lanes(itemsize)
    return -(-columns // width) * width


@inlined
def rows(x: Any) -> Any:
    """Where the rows of a matrix begin, and the last one as often as a tile reads past it."""
    found = np.empty(len(x) + _TILE, np.int64)
    for p in range(len(found)):
        found[p] = min(p, len(x) - 1) * x.shape[1]
    return found


@inlined
def clear(x: Any) -> None:
    flat = x.reshape(x.size)
    for n in range(len(flat)):
        flat[n] = 0


@inlined
def take(examples: Any, columns: Any) -> None:
    """Examples [n, K] into the columns of a block, and zeros into those behind them."""
    for k in range(len(columns)):
        for n in range(len(examples)):
            columns[k, n] = examples[n, k]
        for n in range(len(examples), columns.shape[1]):
            columns[k, n] = 0


@inlined
def put(columns: Any, examples: Any) -> None:
    """The columns of a block as examples [n, K]."""
    for n in range(len(examples)):
        for k in range(len(columns)):
            examples[n, k] = columns[k, n]


@apart
def product(
    left: Any, left_start: Any, left_at: Any, right: Any, right_start: Any, y: Any, y_start: Any, y_at: Any,
    terms: Any, add: Any,
) -> None:  # fmt: skip
    """y [rows, columns] (+)= left [rows, terms] right [terms, columns], each from so many numbers on in its array."""
    rows, columns = len(y_at) - _TILE, right.shape[-1]
    for column in range(0, columns, _VECTORS * VECTOR_BYTES // y.itemsize):
        for row in range(0, rows, _TILE):
            _tile(
                data(left), left_start, ahead(data(left_at), row), data(right), right_start + column, columns,
                data(y), y_start + column, ahead(data(y_at), row), min(_TILE, rows - row), columns - column,
                (1, 1, terms), (0, 0, 1), add,
            )  # fmt: skip
