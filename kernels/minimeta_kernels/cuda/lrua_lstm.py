"""An LSTM with LRUA memory on a GPU, all steps in one launch; kernels in lrua_lstm.cu.

A block has an episode's cell and memory in shared memory; where these do not fit, another implementation is taken.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from minimeta_kernels.cuda import lrua
from minimeta_kernels.cuda.entries import enter
from minimeta_kernels.cuda.source import Source
from minimeta_kernels.reference.lrua_lstm import LRUALSTM, as_rows, sequence
from minimeta_kernels.registry import call

_SOURCE = Source("lrua_lstm", ["lrua_lstm<{S}>", "lrua_lstm_vjp<{S}>"], numbers=("float", "double"))


class _Sizes(NamedTuple):
    memory: lrua.Sizes
    units: int
    emits: int

    def held(self, name: str) -> int:
        """Numbers in shared memory: a step of memory, r, h, c and z; of the gradient, that by what is emitted."""
        controller = self.memory.heads * self.memory.width + 6 * self.units
        return self.memory.held(name) + controller + self.emits * name.endswith("vjp")

    def scalars(self) -> list[Any]:
        return [*self.memory.scalars(), np.int32(self.units), np.int32(self.emits)]


def lrua_lstm(
    hidden: Any, cell: Any, reads: Any, memory: Any, weights: Any, usage: Any,
    gates: Any, recurrent: Any, heads: Any, bias: Any,
    *, decay: float = 0.95, shared: bool = True, eps: float = 1e-6,
) -> LRUALSTM:  # fmt: skip
    """The state as in LRUALSTM, gates [B, T, 4 H], recurrent [R W + H, 4 H], heads [H, K], bias [K] -> LRUALSTM."""
    arrays = [hidden, cell, reads, memory, weights, usage, gates, recurrent, heads, bias]
    (batch, steps, _), kept = gates.shape, (len(gates), gates.shape[1] + 1)
    usage, inputs, cells, preactivations, emitted, memories, all_weights, least_used = _run(
        "lrua_lstm", _sizes(*arrays), arrays,
        [usage.shape, (*kept, len(recurrent)), (*kept, hidden.shape[1]), gates.shape, (batch, steps, len(bias)),
         (*kept, *memory.shape[1:]), (*kept, *weights.shape[1:])],
        steps, [float(decay), np.bool_(shared), float(eps)], index_shapes=[(batch, steps, reads.shape[1])],
    )  # fmt: skip
    return sequence(usage, inputs, cells, preactivations, emitted, least_used, memories, all_weights)


def lrua_lstm_vjp(
    g_hiddens: Any, g_all_reads: Any, g_hidden: Any, g_cell: Any, g_reads: Any, g_memory: Any, g_weights: Any,
    recurrent: Any, heads: Any, inputs: Any, cells: Any, preactivations: Any, emitted: Any, least_used: Any,
    memories: Any, all_weights: Any, *, shared: bool = True, eps: float = 1e-6,
) -> tuple[Any, ...]:  # fmt: skip
    """The gradients by hidden, cell, reads, memory, weights, gates, recurrent, heads and bias.

    Each of the cotangents, which come first, may be None.
    """
    cotangents = [g_hiddens, g_all_reads, g_hidden, g_cell, g_reads, g_memory, g_weights]
    trajectory = cells, preactivations, emitted, least_used, memories, all_weights
    sizes, first = _sizes_of_vjp(*trajectory), [a[:, 0].shape for a in (inputs, cells, memories, all_weights)]
    to_inputs, to_cell, to_memory, to_weights, to_gates, to_emitted = _run(
        "lrua_lstm_vjp", sizes,
        [*cotangents, recurrent, heads, cells, preactivations, emitted, memories, all_weights],
        [*first, preactivations.shape, emitted.shape], preactivations.shape[1], [np.bool_(shared), float(eps)],
        indices=[least_used],
    )  # fmt: skip
    size, (_, width, count) = len(recurrent) - sizes.units, sizes.memory
    return (
        to_inputs[:, size:], to_cell, to_inputs[:, :size].reshape((len(inputs), count, width)), to_memory, to_weights,
        to_gates, call("matmul", as_rows(inputs[:, :-1]).T, as_rows(to_gates)),
        call("matmul", as_rows(inputs[:, 1:, size:]).T, as_rows(to_emitted)), to_emitted.sum(axis=(0, 1)),
    )  # fmt: skip


def _sizes(*arrays: Any) -> _Sizes:
    """From the arguments of `lrua_lstm`."""
    hidden, _, reads, memory, *_, bias = arrays
    (_, count, width), rows = reads.shape, memory.shape[1]
    return _Sizes(lrua.Sizes(rows, width, count), hidden.shape[1], len(bias))


def _sizes_of_vjp(*trajectory: Any) -> _Sizes:
    """From the last arguments of `lrua_lstm_vjp`."""
    cells, _, emitted, least_used, memories, _ = trajectory
    _, _, rows, width = memories.shape
    return _Sizes(lrua.Sizes(rows, width, least_used.shape[2]), cells.shape[2], emitted.shape[2])


def _run(
    name: str, sizes: _Sizes, inputs: list[Any], shapes: list[Any], steps: int, scalars: list[Any], **indices: Any
) -> list[Any]:
    """A thread for each row of memory and, if there can be so many, each column of the cell's weights."""
    wanted = max(sizes.memory.rows, min(4 * sizes.units, lrua.LARGEST_BLOCK))
    return _SOURCE.run(
        f"{name}<{{S}}>", (shapes[0][0],), -(-wanted // 32) * 32, inputs, shapes,
        [np.int32(steps), *sizes.scalars(), *scalars], sizes.held(name), **indices,
    )  # fmt: skip


def _refuses(name: str, *arrays: Any, **options: Any) -> str | None:
    sizes = _sizes_of_vjp(*arrays[-6:]) if name.endswith("vjp") else _sizes(*arrays)
    return sizes.memory.refused(sizes.held(name), arrays[-1])


for _function in (lrua_lstm, lrua_lstm_vjp):
    enter(_function.__name__, _function, partial(_refuses, _function.__name__))
