"""The one inner loop of all dense kernels: a tile of results held in vector registers while a long sum runs through it.

    y[row[p], 0:columns] (+)= sum over k of term(x[offset[p] + step(k)], w[k, 0:columns])        p < rows

`x` is read one number at a time and spread over a vector, `w` and `y` a vector at a time. k runs over three nested
counters with a step in x each, so that without copying anything the same loop is a matrix product, a convolution (the
counters are kernel row, kernel column and channel), the gradient of its weights (image, row, column), and with another
`term` a table of distances. LLVM's vectorisers find none of this by themselves: it is written in its own vectors here.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from minimeta_kernels.numba_cpu.target import TARGET

#: A tile adds so many terms in the time that other loops need for one operation: what `launch.parallel` is told.
PACE = 16

_I32 = ir.IntType(32)


def shape(vectors: int) -> int:
    """How many rows fill the registers beside `vectors` vectors of columns.

    One register per result, one per vector of w and one for x; more than 12 rows run out of address registers.
    """
    return max(1, min(12, (TARGET.registers - vectors - 4) // vectors))


def lanes(itemsize: int) -> int:
    """Numbers in one vector."""
    return TARGET.vector_bytes // itemsize


def make_tile(vectors: int, term: str = "product", rows: int | None = None) -> Any:
    """The tile of `rows` (`shape(vectors)`) by `vectors` vectors; `term`: "product", "absolute" or "square" difference.

    The intrinsic is `tile(x, x_start, offsets, w, w_start, w_step, y, y_start, rows_at, rows, columns, counts, steps,
    add)`. It takes C-contiguous arrays of any shape, or pointers (vector.data), and positions in them counted in
    numbers: `offsets` and `rows_at` are int64 arrays of `shape(vectors)` entries (the unused ones repeat a valid one),
    `rows` and `columns` say how much of the tile is stored, `counts` and `steps` are the three counters and their steps
    in x, `w_step` is the step in w per term. With `add` the sum starts from what y holds. `w` is read whole vectors
    wide whatever `columns`.
    """
    rows_max = rows or shape(vectors)

    @intrinsic  # type: ignore[untyped-decorator]
    def tile(
        typing: Any, x: Any, x_start: Any, offsets: Any, w: Any, w_start: Any, w_step: Any,
        y: Any, y_start: Any, rows_at: Any, rows: Any, columns: Any, counts: Any, steps: Any, add: Any,
    ) -> Any:  # fmt: skip
        signature = types.void(
            x, types.intp, offsets, w, types.intp, types.intp, y, types.intp, rows_at, types.intp, types.intp,
            types.UniTuple(types.intp, 3), types.UniTuple(types.intp, 3), types.boolean,
        )  # fmt: skip

        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            emit = _Emitter(context, builder, y.dtype, term)
            x, offsets, w, y_, rows_at = (emit.pointer(sig.args[i], args[i]) for i in (0, 2, 3, 6, 8))
            x_start, w_start, w_step, y_start, rows, columns, add = (args[i] for i in (1, 4, 5, 7, 9, 10, 13))
            starts = [emit.at(x, builder.add(x_start, emit.load_index(offsets, p))) for p in range(rows_max)]
            masks = [emit.first_lanes(builder.sub(columns, emit.index(v * emit.lanes))) for v in range(vectors)]
            whole = builder.icmp_signed(">=", columns, emit.index(vectors * emit.lanes))
            acc = [[cgutils.alloca_once(builder, emit.vector) for _ in range(vectors)] for _ in range(rows_max)]

            def place(p: int, v: int) -> Any:
                row = builder.add(y_start, emit.load_index(rows_at, p))
                return emit.at(y_, builder.add(row, emit.index(v * emit.lanes)))

            def start_row(p: int, masked: bool) -> None:
                for v in range(vectors):
                    held = emit.masked_load(place(p, v), masks[v]) if masked else emit.load_vector(place(p, v))
                    builder.store(held, acc[p][v])

            def store_row(p: int, masked: bool) -> None:
                for v in range(vectors):
                    total = builder.load(acc[p][v])
                    if masked:
                        emit.masked_store(total, place(p, v), masks[v])
                    else:
                        emit.store_vector(total, place(p, v))

            with builder.if_else(add) as (resume, fresh):
                with resume, builder.if_else(whole) as (plain, ragged):
                    with plain:
                        for p in range(rows_max):
                            start_row(p, masked=False)
                    with ragged:
                        for p in range(rows_max):
                            start_row(p, masked=True)
                with fresh:
                    for row in acc:
                        for slot in row:
                            builder.store(emit.zero, slot)
            w_now = cgutils.alloca_once_value(builder, emit.at(w, w_start))
            with emit.counters(args[11], args[12]) as k:
                w_row = builder.load(w_now)
                right = [emit.load_vector(emit.at(w_row, emit.index(v * emit.lanes))) for v in range(vectors)]
                builder.store(emit.at(w_row, w_step), w_now)
                for p in range(rows_max):
                    left = emit.spread(builder.load(emit.at(starts[p], k)))
                    for v in range(vectors):
                        builder.store(emit.accumulate(builder.load(acc[p][v]), left, right[v]), acc[p][v])
            for p in range(rows_max):
                valid = builder.icmp_signed("<", emit.index(p), rows)
                with builder.if_then(valid), builder.if_else(whole) as (plain, ragged):
                    with plain:
                        store_row(p, masked=False)
                    with ragged:
                        store_row(p, masked=True)
            return context.get_dummy_value()

        return signature, generate

    return tile


class _Emitter:
    """LLVM instructions on vectors of one dtype."""

    def __init__(self, context: Any, builder: Any, dtype: Any, term: str) -> None:
        self.context, self.builder, self.term = context, builder, term
        self.itemsize = dtype.bitwidth // 8
        self.lanes = lanes(self.itemsize)
        self.integer = context.get_value_type(types.intp)
        self.vector = ir.VectorType(context.get_value_type(dtype), self.lanes)
        self.mask = ir.VectorType(ir.IntType(1), self.lanes)
        self.zero = ir.Constant(self.vector, [0.0] * self.lanes)
        self._suffix = f"v{self.lanes}f{dtype.bitwidth}"

    def index(self, value: int) -> Any:
        return ir.Constant(self.integer, value)

    def pointer(self, kind: Any, array: Any) -> Any:
        if isinstance(kind, types.CPointer):
            return array
        return self.context.make_array(kind)(self.context, self.builder, array).data

    def at(self, pointer: Any, offset: Any) -> Any:
        return self.builder.gep(pointer, [offset])

    def load_index(self, pointer: Any, i: int) -> Any:
        return self.builder.load(self.at(pointer, self.index(i)))

    def _vector_pointer(self, pointer: Any) -> Any:
        return self.builder.bitcast(pointer, self.vector.as_pointer())

    def load_vector(self, pointer: Any) -> Any:
        loaded = self.builder.load(self._vector_pointer(pointer))
        loaded.align = self.itemsize
        return loaded

    def store_vector(self, vector: Any, pointer: Any) -> None:
        self.builder.store(vector, self._vector_pointer(pointer)).align = self.itemsize

    def spread(self, number: Any, kind: Any = None) -> Any:
        """A vector with `number` in every lane."""
        kind = kind or self.vector
        undefined = ir.Constant(kind, ir.Undefined)
        first = self.builder.insert_element(undefined, number, ir.Constant(_I32, 0))
        lanes = ir.Constant(ir.VectorType(_I32, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(first, undefined, lanes)

    def first_lanes(self, count: Any) -> Any:
        """The mask of the lanes below `count`."""
        kind = ir.VectorType(self.integer, self.lanes)
        lanes = ir.Constant(kind, list(range(self.lanes)))
        return self.builder.icmp_signed("<", lanes, self.spread(count, kind))

    def _intrinsic(self, name: str, result: Any, arguments: list[Any]) -> Any:
        kind = ir.FunctionType(result, arguments)
        return cgutils.get_or_insert_function(self.builder.module, kind, name)

    def masked_load(self, pointer: Any, mask: Any) -> Any:
        kinds = [self.vector.as_pointer(), _I32, self.mask, self.vector]
        call = self._intrinsic(f"llvm.masked.load.{self._suffix}.p0", self.vector, kinds)
        align = ir.Constant(_I32, self.itemsize)
        return self.builder.call(call, [self._vector_pointer(pointer), align, mask, self.zero])

    def masked_store(self, vector: Any, pointer: Any, mask: Any) -> None:
        kinds = [self.vector, self.vector.as_pointer(), _I32, self.mask]
        call = self._intrinsic(f"llvm.masked.store.{self._suffix}.p0", ir.VoidType(), kinds)
        self.builder.call(call, [vector, self._vector_pointer(pointer), ir.Constant(_I32, self.itemsize), mask])

    def accumulate(self, total: Any, left: Any, right: Any) -> Any:
        """total + term(left, right), fused where the processor can."""
        builder = self.builder
        if self.term == "absolute":
            absolute = self._intrinsic(f"llvm.fabs.{self._suffix}", self.vector, [self.vector])
            return builder.fadd(total, builder.call(absolute, [builder.fsub(left, right)]))
        if self.term == "square":
            left = right = builder.fsub(left, right)
        multiply_add = self._intrinsic(f"llvm.fmuladd.{self._suffix}", self.vector, [self.vector] * 3)
        return builder.call(multiply_add, [left, right, total])

    def counters(self, counts: Any, steps: Any) -> Any:
        """Three nested loops; gives the position in x."""
        return _nest(self, cgutils.unpack_tuple(self.builder, counts), cgutils.unpack_tuple(self.builder, steps))


class _nest:  # noqa: N801 - a context manager
    def __init__(self, emit: _Emitter, counts: Any, steps: Any) -> None:
        self._emit, self._counts, self._steps = emit, counts, steps
        self._open: list[Any] = []

    def __enter__(self) -> Any:
        builder = self._emit.builder
        position = self._emit.index(0)
        for count, step in zip(self._counts, self._steps, strict=True):
            loop = cgutils.for_range(builder, count, intp=self._emit.integer)
            counter = loop.__enter__().index
            self._open.append(loop)
            position = builder.add(position, builder.mul(counter, step))
        return position

    def __exit__(self, *exception: Any) -> None:
        while self._open:
            self._open.pop().__exit__(*exception)
