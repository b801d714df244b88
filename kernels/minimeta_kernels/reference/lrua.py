"""Memory with least recently used access (Santoro et al. 2016): its steps, a sequence of them, and their derivatives.

B episodes, N rows of width W in memory, R heads, T steps. One step, indices t - 1 marked by ':

    l_1 ... l_R   the R rows of least usage u', in the order of (usage, index)
    v = s w' + (1 - s) lu         write weights; lu is one at all R rows for every head (shared) or at l_r for head r
    M = E M' + sum over r of v_r a_r        E erases row l_1
    w = softmax(K) over the rows, K_rn = k_r . m_n / sqrt(|k_r|^2 |m_n|^2 + eps)
    r = w M
    u = decay u' + sum over r of w_r + sum over r of v_r

Usage serves only to choose rows, and a choice has no derivative: no gradient flows through u and l.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from minimeta_kernels.reference.modules import array_module
from minimeta_kernels.registry import register


class LRUA(NamedTuple):
    """What a sequence leaves: its reads, the state after it, and what the derivative needs of every step."""

    reads: Any  # [B, T, R, W]
    memory: Any  # [B, N, W]
    weights: Any  # [B, R, N]
    usage: Any  # [B, N]
    least_used: Any  # [B, T, R], int64
    memories: Any  # [B, T, N, W]
    all_weights: Any  # [B, T, R, N]


@register("lrua", "reference")
def lrua(
    memory: Any, weights: Any, usage: Any, keys: Any, adds: Any, gates: Any,
    *, decay: float = 0.95, shared: bool = True, eps: float = 1e-6,
) -> LRUA:  # fmt: skip
    """memory [B, N, W], weights [B, R, N], usage [B, N], keys, adds [B, T, R, W], gates [B, T, R] -> LRUA."""
    xp = array_module(memory)
    (batch, steps, heads, width), rows = keys.shape, memory.shape[1]
    reads = xp.empty((batch, steps, heads, width), dtype=memory.dtype)
    least_used = xp.empty((batch, steps, heads), dtype=xp.int64)
    memories = xp.empty((batch, steps, rows, width), dtype=memory.dtype)
    all_weights = xp.empty((batch, steps, heads, rows), dtype=memory.dtype)
    for t in range(steps):
        memory, write_weights, least_used[:, t] = lrua_write(
            memory, weights, usage, adds[:, t], gates[:, t], shared=shared
        )
        reads[:, t], weights = lrua_read(memory, keys[:, t], eps=eps)
        usage = decay * usage + (weights + write_weights).sum(axis=1)
        memories[:, t], all_weights[:, t] = memory, weights
    return LRUA(reads, memory, weights, usage, least_used, memories, all_weights)


@register("lrua_vjp", "reference")
def lrua_vjp(
    g_reads: Any, g_memory: Any, g_weights: Any, memory: Any, weights: Any, keys: Any, adds: Any, gates: Any,
    least_used: Any, memories: Any, all_weights: Any, *, shared: bool = True, eps: float = 1e-6,
) -> tuple[Any, Any, Any, Any, Any]:  # fmt: skip
    """The gradients by memory, weights, keys, adds and gates; each of the three cotangents may be None."""
    xp = array_module(memory)
    g_reads, g_memory, g_weights = (
        xp.zeros_like(like) if g is None else g
        for g, like in ((g_reads, keys), (g_memory, memory), (g_weights, weights))
    )
    g_keys, g_adds, g_gates = xp.empty_like(keys), xp.empty_like(adds), xp.empty_like(gates)
    for t in reversed(range(keys.shape[1])):
        g_read, g_keys[:, t] = lrua_read_vjp(g_reads[:, t], g_weights, memories[:, t], keys[:, t], eps=eps)
        before = all_weights[:, t - 1] if t else weights
        g_memory, g_weights, g_adds[:, t], g_gates[:, t] = lrua_write_vjp(
            g_memory + g_read, None, before, adds[:, t], gates[:, t], least_used[:, t], shared=shared
        )
    return g_memory, g_weights, g_keys, g_adds, g_gates


@register("lrua_write", "reference")
def lrua_write(
    memory: Any, weights: Any, usage: Any, adds: Any, gates: Any, *, shared: bool = True
) -> tuple[Any, Any, Any]:
    """The first half of a step: adds [B, R, W], gates [B, R] -> memory, write weights [B, R, N], least used [B, R]."""
    xp = array_module(memory)
    least_used = _least_used(usage, adds.shape[1])
    write_weights = _write_weights(weights, gates, least_used, shared)
    written = _erase(memory, least_used) + xp.matmul(xp.swapaxes(write_weights, -1, -2), adds)
    return written, write_weights, least_used


@register("lrua_write_vjp", "reference")
def lrua_write_vjp(
    g_memory: Any, g_write_weights: Any, weights: Any, adds: Any, gates: Any, least_used: Any, *, shared: bool = True
) -> tuple[Any, Any, Any, Any]:
    """The gradients by memory, weights, adds and gates; either cotangent may be None.

    a_ = v M_, v_ += a M_^T, s_ = v_ . (w' - lu), w'_ = s v_, M'_ = E M_.
    """
    xp = array_module(weights)
    if g_memory is None:
        g_memory = xp.zeros((len(weights), weights.shape[-1], adds.shape[-1]), dtype=weights.dtype)
    g_adds = xp.matmul(_write_weights(weights, gates, least_used, shared), g_memory)
    g_written = xp.matmul(adds, xp.swapaxes(g_memory, -1, -2))
    if g_write_weights is not None:
        g_written = g_written + g_write_weights
    g_gates = (g_written * (weights - _targets(least_used, weights, shared))).sum(axis=-1)
    return _erase(g_memory, least_used), gates[..., None] * g_written, g_adds, g_gates


@register("lrua_read", "reference")
def lrua_read(memory: Any, keys: Any, *, eps: float = 1e-6) -> tuple[Any, Any]:
    """The second half of a step: memory [B, N, W], keys [B, R, W] -> reads [B, R, W], read weights [B, R, N]."""
    xp = array_module(memory)
    weights = _softmax(_cosine(memory, keys, eps)[0])
    return xp.matmul(weights, memory), weights


@register("lrua_read_vjp", "reference")
def lrua_read_vjp(g_reads: Any, g_weights: Any, memory: Any, keys: Any, *, eps: float = 1e-6) -> tuple[Any, Any]:
    """The gradients by memory and keys; either cotangent may be None.

    With c = 1 / sqrt(|k|^2 |m|^2 + eps) and K = c k.m:  dK = c d(k.m) - K c^2 (|m|^2 k.dk + |k|^2 m.dm).
    """
    xp = array_module(memory)
    g_reads = xp.zeros_like(keys) if g_reads is None else g_reads
    cosine, scale = _cosine(memory, keys, eps)
    weights = _softmax(cosine)
    g_attended = xp.matmul(g_reads, xp.swapaxes(memory, -1, -2))
    if g_weights is not None:
        g_attended = g_attended + g_weights
    g_cosine = weights * (g_attended - (weights * g_attended).sum(axis=-1, keepdims=True))
    g_dot = scale * g_cosine
    shrink = scale * scale * cosine * g_cosine
    key_norms, row_norms = (keys * keys).sum(axis=-1), (memory * memory).sum(axis=-1)
    g_keys = xp.matmul(g_dot, memory) - (shrink * row_norms[:, None, :]).sum(axis=-1, keepdims=True) * keys
    g_memory = (
        xp.matmul(xp.swapaxes(weights, -1, -2), g_reads)
        + xp.matmul(xp.swapaxes(g_dot, -1, -2), keys)
        - (shrink * key_norms[:, :, None]).sum(axis=1)[..., None] * memory
    )
    return g_memory, g_keys


def _least_used(usage: Any, count: int) -> Any:
    """The `count` rows of least usage [B, N] in the order of (usage, index); equal usages are the rule, not rare."""
    xp = array_module(usage)
    index = xp.arange(usage.shape[-1])
    mine, other = usage[..., :, None], usage[..., None, :]
    before = (other < mine) | ((other == mine) & (index[None, :] < index[:, None]))
    return xp.argsort(before.sum(axis=-1), axis=-1)[..., :count]  # ranks all differ: any sort will do


def _one_hot(least_used: Any, like: Any) -> Any:
    """[B, R] -> [B, R, N], with N and the dtype of `like` [B, ..., N]."""
    return (least_used[..., None] == array_module(like).arange(like.shape[-1])).astype(like.dtype)


def _targets(least_used: Any, weights: Any, shared: bool) -> Any:
    """lu [B, R, N] of the step above."""
    hot = _one_hot(least_used, weights)
    return array_module(weights).broadcast_to(hot.sum(axis=1, keepdims=True), weights.shape) if shared else hot


def _write_weights(weights: Any, gates: Any, least_used: Any, shared: bool) -> Any:
    return gates[..., None] * weights + (1 - gates[..., None]) * _targets(least_used, weights, shared)


def _erase(memory: Any, least_used: Any) -> Any:
    """E M: zeros in the single least used row of every memory."""
    xp = array_module(memory)
    erased = _one_hot(least_used[:, :1], xp.swapaxes(memory, -1, -2)).sum(axis=1)
    return xp.where(erased[..., None] > 0, 0, memory)


def _cosine(memory: Any, keys: Any, eps: float) -> tuple[Any, Any]:
    """K and c [B, R, N]."""
    xp = array_module(memory)
    key_norms, row_norms = (keys * keys).sum(axis=-1), (memory * memory).sum(axis=-1)
    scale = 1 / xp.sqrt(key_norms[:, :, None] * row_norms[:, None, :] + eps)
    return scale * xp.matmul(keys, xp.swapaxes(memory, -1, -2)), scale


def _softmax(cosine: Any) -> Any:
    """Over the last axis; cosines are at most 1, so no largest one need be taken off."""
    xp = array_module(cosine)
    raised = xp.exp(cosine)
    return raised / raised.sum(axis=-1, keepdims=True)
