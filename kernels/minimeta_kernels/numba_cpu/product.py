"""Small matrix products, and other sums over pairs of rows, by register tiles; and the transposes that feed them.

    out[i, j] (+)= sum over k of term(left[i, k], right[k, j])

The left matrix is any view, a transposed one too; the rows of the right one are padded to whole vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from minimeta_kernels.numba_cpu.compiled import FASTMATH, inlined
from minimeta_kernels.numba_cpu.cover import SPARE, VECTOR_BYTES, make_cover
from minimeta_kernels.numba_cpu.tile import lanes

#: Rows of the left matrix and terms of the sum taken at a time: what the second cache keeps of it.
_ROWS = 256
_DEPTH = 256

#: Whether sums start from 0 or from what `out` holds. Not Python's constants: Numba compiles anew for each of those.
FRESH, ONTO = np.bool_(False), np.bool_(True)

#: The scratch array that every sum needs, of int64.
POSITIONS = (2, _ROWS + SPARE)


@inlined
def padded(count: Any, itemsize: Any) -> Any:
    """Whole vectors for `count` numbers, counted in numbers."""
    width = VECTOR_BYTES // itemsize
    return (count + width - 1) // width * width


def apart(function: Callable[..., Any]) -> Any:
    """Compile a piece that kernels call in many places: one copy of its machine code in each kernel."""
    return njit(nogil=True, fastmath=FASTMATH, error_model="numpy")(function)


def make_sums(term: str) -> Any:
    """sums(left (M, K), right (K, N) or larger, out (M, N), add, positions): see above; `term` as in `make_tile`."""
    cover = make_cover(term)

    @apart
    def sums(left: Any, right: Any, out: Any, add: Any, positions: Any) -> None:
        size = out.itemsize
        row_step, step = left.strides[0] // size, left.strides[1] // size
        right_step, out_step = right.strides[0] // size, out.strides[0] // size
        terms = left.shape[1]
        for row in range(0, out.shape[0], _ROWS):
            rows = min(_ROWS, out.shape[0] - row)
            for p in range(rows + SPARE):
                i = row + min(p, rows - 1)
                positions[0, p], positions[1, p] = i * row_step, i * out_step
            for first in range(0, max(terms, 1), _DEPTH):
                depth = min(_DEPTH, terms - first)
                cover(
                    left, first * step, positions[0], right, first * right_step, right_step, out, 0, positions[1],
                    rows, out.shape[1], (1, 1, depth), (0, 0, step), add or first > 0,
                )  # fmt: skip

    return sums


multiply = make_sums("product")


@intrinsic  # type: ignore[untyped-decorator]
def transpose_block(
    typing: Any, source: Any, source_start: Any, source_step: Any, target: Any, target_start: Any, target_step: Any
) -> Any:
    """A square of as many rows as a vector has lanes, transposed in registers."""
    signature = types.void(source, types.intp, types.intp, target, types.intp, types.intp)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        dtype = sig.args[0].dtype
        size = dtype.bitwidth // 8
        width = lanes(size)
        vector = ir.VectorType(context.get_value_type(dtype), width)
        index = ir.VectorType(ir.IntType(32), width)

        def row(first: int, i: int) -> Any:
            data = context.make_array(sig.args[first])(context, builder, args[first]).data
            start, step = args[first + 1], args[first + 2]
            at = builder.add(start, builder.mul(step, ir.Constant(step.type, i)))
            return builder.bitcast(builder.gep(data, [at]), vector.as_pointer())

        rows = [builder.load(row(0, i), align=size) for i in range(width)]
        span = width // 2
        while span:  # exchange one bit of the row's number with the same bit of the column's
            low = [k if not k & span else k - span + width for k in range(width)]
            high = [k + span if not k & span else k + width for k in range(width)]
            for i in (i for i in range(width) if not i & span):
                pair = rows[i], rows[i + span]
                rows[i], rows[i + span] = (builder.shuffle_vector(*pair, ir.Constant(index, m)) for m in (low, high))
            span //= 2
        for i in range(width):
            builder.store(rows[i], row(3, i), align=size)
        return context.get_dummy_value()

    return signature, generate


@apart
def transpose(source: Any, target: Any) -> Any:
    """target = source.T for C-contiguous matrices of whole vectors each way."""
    vector = VECTOR_BYTES // source.itemsize
    rows, columns = source.shape
    for i in range(0, rows, vector):
        for k in range(0, columns, vector):
            transpose_block(source, i * columns + k, columns, target, k * target.shape[1] + i, target.shape[1])
