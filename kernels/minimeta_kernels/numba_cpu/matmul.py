"""Matrix products of stacks of matrices in any layout, by register tiles; the work is cut into blocks of results.

Of the right matrices panels of columns, as wide as a tile, are copied, or transposed in registers, into scratch memory:
rows far apart, above all by a power of two, drive each other out of the caches. For few rows of results that does not
pay, and they are read where they lie if a whole vector can be loaded from every row. The left matrices are read where
they lie, unless their rows run across memory and there are columns enough to pay for turning them. A sum is never cut,
and its terms are added in order: the same bits come out however the results are cut and the threads share them.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numba import carray, from_dtype, types

from minimeta_kernels import launch
from minimeta_kernels.numba_cpu.compiled import compiled, inlined
from minimeta_kernels.numba_cpu.cover import SPARE, VECTOR_BYTES, WIDE, make_cover
from minimeta_kernels.numba_cpu.product import apart, padded, transpose_block
from minimeta_kernels.numba_cpu.tile import PACE
from minimeta_kernels.numba_cpu.vector import ahead, data, load_some, store_some
from minimeta_kernels.registry import register

Array = np.ndarray[Any, Any]

#: Columns of a panel, in bytes: the widest tile's. Terms of it taken at a time: the second cache keeps it for a block.
_PANEL_BYTES = WIDE * VECTOR_BYTES
_DEPTH = 512 if WIDE == 2 else 256

#: Rows of a block: whole tiles, enough to pay for the panel; fewer where threads would find too few blocks to share.
_ROWS, _FEW_ROWS = 240, 48
_BLOCKS = 8

#: Rows that pay for the copy of a panel, and bytes of columns that pay for turning a left matrix.
_PAYS, _PAYS_TURNING = 40, 512

#: Least bytes in a row of b, multiplications times bytes, and results of one term each: with less, NumPy is faster.
_NARROW, _WORK, _OUTER = 16, 750_000, 2500

_cover = make_cover()


@inlined
def _steps(x: Any) -> Any:
    """Numbers from one matrix, row and column to the next; 0 between matrices if there is but one for all."""
    size = x.itemsize
    return x.strides[0] // size if x.shape[0] > 1 else 0, x.strides[1] // size, x.strides[2] // size


@inlined
def _flat(x: Any) -> Any:
    """An array of one type for every layout, at the first number of x: positions in it may lie anywhere in x."""
    return carray(data(x), (1,))


@apart
def _copy(
    source: Any, source_start: Any, row_step: Any, column_step: Any, rows: Any, columns: Any,
    target: Any, target_start: Any, target_step: Any,
) -> None:  # fmt: skip
    """A matrix in any layout into rows of adjacent numbers."""
    lanes = VECTOR_BYTES // source.itemsize
    to, of = ahead(data(target), target_start), ahead(data(source), source_start)
    if column_step == 1:
        for i in range(rows):
            for j in range(0, columns, lanes):
                count = columns - j
                store_some(to, i * target_step + j, load_some(of, i * row_step + j, count), count)
    elif row_step == 1 and min(rows, columns) >= lanes:
        for j_ in range(0, columns, lanes):
            j = min(j_, columns - lanes)  # the last square overlaps the one before
            for i_ in range(0, rows, lanes):
                i = min(i_, rows - lanes)
                transpose_block(
                    source, source_start + j * column_step + i, column_step,
                    target, target_start + i * target_step + j, target_step,
                )  # fmt: skip
    else:
        for i in range(rows):
            for j in range(columns):
                to[i * target_step + j] = of[i * row_step + j * column_step]


def _matmul(begin: Any, end: Any, a: Any, b: Any, out: Any, block: Any, flipped: Any) -> None:
    """Items: panel after panel of columns, in each the blocks of rows; a right matrix that all share is the outer."""
    batch, rows, columns = out.shape
    if flipped:
        rows, columns = columns, rows
    terms, width = a.shape[2], _PANEL_BYTES // out.itemsize
    (a_item, a_row, a_term), (b_item, b_row, b_column) = _steps(a), _steps(b)
    blocks, panels = -(-rows // block), -(-columns // width)
    sharing = batch if b_item == 0 else 1
    readable = 1 + (b.shape[0] - 1) * max(b_item, 0) + (terms - 1) * max(b_row, 0) + (columns - 1) * max(b_column, 0)
    left, whole, all_out = _flat(a), _flat(b), _flat(out)
    panel = np.empty(min(terms, _DEPTH) * width, out.dtype)
    turned = np.empty(min(rows, block) * width if flipped else 0, out.dtype)
    positions = np.empty((2, min(rows, block) + SPARE), np.int64)
    step = width if flipped else columns
    copied, listed = -1, 0
    for item in range(begin, end):
        rest, row = divmod(item, blocks)
        panel_number, same = divmod(rest, sharing)
        group, column = divmod(panel_number, panels)
        index, row, column = group + same, row * block, column * width
        many, wide = min(block, rows - row), min(width, columns - column)
        if many != listed:
            for p in range(many + SPARE):
                i = min(p, many - 1)
                positions[0, p], positions[1, p] = i * a_row, i * step
            listed = many
        result, at = (turned, 0) if flipped else (all_out, (index * rows + row) * columns + column)
        for first in range(0, terms, _DEPTH):
            depth = min(_DEPTH, terms - first)
            right, start, right_step = whole, index * b_item + first * b_row + column * b_column, b_row
            last = start + (depth - 1) * max(b_row, 0)
            if many >= _PAYS or b_column != 1 or last + padded(wide, out.itemsize) > readable:
                number = panel_number * terms + first
                if number != copied:
                    _copy(whole, start, b_row, b_column, depth, wide, panel, 0, width)
                    copied = number
                right, start, right_step = panel, 0, width
            _cover(
                left, index * a_item + row * a_row + first * a_term, positions[0], right, start, right_step,
                result, at, positions[1], many, wide, (1, 1, depth), (0, 0, a_term), first > 0,
            )  # fmt: skip
        if flipped:
            _copy(turned, 0, 1, width, wide, many, all_out, (index * columns + column) * rows + row, rows)


def _turn(begin: Any, end: Any, a: Any, out: Any) -> None:
    """out = a, items of _FEW_ROWS rows."""
    _, rows, columns = a.shape
    item, row_step, column_step = _steps(a)
    blocks = -(-rows // _FEW_ROWS)
    for number in range(begin, end):
        index, block = divmod(number, blocks)
        row = block * _FEW_ROWS
        _copy(
            _flat(a), index * item + row * row_step, row_step, column_step, min(_FEW_ROWS, rows - row), columns,
            _flat(out), (index * rows + row) * columns, columns,
        )  # fmt: skip


@functools.cache
def _kernels(dtype: Any) -> tuple[Any, Any]:
    """One machine code per dtype: by default there were one for every pair of layouts, and for read-only arrays."""
    number = from_dtype(dtype)
    read, write = types.Array(number, 3, "A", readonly=True), types.Array(number, 3, "C")
    matmul, turn = compiled(_matmul), compiled(_turn)
    matmul.compile((types.intp, types.intp, read, read, write, types.intp, types.boolean))
    turn.compile((types.intp, types.intp, read, write))
    for kernel in (matmul, turn):
        kernel.disable_compile()
    return matmul, turn


def _native(x: Array, dtype: Any) -> Array:
    """x as compiled code takes it, in whatever layout."""
    return x if x.dtype == dtype and x.flags.aligned else x.astype(dtype)


def _stacks(a: Array, b: Array, out: Array) -> None:
    """out = a @ b with any number of leading axes: at once if they can be joined, else one after another."""
    lead = out.shape[:-2]
    if all(x.shape[:-2] == lead or math.prod(x.shape[:-2]) == 1 for x in (a, b)):
        _stack(*(x.reshape(-1, *x.shape[-2:]) for x in (a, b, out)))
        return
    for i in range(len(out)):
        _stacks(_entry(a, i, out.ndim), _entry(b, i, out.ndim), out[i])


def _entry(x: Array, i: int, ndim: int) -> Array:
    """Entry i of the first of `ndim` axes, which x may lack, or have only one entry of."""
    return x if x.ndim < ndim else x[i if len(x) > 1 else 0]


def _stack(a: Array, b: Array, out: Array) -> None:
    """out = a @ b with one leading axis."""
    (batch, m, n), k = out.shape, a.shape[2]
    if len(a) > 1 and (len(b) == 1 or b.strides[0] == 0) and a.strides[0] == m * a.strides[1]:
        # one right matrix for all: the rows of all left ones are those of one
        a, b, out, batch, m = a.reshape(1, -1, k), b[:1], out.reshape(1, -1, n), 1, batch * m
    # a b = (b^T a^T)^T: where b would have to be transposed, it may be less work to transpose a and the result
    flipped = m * out.itemsize >= VECTOR_BYTES and 2 * m * (k + n) < k * n and b.strides[1] == b.itemsize
    if flipped:
        a, b, m, n = b.mT, a.mT, n, m
    multiply, turn = _kernels(out.dtype)
    if a.strides[2] != a.itemsize and n * a.itemsize >= _PAYS_TURNING and m >= _PAYS:
        across, a = a, np.empty(a.shape, a.dtype)
        launch.parallel(turn, len(a) * -(-m // _FEW_ROWS), a.size, across, a)
    panels = -(-n * out.itemsize // _PANEL_BYTES)
    work = out.size * k / PACE
    block = _FEW_ROWS if work >= launch.SMALL and batch * panels * m < _BLOCKS * _ROWS else _ROWS
    launch.parallel(multiply, batch * panels * -(-m // block), work, a, b, out, block, flipped)


def _refuses(a: Any, b: Any) -> str | None:
    """Besides other arrays: matrices for which NumPy is faster, by what was measured."""
    reason = launch.refuses(a, b)
    if reason is not None:
        return reason
    if a.ndim < 2 or b.ndim < 2:
        return "takes matrices and stacks of them"
    (m, k), n, size = a.shape[-2:], b.shape[-1], b.itemsize
    if m < 2 or n * size < _NARROW:
        return "products with vectors, and next to vectors, are left to BLAS"
    count = max(a.size * n, b.size * m)
    # BLAS rounds small matrices up; for one term NumPy does without it
    enough = count >= _OUTER if k == 1 else count * (1 + 8 / m) * (1 + 8 / n) * size >= _WORK
    return None if enough else "so small a product is not worth a launch"


@register("matmul", "numba", _refuses)
def matmul(a: Array, b: Array) -> Array:
    """a @ b with leading axes broadcast, (..., M, K), (..., K, N) -> (..., M, N).

    Raises ValueError where shapes do not fit.
    """
    (*lead, m, k), (*others, k_, n) = a.shape, b.shape
    if k != k_:
        raise ValueError(f"matmul: a {a.shape} and b {b.shape}: inner sizes differ")
    if others and lead != others:
        lead = list(np.broadcast_shapes(tuple(lead), tuple(others)))
    dtype = np.result_type(a, b)
    out = np.empty((*lead, m, n), dtype)
    if k == 0:
        out[...] = 0
    elif out.size:
        a, b = _native(a, dtype), _native(b, dtype)
        if len(lead) == 1:
            _stack(a if a.ndim == 3 else a[None], b if b.ndim == 3 else b[None], out)
        elif lead:
            _stacks(a, b, out)
        else:
            _stack(a[None], b[None], out[None])
    return out
