"""Vectors as values in compiled code: `load`, arithmetic and comparison, `select`, `store`.

LLVM vectorises a loop only if it can prove, or cheaply test, that its arrays do not overlap; loops over five arrays and
more it leaves to scalar code. Kernels written in these vectors do not depend on that, and keep in registers what they
use again. A vector is as wide as the processor's (target.py), or, from a `wide` or `half` pointer, takes several
registers: passes down a matrix's rows then read whole stretches of memory, as the prefetcher likes them.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import intrinsic, lower_builtin, models, register_model

from minimeta_kernels.numba_cpu.target import TARGET

_I32 = ir.IntType(32)
_FLAGS = ("contract", "nsz", "arcp", "reassoc")

#: Registers in a vector from a `wide` and a `half` pointer: eight such vectors fit the processor at once, or sixteen.
WIDE, HALF = TARGET.registers // 8, TARGET.registers // 16


class Vector(types.Type):  # type: ignore[misc]
    """As many numbers of `dtype` as fit that many registers."""

    def __init__(self, dtype: Any, registers: int = 1) -> None:
        self.dtype = dtype
        self.lanes = registers * 8 * TARGET.vector_bytes // dtype.bitwidth
        super().__init__(name=f"Vector({dtype}, {self.lanes})")


class Mask(types.Type):  # type: ignore[misc]
    """One truth value per lane."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        super().__init__(name=f"Mask({lanes})")


class Wide(types.CPointer):  # type: ignore[misc]
    """A pointer to numbers that are loaded as vectors of several registers."""

    def __init__(self, dtype: Any, registers: int) -> None:
        super().__init__(dtype)
        self.name, self.registers = f"Wide({dtype}, {registers})", registers


register_model(Wide)(models.PointerModel)


def _kind(pointer: Any) -> Vector:
    """What is loaded from a pointer."""
    return Vector(pointer.dtype, pointer.registers if isinstance(pointer, Wide) else 1)


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Vector) -> None:
        super().__init__(manager, kind, vector_type(manager_type(kind.dtype), kind.lanes))


@register_model(Mask)
class _MaskModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Mask) -> None:
        super().__init__(manager, kind, vector_type(ir.IntType(1), kind.lanes))


def vector_type(element: Any, lanes: int) -> Any:
    return ir.VectorType(element, lanes)


def manager_type(dtype: Any) -> Any:
    return ir.FloatType() if dtype.bitwidth == 32 else ir.DoubleType()


def _binary(symbol: Any, result: Any, emit: Any) -> None:
    """Teach the compiler `symbol` between two vectors (or masks) of one kind."""

    @infer_global(symbol)
    class _Typing(AbstractTemplate):  # type: ignore[misc]
        def generic(self, args: Any, kws: Any) -> Any:
            if len(args) == 2 and args[0] == args[1] and isinstance(args[0], (Vector, Mask)):
                return result(args[0])(*args)
            return None

    for kind in (Vector, Mask):
        lower_builtin(symbol, kind, kind)(lambda context, builder, sig, args: emit(builder, *args))


def _same(kind: Any) -> Any:
    return kind


def _mask(kind: Any) -> Any:
    return Mask(kind.lanes)


_binary(operator.add, _same, lambda b, x, y: b.fadd(x, y, flags=_FLAGS))
_binary(operator.sub, _same, lambda b, x, y: b.fsub(x, y, flags=_FLAGS))
_binary(operator.mul, _same, lambda b, x, y: b.fmul(x, y, flags=_FLAGS))
_binary(operator.truediv, _same, lambda b, x, y: b.fdiv(x, y, flags=_FLAGS))
_binary(operator.gt, _mask, lambda b, x, y: b.fcmp_ordered(">", x, y))
_binary(operator.lt, _mask, lambda b, x, y: b.fcmp_ordered("<", x, y))
_binary(operator.eq, _mask, lambda b, x, y: b.fcmp_ordered("==", x, y))
_binary(operator.and_, _same, lambda b, x, y: b.and_(x, y))


def _unary(symbol: Any, kind: Any, emit: Any) -> None:
    """Teach the compiler `symbol` before a vector or a mask."""

    @infer_global(symbol)
    class _Typing(AbstractTemplate):  # type: ignore[misc]
        def generic(self, args: Any, kws: Any) -> Any:
            return args[0](*args) if isinstance(args[0], kind) else None

    lower_builtin(symbol, kind)(lambda context, builder, signature, args: emit(builder, *args))


_unary(operator.neg, Vector, lambda b, x: b.fneg(x))
_unary(operator.invert, Mask, lambda b, x: b.not_(x))


@intrinsic  # type: ignore[untyped-decorator]
def zeros(typing: Any, pointer: Any) -> Any:
    """The vector of zeros of the dtype that `pointer` points to."""
    kind = _kind(pointer)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return ir.Constant(context.get_value_type(kind), [0.0] * kind.lanes)

    return kind(pointer), generate


@intrinsic  # type: ignore[untyped-decorator]
def full(typing: Any, pointer: Any, number: Any) -> Any:
    """The vector of `number` in every lane, of the dtype that `pointer` points to."""
    kind = _kind(pointer)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _spread(builder, args[1], kind.lanes)

    return kind(pointer, pointer.dtype), generate


@intrinsic  # type: ignore[untyped-decorator]
def sqrt(typing: Any, vector: Any) -> Any:
    """The square root of every lane."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = args[0].type
        name = f"llvm.sqrt.v{vector.lanes}f{vector.dtype.bitwidth}"
        return builder.call(cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind]), name), args)

    return vector(vector), generate


@intrinsic  # type: ignore[untyped-decorator]
def data(typing: Any, array: Any) -> Any:
    """Pointer to the first number of a C-contiguous array: unlike the array it can be handed on without counting.

    Arrays that are passed to a piece of a kernel are counted as references in its innermost loops.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.make_array(array)(context, builder, args[0]).data

    return types.CPointer(array.dtype)(array), generate


@intrinsic  # type: ignore[untyped-decorator]
def ahead(typing: Any, pointer: Any, count: Any) -> Any:
    """The pointer `count` numbers further on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.gep(args[0], [args[1]])

    return pointer(pointer, types.intp), generate


def _widened(registers: int) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def widen(typing: Any, pointer: Any) -> Any:
        return Wide(pointer.dtype, registers)(pointer), lambda context, builder, signature, args: args[0]

    return widen


#: The same pointer, for vectors of that many registers.
wide, half = _widened(WIDE), _widened(HALF)


@intrinsic  # type: ignore[untyped-decorator]
def place(typing: Any, like: Any, array: Any, position: Any) -> Any:
    """Pointer to number `position` of a C-contiguous array, for vectors as wide as those of the pointer `like`."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.gep(context.make_array(array)(context, builder, args[1]).data, [args[2]])

    return like(like, array, types.intp), generate


@intrinsic  # type: ignore[untyped-decorator]
def load(typing: Any, pointer: Any, position: Any) -> Any:
    """A whole vector from `position` on."""
    kind = _kind(pointer)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        loaded = builder.load(_pointer(context, builder, signature, args, kind))
        loaded.align = _size(kind)
        return loaded

    return kind(pointer, types.intp), generate


@intrinsic  # type: ignore[untyped-decorator]
def store(typing: Any, pointer: Any, position: Any, vector: Any) -> Any:
    """Write a whole vector at `position`."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _pointer(context, builder, signature, args, vector)).align = _size(vector)
        return context.get_dummy_value()

    return types.void(pointer, types.intp, vector), generate


# Loads and stores under a mask are slow where it matters: a masked store is not forwarded to the load that follows, and
# masked loads do not set the prefetcher going. So masks are for the last, incomplete vector alone.


@intrinsic  # type: ignore[untyped-decorator]
def load_some(typing: Any, pointer: Any, position: Any, count: Any) -> Any:
    """`load` where the array may end: the first `count` lanes, zeros behind them; any larger count means all."""
    kind = _kind(pointer)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = context.get_value_type(kind)
        place = _pointer(context, builder, signature, args, kind)
        result = cgutils.alloca_once(builder, vector)
        with builder.if_else(_whole(builder, args[2], kind)) as (whole, part):
            with whole:
                loaded = builder.load(place)
                loaded.align = _size(kind)
                builder.store(loaded, result)
            with part:
                mask = _first_lanes(builder, args[2], kind.lanes)
                masked = _masked(builder, "load", vector, [place.type, _I32, mask.type, vector], kind)
                nothing = ir.Constant(vector, [0.0] * kind.lanes)
                builder.store(builder.call(masked, [place, ir.Constant(_I32, _size(kind)), mask, nothing]), result)
        return builder.load(result)

    return kind(pointer, types.intp, types.intp), generate


@intrinsic  # type: ignore[untyped-decorator]
def store_some(typing: Any, pointer: Any, position: Any, vector: Any, count: Any) -> Any:
    """`store` where the array may end: the first `count` lanes; any larger count means all."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = context.get_value_type(vector)
        place = _pointer(context, builder, signature, args, vector)
        with builder.if_else(_whole(builder, args[3], vector)) as (whole, part):
            with whole:
                builder.store(args[2], place).align = _size(vector)
            with part:
                mask = _first_lanes(builder, args[3], vector.lanes)
                masked = _masked(builder, "store", ir.VoidType(), [kind, place.type, _I32, mask.type], vector)
                builder.call(masked, [args[2], place, ir.Constant(_I32, _size(vector)), mask])
        return context.get_dummy_value()

    return types.void(pointer, types.intp, vector, types.intp), generate


@intrinsic  # type: ignore[untyped-decorator]
def select(typing: Any, mask: Any, yes: Any, no: Any) -> Any:
    """Lane by lane `yes` where `mask` is true, else `no`."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(*args)

    return yes(mask, yes, no), generate


def _spread(builder: Any, number: Any, lanes: int) -> Any:
    kind = ir.VectorType(number.type, lanes)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), number, ir.Constant(_I32, 0))
    everywhere = ir.Constant(ir.VectorType(_I32, lanes), [0] * lanes)
    return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), everywhere)


def _pointer(context: Any, builder: Any, signature: Any, args: Any, kind: Vector) -> Any:
    """Where the vector lies: `args` begin with pointer and position."""
    return builder.bitcast(builder.gep(args[0], [args[1]]), context.get_value_type(kind).as_pointer())


def _size(kind: Vector) -> int:
    return int(kind.dtype.bitwidth // 8)


def _whole(builder: Any, count: Any, kind: Vector) -> Any:
    return builder.icmp_signed(">=", count, ir.Constant(count.type, kind.lanes))


def _first_lanes(builder: Any, count: Any, lanes: int) -> Any:
    """The mask of the first `count` lanes."""
    numbers = ir.Constant(ir.VectorType(count.type, lanes), list(range(lanes)))
    return builder.icmp_signed("<", numbers, _spread(builder, count, lanes))


def _masked(builder: Any, what: str, result: Any, arguments: list[Any], kind: Vector) -> Any:
    name = f"llvm.masked.{what}.v{kind.lanes}f{kind.dtype.bitwidth}.p0"
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, arguments), name)
