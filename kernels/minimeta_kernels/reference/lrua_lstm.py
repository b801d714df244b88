"""An LSTM with LRUA memory whose reads come back to it (Santoro et al. 2016): a sequence of steps, and its derivative.

The cell is that of `lstm`, the memory that of `lrua`; both are kernels in their own right, taken from whoever has them
for these arrays. One step, indices t - 1 marked by ':

    z = x + [r' h'] U            x is what the outside inputs contribute
    h, c = cell(z, c')
    [k a s] = [tanh tanh sigmoid](h V + b)     keys, adds and gates of all heads; without a the keys are written
    M, w, u, r = a step of memory with k, a, s from M', w', u'
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from minimeta_kernels.reference.lstm import sigmoid
from minimeta_kernels.reference.modules import array_module
from minimeta_kernels.registry import call, register


class LRUALSTM(NamedTuple):
    """What a sequence leaves: its results, the state after it, and what the derivative needs of every step.

    What has T + 1 entries begins with the state before the first step.
    """

    hiddens: Any  # [B, T, H]
    all_reads: Any  # [B, T, R, W]
    hidden: Any  # [B, H]
    cell: Any  # [B, H]
    reads: Any  # [B, R, W]
    memory: Any  # [B, N, W]
    weights: Any  # [B, R, N]
    usage: Any  # [B, N]
    inputs: Any  # [B, T + 1, R W + H], r' and h'
    cells: Any  # [B, T + 1, H]
    preactivations: Any  # [B, T, 4 H], z
    emitted: Any  # [B, T, K], k, a and s
    least_used: Any  # [B, T, R], int64
    memories: Any  # [B, T + 1, N, W]
    all_weights: Any  # [B, T + 1, R, N]


def sequence(
    usage: Any, inputs: Any, cells: Any, preactivations: Any, emitted: Any, least_used: Any, memories: Any,
    all_weights: Any,
) -> LRUALSTM:  # fmt: skip
    """All results from what was kept of the steps and the usage after the last."""
    heads, width = least_used.shape[2], memories.shape[3]
    reads, hiddens = inputs[..., : heads * width], inputs[..., heads * width :]
    reads = reads.reshape((*reads.shape[:2], heads, width))
    return LRUALSTM(
        hiddens[:, 1:], reads[:, 1:], hiddens[:, -1], cells[:, -1], reads[:, -1], memories[:, -1], all_weights[:, -1],
        usage, inputs, cells, preactivations, emitted, least_used, memories, all_weights,
    )  # fmt: skip


@register("lrua_lstm", "reference")
def lrua_lstm(
    hidden: Any, cell: Any, reads: Any, memory: Any, weights: Any, usage: Any,
    gates: Any, recurrent: Any, heads: Any, bias: Any,
    *, decay: float = 0.95, shared: bool = True, eps: float = 1e-6,
) -> LRUALSTM:  # fmt: skip
    """The state as in LRUALSTM, gates [B, T, 4 H], recurrent [R W + H, 4 H], heads [H, K], bias [K] -> LRUALSTM.

    K = 2 R W + R for keys, adds and gates, R W + R for keys and gates.
    """
    xp = array_module(memory)
    batch, steps = gates.shape[:2]
    inputs, cells, memories, all_weights = (
        _begun(a, steps + 1) for a in (joined(reads, hidden), cell, memory, weights)
    )
    preactivations, emitted = xp.empty_like(gates), xp.empty((batch, steps, len(bias)), dtype=gates.dtype)
    least_used = xp.empty((*gates.shape[:2], reads.shape[1]), dtype=xp.int64)
    for t in range(steps):
        preactivations[:, t] = gates[:, t] + xp.matmul(inputs[:, t], recurrent)
        hidden, cells[:, t + 1] = call("lstm_cell", preactivations[:, t], cells[:, t])
        emitted[:, t] = _activate(xp.matmul(hidden, heads) + bias, reads.shape[1])
        keys, adds, head_gates = _parts(emitted[:, t], reads)
        memories[:, t + 1], write_weights, least_used[:, t] = call(
            "lrua_write", memories[:, t], all_weights[:, t], usage, adds, head_gates, shared=shared
        )
        reads, all_weights[:, t + 1] = call("lrua_read", memories[:, t + 1], keys, eps=eps)
        usage = decay * usage + (all_weights[:, t + 1] + write_weights).sum(axis=1)
        inputs[:, t + 1] = joined(reads, hidden)
    return sequence(usage, inputs, cells, preactivations, emitted, least_used, memories, all_weights)


@register("lrua_lstm_vjp", "reference")
def lrua_lstm_vjp(
    g_hiddens: Any, g_all_reads: Any, g_hidden: Any, g_cell: Any, g_reads: Any, g_memory: Any, g_weights: Any,
    recurrent: Any, heads: Any, inputs: Any, cells: Any, preactivations: Any, emitted: Any, least_used: Any,
    memories: Any, all_weights: Any, *, shared: bool = True, eps: float = 1e-6,
) -> tuple[Any, ...]:  # fmt: skip
    """The gradients by hidden, cell, reads, memory, weights, gates, recurrent, heads and bias.

    Each of the cotangents, which come first, may be None.
    """
    xp = array_module(inputs)
    before = sequence(None, inputs, cells, preactivations, emitted, least_used, memories, all_weights)[:7]
    given = (g_hiddens, g_all_reads, g_hidden, g_cell, g_reads, g_memory, g_weights)
    g_hiddens, g_all_reads, g_hidden, g_cell, g_reads, g_memory, g_weights = (
        xp.zeros_like(like) if g is None else g for g, like in zip(given, before, strict=True)
    )
    g_inputs, size = joined(g_reads, g_hidden), g_reads.shape[1] * g_reads.shape[2]
    g_gates, g_emitted = xp.empty_like(preactivations), xp.empty_like(emitted)
    for t in reversed(range(preactivations.shape[1])):
        keys, adds, head_gates = _parts(emitted[:, t], g_reads)
        g_reads = g_inputs[:, :size].reshape(g_reads.shape) + g_all_reads[:, t]
        from_read, g_keys = call("lrua_read_vjp", g_reads, g_weights, memories[:, t + 1], keys, eps=eps)
        g_memory, g_weights, g_adds, g_head_gates = call(
            "lrua_write_vjp", g_memory + from_read, None, all_weights[:, t], adds, head_gates, least_used[:, t],
            shared=shared,
        )  # fmt: skip
        g_emitted[:, t] = _pull(g_keys, g_adds, g_head_gates, emitted[:, t])
        g_hidden = g_inputs[:, size:] + g_hiddens[:, t] + xp.matmul(g_emitted[:, t], xp.swapaxes(heads, 0, 1))
        g_gates[:, t], g_cell = call("lstm_cell_vjp", g_hidden, g_cell, preactivations[:, t], cells[:, t])
        g_inputs = xp.matmul(g_gates[:, t], xp.swapaxes(recurrent, 0, 1))
    g_state = (g_inputs[:, size:], g_cell, g_inputs[:, :size].reshape(g_reads.shape), g_memory, g_weights)
    g_recurrent, g_heads = (
        xp.matmul(xp.swapaxes(as_rows(a), 0, 1), as_rows(g))
        for a, g in ((inputs[:, :-1], g_gates), (inputs[:, 1:, size:], g_emitted))
    )
    return *g_state, g_gates, g_recurrent, g_heads, g_emitted.sum(axis=(0, 1))


def as_rows(a: Any) -> Any:
    """[B, T, D] -> [B T, D]"""
    return a.reshape((math.prod(a.shape[:2]), a.shape[2]))


def _begun(first: Any, count: int) -> Any:
    """[B, count, ...] with the first entry of each filled."""
    found = array_module(first).empty((len(first), count, *first.shape[1:]), dtype=first.dtype)
    found[:, 0] = first
    return found


def joined(reads: Any, hidden: Any) -> Any:
    """What goes into a step: [B, R, W] and [B, H] -> [B, R W + H]."""
    flat = reads.reshape((len(reads), reads.shape[1] * reads.shape[2]))
    return array_module(hidden).concatenate([flat, hidden], axis=-1)


def _activate(preactivations: Any, heads: int) -> Any:
    """tanh, but for the last `heads` numbers sigmoid."""
    xp = array_module(preactivations)
    return xp.concatenate([xp.tanh(preactivations[:, :-heads]), sigmoid(preactivations[:, -heads:])], axis=-1)


def _parts(emitted: Any, reads: Any) -> tuple[Any, Any, Any]:
    """Keys and adds like `reads` [B, R, W] and gates [B, R]; keys are adds where there are no others."""
    heads = reads.shape[1]
    size = heads * reads.shape[2]
    vectors = emitted[:, :-heads]
    return vectors[:, :size].reshape(reads.shape), vectors[:, -size:].reshape(reads.shape), emitted[:, -heads:]


def _pull(g_keys: Any, g_adds: Any, g_gates: Any, emitted: Any) -> Any:
    """The gradient before the activation: tanh' = 1 - y^2, sigmoid' = y (1 - y)."""
    xp = array_module(emitted)
    heads = g_gates.shape[1]
    g_keys, g_adds = (g.reshape((len(g), g.shape[1] * g.shape[2])) for g in (g_keys, g_adds))
    vectors, gates = emitted[:, :-heads], emitted[:, -heads:]
    separate = vectors.shape[1] > g_keys.shape[1]
    g_vectors = xp.concatenate([g_keys, g_adds], axis=-1) if separate else g_keys + g_adds
    return xp.concatenate([g_vectors * (1 - vectors * vectors), g_gates * gates * (1 - gates)], axis=-1)
