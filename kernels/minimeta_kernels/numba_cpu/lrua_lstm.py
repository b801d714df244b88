"""A sequence of an LSTM with LRUA memory: groups of episodes go through all steps alone, each on one thread.

What happens to one episode's cell and memory is that of `lstm` and `lrua`. The products of a step are a group's, large
enough for register tiles; their weights are read anew in every step, so they are packed in the order of reading.
Nothing is summed over steps here: the weights' gradients are one large product each, made when all steps are done.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minimeta_kernels import launch
from minimeta_kernels.numba_cpu.compiled import compiled, inlined
from minimeta_kernels.numba_cpu.elementary import sigmoid, tanh
from minimeta_kernels.numba_cpu.lrua import (
    clear,
    indices,
    or_zeros,
    read,
    read_vjp,
    refusal,
    scratch_for,
    transposed,
    use,
    write,
    write_vjp,
)
from minimeta_kernels.numba_cpu.lstm import cell as step_cell
from minimeta_kernels.numba_cpu.lstm import cell_scratch, cell_vjp
from minimeta_kernels.numba_cpu.product import apart
from minimeta_kernels.numba_cpu.target import TARGET
from minimeta_kernels.numba_cpu.tile import PACE, lanes, make_tile
from minimeta_kernels.numba_cpu.vector import ahead, data
from minimeta_kernels.reference.lrua_lstm import LRUALSTM, as_rows, joined, sequence
from minimeta_kernels.registry import call, register

#: A tile of three vectors by eight episodes leaves few of 32 registers free, by four episodes none of 16.
_VECTORS = 3
_ROWS = 8 if TARGET.registers >= 32 else 4
_tile = make_tile(_VECTORS, rows=_ROWS)
#: Episodes that go through the steps together; the weights come from far away, once for all of them.
_EPISODES = 8


@register("lrua_lstm", "numba", refusal())
def lrua_lstm(
    hidden: Any, cell: Any, reads: Any, memory: Any, weights: Any, usage: Any,
    gates: Any, recurrent: Any, heads: Any, bias: Any,
    *, decay: float = 0.95, shared: bool = True, eps: float = 1e-6,
) -> LRUALSTM:  # fmt: skip
    """The state as in LRUALSTM, gates [B, T, 4 H], recurrent [R W + H, 4 H], heads [H, K], bias [K] -> LRUALSTM."""
    hidden, cell, reads, memory, weights, usage, gates, recurrent, heads, bias = launch.contiguous(
        hidden, cell, reads, memory, weights, usage, gates, recurrent, heads, bias
    )
    (batch, steps, _), dtype, usage = gates.shape, gates.dtype, usage.copy()
    begin = joined(reads, hidden), cell, transposed(memory), weights
    inputs, cells, memories, all_weights = (np.empty((batch, steps + 1, *a.shape[1:]), dtype) for a in begin)
    for kept, first in zip((inputs, cells, memories, all_weights), begin, strict=True):
        kept[:, 0] = first
    preactivations, emitted = np.empty_like(gates), np.empty((batch, steps, len(bias)), dtype)
    least_used = np.empty((batch, steps, reads.shape[1]), np.int64)
    group = _group(batch)
    launch.parallel(
        _lrua_lstm, -(-batch // group), _work(gates, recurrent, memories, weights), group,
        gates, _pack(recurrent), _pack(heads), bias, dtype.type(decay), shared, dtype.type(eps),
        usage, inputs, cells, preactivations, emitted, least_used, memories, all_weights,
    )  # fmt: skip
    return sequence(usage, inputs, cells, preactivations, emitted, least_used, transposed(memories), all_weights)


@register("lrua_lstm_vjp", "numba", refusal(least_used=13))
def lrua_lstm_vjp(
    g_hiddens: Any, g_all_reads: Any, g_hidden: Any, g_cell: Any, g_reads: Any, g_memory: Any, g_weights: Any,
    recurrent: Any, heads: Any, inputs: Any, cells: Any, preactivations: Any, emitted: Any, least_used: Any,
    memories: Any, all_weights: Any, *, shared: bool = True, eps: float = 1e-6,
) -> tuple[Any, ...]:  # fmt: skip
    """The gradients by hidden, cell, reads, memory, weights, gates, recurrent, heads and bias.

    Each of the cotangents, which come first, may be None.
    """
    like = sequence(None, inputs, cells, preactivations, emitted, least_used, memories, all_weights)
    given = (g_hiddens, g_all_reads, g_hidden, g_cell, g_reads, g_memory, g_weights)
    g_hiddens, g_all_reads, g_hidden, g_cell, g_reads, g_memory, g_weights = map(or_zeros, given, like[:7])
    (
        g_hiddens, g_all_reads, to_inputs, g_cell, g_memory, g_weights,
        recurrent, heads, inputs, cells, preactivations, emitted, memories, all_weights,
    ) = launch.contiguous(
        g_hiddens, g_all_reads, joined(g_reads, g_hidden), g_cell, transposed(g_memory), g_weights,
        recurrent, heads, inputs, cells, preactivations, emitted, transposed(memories), all_weights,
    )  # fmt: skip
    to_cell, to_memory, to_weights = g_cell.copy(), g_memory.copy(), g_weights.copy()
    to_gates, to_emitted = np.empty_like(preactivations), np.empty_like(emitted)
    group = _group(len(inputs))
    launch.parallel(
        _lrua_lstm_vjp, -(-len(inputs) // group), 2 * _work(preactivations, recurrent, memories, g_weights), group,
        g_hiddens, g_all_reads, _pack(recurrent.T), _pack(heads.T), cells, preactivations, emitted,
        indices(least_used), memories, all_weights, shared, inputs.dtype.type(eps),
        to_inputs, to_cell, to_memory, to_weights, to_gates, to_emitted,
    )  # fmt: skip
    size, reads = inputs.shape[2] - cells.shape[2], g_reads.shape
    to_recurrent = call("matmul", as_rows(inputs[:, :-1]).T, as_rows(to_gates))
    to_heads = call("matmul", as_rows(inputs[:, 1:, size:]).T, as_rows(to_emitted))
    return (
        to_inputs[:, size:], to_cell, to_inputs[:, :size].reshape(reads), transposed(to_memory), to_weights,
        to_gates, to_recurrent, to_heads, to_emitted.sum(axis=(0, 1)),
    )  # fmt: skip


def _group(batch: int) -> int:
    """How many episodes go through the steps together: fewer where threads would go without."""
    return max(1, min(_EPISODES, -(-batch // launch.threads())))


def _work(gates: Any, recurrent: Any, memories: Any, weights: Any) -> float:
    """About what one pass forward takes: the cell's products, and three of the heads with the memory."""
    return float(2 * gates.size * len(recurrent) / PACE + 7 * memories.size * weights.shape[1])


def _pack(w: Any) -> np.ndarray[Any, Any]:
    """A matrix in panels of columns as wide as a tile, [panels, rows, width]."""
    rows, columns = w.shape
    width = _VECTORS * lanes(w.itemsize)
    panels = -(-columns // width)
    whole = np.zeros((rows, panels * width), w.dtype)
    whole[:, :columns] = w
    return launch.contiguous(whole.reshape(rows, panels, width).swapaxes(0, 1))[0]  # type: ignore[no-any-return]


@compiled
def _lrua_lstm(
    begin: Any, end: Any, group: Any, gates: Any, recurrent: Any, heads: Any, bias: Any, decay: Any, shared: Any,
    eps: Any, usage: Any, inputs: Any, cells: Any, preactivations: Any, emitted: Any, least_used: Any,
    memories: Any, all_weights: Any,
) -> None:  # fmt: skip
    batch, steps, units = gates.shape
    count, width = least_used.shape[2], memories.shape[2]
    size = count * width
    of_cell, of_memory = cell_scratch(cells[0], 1), scratch_for(all_weights[0])
    write_weights = np.empty_like(all_weights[0, 0])
    for item in range(begin, end):
        first, last = item * group, min((item + 1) * group, batch)
        inputs_at, gates_at, emitted_at = _at(inputs, first, last), _at(gates, first, last), _at(emitted, first, last)
        for t in range(steps):
            for b in range(first, last):
                for n in range(units):
                    preactivations[b, t, n] = gates[b, t, n]
                for n in range(len(bias)):
                    emitted[b, t, n] = bias[n]
            _add_product(inputs, t, 0, inputs_at, recurrent, preactivations, t, 0, gates_at, last - first, units)
            for b in range(first, last):
                hidden = inputs[b, t + 1, size:].reshape(1, -1)
                step_cell(preactivations[b, t : t + 1], cells[b, t : t + 1], hidden, cells[b, t + 1 : t + 2], of_cell)
            _add_product(inputs, t + 1, size, inputs_at, heads, emitted, t, 0, emitted_at, last - first, len(bias))
            for b in range(first, last):
                keys, adds, head_gates = _activated(emitted[b, t], count, width)
                memory, weights = memories[b, t + 1], all_weights[b, t + 1]
                write(
                    memories[b, t], all_weights[b, t], usage[b], adds, head_gates, shared,
                    memory, write_weights, least_used[b, t],
                )  # fmt: skip
                read(memory, keys, eps, inputs[b, t + 1, :size].reshape(count, width), weights, of_memory)
                use(usage[b], decay, weights, write_weights)


@compiled
def _lrua_lstm_vjp(
    begin: Any, end: Any, group: Any, g_hiddens: Any, g_all_reads: Any, recurrent: Any, heads: Any, cells: Any,
    preactivations: Any, emitted: Any, least_used: Any, memories: Any, all_weights: Any, shared: Any, eps: Any,
    to_inputs: Any, to_cell: Any, to_memory: Any, to_weights: Any, to_gates: Any, to_emitted: Any,
) -> None:  # fmt: skip
    batch, steps, units = g_hiddens.shape
    count, width = g_all_reads.shape[2:]
    size = count * width
    of_cell, of_memory = cell_scratch(cells[0], 1), scratch_for(all_weights[0])
    g_written, write_weights = np.empty_like(all_weights[0, 0]), np.empty_like(all_weights[0, 0])
    to_keys, to_adds = np.empty_like(g_all_reads[0, 0]), np.empty_like(g_all_reads[0, 0])
    for item in range(begin, end):
        first, last = item * group, min((item + 1) * group, batch)
        many = last - first
        inputs_at, gates_at = _at(to_inputs, first, last), _at(to_gates, first, last)
        emitted_at = _at(to_emitted, first, last)
        for t in range(steps - 1, -1, -1):
            for b in range(first, last):
                keys, adds, head_gates = _parts(emitted[b, t], count, width)
                g_reads, g_hidden = to_inputs[b, :size].reshape(count, width), to_inputs[b, size:]
                _add(g_all_reads[b, t], g_reads)
                _add(g_hiddens[b, t], g_hidden)
                read_vjp(
                    g_reads, to_weights[b], memories[b, t + 1], keys, all_weights[b, t + 1], eps,
                    to_memory[b], to_keys, of_memory,
                )  # fmt: skip
                clear(g_written)
                write_vjp(
                    g_written, all_weights[b, t], adds, head_gates, least_used[b, t], shared,
                    to_memory[b], to_weights[b], to_adds, to_emitted[b, t, -count:], write_weights,
                )  # fmt: skip
                _pull(to_keys, to_adds, emitted[b, t], to_emitted[b, t])
            _add_product(to_emitted, t, 0, emitted_at, heads, to_inputs, 0, size, inputs_at, many, units)
            for b in range(first, last):
                g_hidden = to_inputs[b, size:].reshape(1, -1)
                cell_vjp(
                    g_hidden, to_cell[b : b + 1], preactivations[b, t : t + 1], cells[b, t : t + 1],
                    to_gates[b, t : t + 1], to_cell[b : b + 1], of_cell,
                )  # fmt: skip
            clear(to_inputs[first:last])
            _add_product(to_gates, t, 0, gates_at, recurrent, to_inputs, 0, 0, inputs_at, many, size + units)


@inlined
def _at(x: Any, first: Any, last: Any) -> Any:
    """Where the rows of these episodes begin, as many as a tile takes, the last one again and again."""
    found = np.empty(_EPISODES, np.int64)
    for p in range(_EPISODES):
        found[p] = min(first + p, last - 1) * (x.size // len(x))
    return found


@apart
def _add_product(
    x: Any, t: Any, column: Any, x_at: Any, panels: Any, y: Any, y_t: Any, y_column: Any, y_at: Any,
    rows: Any, columns: Any,
) -> None:  # fmt: skip
    """y [rows, columns] at step y_t += x [rows, terms] at step t times the panels."""
    _, terms, width = panels.shape
    x_start, y_start = t * x.shape[-1] + column, y_t * y.shape[-1] + y_column
    for panel in range(len(panels)):
        for row in range(0, rows, _ROWS):
            _tile(
                data(x), x_start, ahead(data(x_at), row), data(panels), panel * terms * width, width,
                data(y), y_start + panel * width, ahead(data(y_at), row), min(_ROWS, rows - row),
                columns - panel * width, (1, 1, terms), (0, 0, 1), True,
            )  # fmt: skip


@inlined
def _parts(emitted: Any, count: Any, width: Any) -> Any:
    """Keys, adds (where there are none, the keys) and gates of one episode's heads."""
    size = count * width
    vectors = len(emitted) - count
    keys, adds = emitted[:size].reshape(count, width), emitted[vectors - size : vectors].reshape(count, width)
    return keys, adds, emitted[vectors:]


@inlined
def _activated(emitted: Any, count: Any, width: Any) -> Any:
    """As `_parts`, of what has not been activated yet."""
    vectors = len(emitted) - count
    for n in range(vectors):
        emitted[n] = tanh(emitted[n])
    for n in range(vectors, len(emitted)):
        emitted[n] = sigmoid(emitted[n])
    return _parts(emitted, count, width)


@inlined
def _pull(to_keys: Any, to_adds: Any, emitted: Any, to_emitted: Any) -> None:
    """The gradients through tanh and sigmoid; those of the gates are in their place already."""
    one, size, count = emitted.dtype.type(1), to_keys.size, len(to_keys)
    vectors = len(emitted) - count
    for n in range(vectors):
        to_emitted[n] = 0
    _add(to_keys, to_emitted[:size])
    _add(to_adds, to_emitted[vectors - size : vectors])
    for n in range(vectors):
        to_emitted[n] *= one - emitted[n] * emitted[n]
    for n in range(vectors, len(emitted)):
        to_emitted[n] *= emitted[n] * (one - emitted[n])


@inlined
def _add(source: Any, target: Any) -> None:
    source, target = source.reshape(source.size), target.reshape(target.size)
    for n in range(len(target)):
        target[n] += source[n]
