"""Memory with least recently used access on a GPU: whole sequences, and the halves of a step; kernels in lrua.cu.

A block has an episode's memory in shared memory and a thread for each of its rows; where that does not fit, another
implementation is taken.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from minimeta_kernels.cuda.entries import enter, too_large
from minimeta_kernels.cuda.source import Source, shape
from minimeta_kernels.reference.lrua import LRUA

#: Of a block's threads.
LARGEST_BLOCK = 1024


class Sizes(NamedTuple):
    rows: int
    width: int
    heads: int

    def held(self, name: str) -> int:
        """Numbers in shared memory."""
        rows, width, heads = self
        count = rows * (width + 1) + (3 * rows + 2 * width + 4) * heads + rows
        return count + (rows * (width + 1) + (2 * rows + width + 1) * heads) * name.endswith("vjp")

    def scalars(self) -> list[Any]:
        return list(map(np.int32, self))

    def refused(self, held: int, array: Any) -> str | None:
        """Why a block cannot have the memory, or not so many numbers like the array's."""
        if self.heads == 0:
            return "needs a head"
        if self.rows > LARGEST_BLOCK:
            return f"has a thread for each row, at most {LARGEST_BLOCK}, got {self.rows}"
        return too_large(held, array)


def lrua(
    memory: Any, weights: Any, usage: Any, keys: Any, adds: Any, gates: Any,
    *, decay: float = 0.95, shared: bool = True, eps: float = 1e-6,
) -> LRUA:  # fmt: skip
    """memory [B, N, W], weights [B, R, N], usage [B, N], keys, adds [B, T, R, W], gates [B, T, R] -> LRUA."""
    arrays = [memory, weights, usage, keys, adds, gates]
    sizes, each = _sizes("lrua", arrays), shape(keys)[:2]
    trajectory = [(*each, sizes.rows, sizes.width), (*each, sizes.heads, sizes.rows)]
    reads, *state, memories, all_weights, least_used = _run(
        "lrua", sizes, arrays, [*map(shape, (keys, memory, weights, usage)), *trajectory],
        [np.int32(each[1]), *sizes.scalars(), float(decay), np.bool_(shared), float(eps)],
        index_shapes=[(*each, sizes.heads)],
    )  # fmt: skip
    memory, weights, usage = state
    return LRUA(reads, memory, weights, usage, least_used, memories, all_weights)


def lrua_vjp(
    g_reads: Any, g_memory: Any, g_weights: Any, memory: Any, weights: Any, keys: Any, adds: Any, gates: Any,
    least_used: Any, memories: Any, all_weights: Any, *, shared: bool = True, eps: float = 1e-6,
) -> tuple[Any, ...]:  # fmt: skip
    """The gradients by memory, weights, keys, adds and gates; each of the three cotangents may be None."""
    sizes = _sizes("lrua_vjp", [g_reads, g_memory, g_weights, memory, weights, keys])
    return tuple(_run(
        "lrua_vjp", sizes, [g_reads, g_memory, g_weights, weights, keys, adds, gates, memories, all_weights],
        list(map(shape, (memory, weights, keys, adds, gates))),
        [np.int32(shape(keys)[1]), *sizes.scalars(), np.bool_(shared), float(eps)], indices=[least_used],
    ))  # fmt: skip


def lrua_write(
    memory: Any, weights: Any, usage: Any, adds: Any, gates: Any, *, shared: bool = True
) -> tuple[Any, ...]:  # fmt: skip
    """The first half of a step: adds [B, R, W], gates [B, R] -> memory, write weights [B, R, N], least used [B, R]."""
    arrays = [memory, weights, usage, adds, gates]
    sizes = _sizes("lrua_write", arrays)
    shapes, scalars = [shape(memory), shape(weights)], [*sizes.scalars(), np.bool_(shared)]
    return tuple(_run("lrua_write", sizes, arrays, shapes, scalars, index_shapes=[shape(gates)]))


def lrua_write_vjp(
    g_memory: Any, g_write_weights: Any, weights: Any, adds: Any, gates: Any, least_used: Any, *, shared: bool = True
) -> tuple[Any, ...]:
    """The gradients by memory, weights, adds and gates; either cotangent may be None."""
    arrays = [g_memory, g_write_weights, weights, adds, gates]
    sizes = _sizes("lrua_write_vjp", arrays)
    return tuple(_run(
        "lrua_write_vjp", sizes, arrays,
        [(shape(weights)[0], sizes.rows, sizes.width), *map(shape, (weights, adds, gates))],
        [*sizes.scalars(), np.bool_(shared)], indices=[least_used],
    ))  # fmt: skip


def lrua_read(memory: Any, keys: Any, *, eps: float = 1e-6) -> tuple[Any, ...]:
    """The second half of a step: memory [B, N, W], keys [B, R, W] -> reads [B, R, W], read weights [B, R, N]."""
    sizes = _sizes("lrua_read", [memory, keys])
    shapes = [shape(keys), (shape(keys)[0], sizes.heads, sizes.rows)]
    return tuple(_run("lrua_read", sizes, [memory, keys], shapes, [*sizes.scalars(), float(eps)]))


def lrua_read_vjp(g_reads: Any, g_weights: Any, memory: Any, keys: Any, *, eps: float = 1e-6) -> tuple[Any, ...]:
    """The gradients by memory and keys; either cotangent may be None."""
    arrays = [g_reads, g_weights, memory, keys]
    sizes = _sizes("lrua_read_vjp", arrays)
    scalars = [*sizes.scalars(), float(eps)]
    return tuple(_run("lrua_read_vjp", sizes, arrays, [shape(memory), shape(keys)], scalars))


#: Where the sizes are among the arrays: the one with the memory's rows, on which axis, and one of [..., heads, width].
_PLACES = {
    "lrua": (0, 1, 3), "lrua_write": (0, 1, 3), "lrua_read": (0, 1, 1),
    "lrua_vjp": (3, 1, 5), "lrua_write_vjp": (2, 2, 3), "lrua_read_vjp": (2, 1, 3),
}  # fmt: skip
_SOURCE = Source("lrua", [f"{name}<{{S}}>" for name in _PLACES])


def _sizes(name: str, arrays: Any) -> Sizes:
    rows, axis, vectors = _PLACES[name]
    heads, width = shape(arrays[vectors])[-2:]
    return Sizes(shape(arrays[rows])[axis], width, heads)


def _run(
    name: str, sizes: Sizes, inputs: list[Any], shapes: list[Any], scalars: list[Any], **indices: Any
) -> list[Any]:
    batch, threads = shapes[0][0], -(-max(sizes.rows, 32) // 32) * 32
    return _SOURCE.run(f"{name}<{{S}}>", (batch,), threads, inputs, shapes, scalars, sizes.held(name), **indices)


def _refuses(name: str, *arrays: Any, **options: Any) -> str | None:
    sizes = _sizes(name, arrays)
    return sizes.refused(sizes.held(name), arrays[_PLACES[name][2]])


for _name in _PLACES:
    enter(_name, globals()[_name], partial(_refuses, _name))
