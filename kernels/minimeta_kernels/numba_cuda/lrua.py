"""The halves of a step of memory with least recently used access. Equations and names: reference/lrua.py.

Each is a few small kernels, one thread a number of the result, which waits for no other thread.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minimeta_kernels.numba_cuda.launch import SIDE, compiled, cuda, device, entry, run
from minimeta_kernels.reference.modules import array_module


@compiled
def _choose(usage: Any, least_used: Any) -> None:
    # one thread a row: its rank is how many rows come before it in the order of (usage, index)
    n, b = cuda.grid(2)
    if n < usage.shape[1]:
        rank = 0
        for j in range(usage.shape[1]):
            if usage[b, j] < usage[b, n] or (usage[b, j] == usage[b, n] and j < n):
                rank += 1
        if rank < least_used.shape[1]:
            least_used[b, rank] = n


@device
def _is_target(least_used: Any, r: Any, n: Any, shared: Any) -> Any:
    if not shared:
        return least_used[r] == n
    found = False
    for k in range(least_used.shape[0]):
        if least_used[k] == n:
            found = True
    return found


@compiled
def _weigh_writes(weights: Any, gates: Any, least_used: Any, shared: Any, written: Any) -> None:
    n, r, b = cuda.grid(3)
    if n < weights.shape[2] and r < weights.shape[1]:
        target = 1 if _is_target(least_used[b], r, n, shared) else 0
        written[b, r, n] = gates[b, r] * weights[b, r, n] + (1 - gates[b, r]) * target


@compiled
def _write(memory: Any, written: Any, adds: Any, least_used: Any, out: Any) -> None:
    i, n, b = cuda.grid(3)
    if i < memory.shape[2] and n < memory.shape[1]:
        total = memory[b, n, i] * 0 if least_used[b, 0] == n else memory[b, n, i]
        for r in range(adds.shape[1]):
            total += written[b, r, n] * adds[b, r, i]
        out[b, n, i] = total


@compiled
def _pull_writes(
    g_memory: Any, g_written: Any, weights: Any, adds: Any, gates: Any, least_used: Any, shared: Any,
    to_weights: Any, slopes: Any,
) -> None:  # fmt: skip
    # of a write weight: what pulls on it, passed on to the weight before and to the gate
    n, r, b = cuda.grid(3)
    if n < weights.shape[2] and r < weights.shape[1]:
        pulled = g_written[b, r, n]
        for i in range(adds.shape[2]):
            pulled += adds[b, r, i] * g_memory[b, n, i]
        target = 1 if _is_target(least_used[b], r, n, shared) else 0
        to_weights[b, r, n] = gates[b, r] * pulled
        slopes[b, r, n] = pulled * (weights[b, r, n] - target)


@compiled
def _read_rows(weights: Any, memory: Any, out: Any) -> None:
    # out [B, R, W] = weights [B, R, N] memory [B, N, W]
    i, r, b = cuda.grid(3)
    if i < memory.shape[2] and r < weights.shape[1]:
        total = memory[b, 0, i] * 0
        for n in range(memory.shape[1]):
            total += weights[b, r, n] * memory[b, n, i]
        out[b, r, i] = total


@compiled
def _sum_rows(values: Any, out: Any) -> None:
    # out [B, R], over the rows of [B, R, N]
    r, b = cuda.grid(2)
    if r < values.shape[1]:
        total = values[b, r, 0] * 0
        for n in range(values.shape[2]):
            total += values[b, r, n]
        out[b, r] = total


@compiled
def _compare(memory: Any, keys: Any, eps: Any, cosine: Any, scale: Any, squares: Any) -> None:
    # K and its c [B, R, N]; squares [B, 2, R, N] are |m|^2 and |k|^2, which the gradient needs
    n, r, b = cuda.grid(3)
    if n < memory.shape[1] and r < keys.shape[1]:
        dot = key = row = memory[b, n, 0] * 0
        for i in range(memory.shape[2]):
            dot += keys[b, r, i] * memory[b, n, i]
            key += keys[b, r, i] * keys[b, r, i]
            row += memory[b, n, i] * memory[b, n, i]
        scale[b, r, n] = 1 / math.sqrt(key * row + eps)
        cosine[b, r, n] = scale[b, r, n] * dot
        squares[b, 0, r, n], squares[b, 1, r, n] = row, key


@compiled
def _softmax(cosine: Any, weights: Any) -> None:
    # over rows; cosines are at most 1, so that no largest need be taken off. One thread a head
    r, b = cuda.grid(2)
    if r < cosine.shape[1]:
        total = cosine[b, r, 0] * 0
        for n in range(cosine.shape[2]):
            weights[b, r, n] = math.exp(cosine[b, r, n])
            total += weights[b, r, n]
        for n in range(cosine.shape[2]):
            weights[b, r, n] /= total


@compiled
def _pull_softmax(weights: Any, g_reads: Any, g_weights: Any, memory: Any, pulled: Any) -> None:
    # from what pulls on the weights to what pulls on the cosines. One thread a head
    r, b = cuda.grid(2)
    if r < weights.shape[1]:
        mean = weights[b, r, 0] * 0
        for n in range(weights.shape[2]):
            attended = g_weights[b, r, n]
            for i in range(memory.shape[2]):
                attended += g_reads[b, r, i] * memory[b, n, i]
            pulled[b, r, n] = attended
            mean += weights[b, r, n] * attended
        for n in range(weights.shape[2]):
            pulled[b, r, n] = weights[b, r, n] * (pulled[b, r, n] - mean)


@compiled
def _pull_memory(
    weights: Any, g_reads: Any, pulled: Any, cosine: Any, scale: Any, squares: Any, keys: Any, memory: Any, out: Any
) -> None:
    i, n, b = cuda.grid(3)
    if i < memory.shape[2] and n < memory.shape[1]:
        total = memory[b, n, i] * 0
        for r in range(keys.shape[1]):
            slope = scale[b, r, n] * pulled[b, r, n]
            shrink = scale[b, r, n] * cosine[b, r, n] * slope * squares[b, 1, r, n]
            total += weights[b, r, n] * g_reads[b, r, i] + slope * keys[b, r, i] - shrink * memory[b, n, i]
        out[b, n, i] = total


@compiled
def _pull_keys(pulled: Any, cosine: Any, scale: Any, squares: Any, keys: Any, memory: Any, out: Any) -> None:
    i, r, b = cuda.grid(3)
    if i < keys.shape[2] and r < keys.shape[1]:
        total = keys[b, r, i] * 0
        for n in range(memory.shape[1]):
            slope = scale[b, r, n] * pulled[b, r, n]
            shrink = scale[b, r, n] * cosine[b, r, n] * slope * squares[b, 0, r, n]
            total += slope * memory[b, n, i] - shrink * keys[b, r, i]
        out[b, r, i] = total


def _each(kernel: Any, out: Any, *args: Any) -> None:
    """A thread for each number of a result [B, M, N], or [B, M]."""
    *_, last = out.shape
    middle = out.shape[1] if out.ndim == 3 else 1
    if out.ndim == 3:
        run(kernel, (-(-last // SIDE), -(-middle // SIDE), len(out)), (SIDE, SIDE, 1), *args)
    else:
        run(kernel, (-(-last // SIDE), len(out)), (SIDE, 1), *args)


@entry("lrua_write")
def lrua_write(
    memory: Any, weights: Any, usage: Any, adds: Any, gates: Any, *, shared: bool = True
) -> tuple[Any, Any, Any]:
    """The first half: -> memory [B, N, W], write weights [B, R, N], least used [B, R]."""
    xp = array_module(memory)
    least_used, written, out = xp.empty(gates.shape, np.int64), xp.empty_like(weights), xp.empty_like(memory)
    _each(_choose, usage, usage, least_used)
    _each(_weigh_writes, written, weights, gates, least_used, shared, written)
    _each(_write, out, memory, written, adds, least_used, out)
    return out, written, least_used


@entry("lrua_write_vjp")
def lrua_write_vjp(
    g_memory: Any, g_write_weights: Any, weights: Any, adds: Any, gates: Any, least_used: Any, *, shared: bool = True
) -> tuple[Any, Any, Any, Any]:
    """The gradients by memory, weights, adds and gates; either cotangent may be None."""
    xp = array_module(weights)
    if g_memory is None:
        g_memory = xp.zeros((len(weights), weights.shape[2], adds.shape[2]), weights.dtype)
    g_written = xp.zeros_like(weights) if g_write_weights is None else g_write_weights
    to_weights, slopes, written = (xp.empty_like(weights) for _ in range(3))
    to_memory, to_adds, to_gates = map(xp.empty_like, (g_memory, adds, gates))
    given = weights, adds, gates, least_used, shared
    _each(_pull_writes, weights, g_memory, g_written, *given, to_weights, slopes)
    _each(_weigh_writes, written, weights, gates, least_used, shared, written)
    _each(_read_rows, to_adds, written, g_memory, to_adds)
    _each(_sum_rows, to_gates, slopes, to_gates)
    _each(_write, to_memory, g_memory, xp.zeros_like(weights), adds, least_used, to_memory)  # erases, and adds nothing
    return to_memory, to_weights, to_adds, to_gates


@entry("lrua_read")
def lrua_read(memory: Any, keys: Any, *, eps: float = 1e-6) -> tuple[Any, Any]:
    """The second half: -> reads [B, R, W], read weights [B, R, N]."""
    weights = _weights(memory, keys, eps)[0]
    reads = array_module(memory).empty_like(keys)
    _each(_read_rows, reads, weights, memory, reads)
    return reads, weights


@entry("lrua_read_vjp")
def lrua_read_vjp(g_reads: Any, g_weights: Any, memory: Any, keys: Any, *, eps: float = 1e-6) -> tuple[Any, Any]:
    """The gradients by memory and keys; either cotangent may be None."""
    xp = array_module(memory)
    weights, cosine, scale, squares = _weights(memory, keys, eps)
    g_reads = xp.zeros_like(keys) if g_reads is None else g_reads
    g_weights = xp.zeros_like(weights) if g_weights is None else g_weights
    pulled, to_memory, to_keys = map(xp.empty_like, (weights, memory, keys))
    _each(_pull_softmax, weights[..., 0], weights, g_reads, g_weights, memory, pulled)
    _each(_pull_memory, to_memory, weights, g_reads, pulled, cosine, scale, squares, keys, memory, to_memory)
    _each(_pull_keys, to_keys, pulled, cosine, scale, squares, keys, memory, to_keys)
    return to_memory, to_keys


def _weights(memory: Any, keys: Any, eps: float) -> tuple[Any, Any, Any, Any]:
    """The read weights, and what they are made of."""
    xp = array_module(memory)
    shape = len(memory), keys.shape[1], memory.shape[1]
    weights, cosine, scale = (xp.empty(shape, memory.dtype) for _ in range(3))
    squares = xp.empty((shape[0], 2, *shape[1:]), memory.dtype)
    _each(_compare, weights, memory, keys, memory.dtype.type(eps), cosine, scale, squares)
    _each(_softmax, weights[..., 0], cosine, weights)
    return weights, cosine, scale, squares
