"""Memory with least recently used access, one episode after another; the equations are in the reference.

Inside, memory and its gradients lie transposed, [W, N]: rows of memory are many, so every inner loop runs over them,
contiguous and long, and products of small matrices are all there is. Results come back as transposed views, which the
next call takes as they are: a chain of single steps copies no memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from minimeta_kernels import launch
from minimeta_kernels.numba_cpu.compiled import compiled, inlined
from minimeta_kernels.numba_cpu.cover import VECTOR_BYTES
from minimeta_kernels.numba_cpu.elementary import exp
from minimeta_kernels.numba_cpu.vector import WIDE, data, full, load_some, store_some, wide, zeros
from minimeta_kernels.reference.lrua import LRUA
from minimeta_kernels.registry import register


def refusal(least_used: int | None = None) -> Callable[..., str | None]:
    """As the launcher, but cotangents may be None, and argument number `least_used` is not floating."""

    def refuses(*arrays: Any, **options: Any) -> str | None:
        return launch.refuses(*(a for i, a in enumerate(arrays) if a is not None and i != least_used))

    return refuses


def _rowwise(function: Callable[..., Any]) -> Any:
    """As `inlined`, but without leave to reorder sums and to estimate quotients.

    Such leave is used differently in vectors and for the rows left over from them; rows alike must come out alike, or
    the choice among them does not go by index.
    """
    return njit(nogil=True, forceinline=True, fastmath={"contract"}, error_model="numpy")(function)


@register("lrua", "numba", refusal())
def lrua(
    memory: Any, weights: Any, usage: Any, keys: Any, adds: Any, gates: Any,
    *, decay: float = 0.95, shared: bool = True, eps: float = 1e-6,
) -> LRUA:  # fmt: skip
    """memory [B, N, W], weights [B, R, N], usage [B, N], keys, adds [B, T, R, W], gates [B, T, R] -> LRUA."""
    memory, weights, usage, keys, adds, gates = launch.contiguous(
        transposed(memory), weights, usage, keys, adds, gates
    )
    (batch, steps, heads, width), rows = keys.shape, usage.shape[1]
    dtype = memory.dtype
    reads, usage_after = np.empty_like(keys), np.empty_like(usage)
    least_used = np.empty((batch, steps, heads), np.int64)
    memories = np.empty((batch, steps, width, rows), dtype)
    all_weights = np.empty((batch, steps, heads, rows), dtype)
    launch.parallel(
        _lrua, batch, _work(keys, weights), memory, weights, usage, keys, adds, gates, dtype.type(decay), shared,
        dtype.type(eps), reads, usage_after, least_used, memories, all_weights,
    )  # fmt: skip
    if steps:
        memory, weights = memories[:, -1], all_weights[:, -1]
    return LRUA(reads, transposed(memory), weights, usage_after, least_used, transposed(memories), all_weights)


@register("lrua_vjp", "numba", refusal(least_used=8))
def lrua_vjp(
    g_reads: Any, g_memory: Any, g_weights: Any, memory: Any, weights: Any, keys: Any, adds: Any, gates: Any,
    least_used: Any, memories: Any, all_weights: Any, *, shared: bool = True, eps: float = 1e-6,
) -> tuple[Any, Any, Any, Any, Any]:  # fmt: skip
    """The gradients by memory, weights, keys, adds and gates; each of the three cotangents may be None."""
    g_reads, g_memory, g_weights, weights, keys, adds, gates, memories, all_weights = launch.contiguous(
        or_zeros(g_reads, keys), transposed(or_zeros(g_memory, memory)), or_zeros(g_weights, weights),
        weights, keys, adds, gates, transposed(memories), all_weights,
    )  # fmt: skip
    to_memory, to_weights = np.empty_like(g_memory), np.empty_like(g_weights)
    to_keys, to_adds, to_gates = np.empty_like(keys), np.empty_like(adds), np.empty_like(gates)
    launch.parallel(
        _lrua_vjp, len(keys), 2 * _work(keys, weights), g_reads, g_memory, g_weights, weights, keys, adds, gates,
        indices(least_used), memories, all_weights, shared, keys.dtype.type(eps),
        to_memory, to_weights, to_keys, to_adds, to_gates,
    )  # fmt: skip
    return transposed(to_memory), to_weights, to_keys, to_adds, to_gates


@register("lrua_write", "numba", refusal())
def lrua_write(
    memory: Any, weights: Any, usage: Any, adds: Any, gates: Any, *, shared: bool = True
) -> tuple[Any, Any, Any]:
    """The first half of a step: adds [B, R, W], gates [B, R] -> memory, write weights [B, R, N], least used [B, R]."""
    memory, weights, usage, adds, gates = launch.contiguous(transposed(memory), weights, usage, adds, gates)
    written, write_weights, least_used = np.empty_like(memory), np.empty_like(weights), np.empty(gates.shape, np.int64)
    launch.parallel(
        _lrua_write, len(adds), _work(adds, weights), memory, weights, usage, adds, gates, shared,
        written, write_weights, least_used,
    )  # fmt: skip
    return transposed(written), write_weights, least_used


@register("lrua_write_vjp", "numba", refusal(least_used=5))
def lrua_write_vjp(
    g_memory: Any, g_write_weights: Any, weights: Any, adds: Any, gates: Any, least_used: Any, *, shared: bool = True
) -> tuple[Any, Any, Any, Any]:
    """The gradients by memory, weights, adds and gates; either cotangent may be None."""
    if g_memory is None:
        g_memory = np.zeros((len(weights), weights.shape[-1], adds.shape[-1]), weights.dtype)
    g_memory, g_write_weights, weights, adds, gates = launch.contiguous(
        transposed(g_memory), or_zeros(g_write_weights, weights), weights, adds, gates
    )
    to_memory, to_weights = np.empty_like(g_memory), np.empty_like(weights)
    to_adds, to_gates = np.empty_like(adds), np.empty_like(gates)
    launch.parallel(
        _lrua_write_vjp, len(adds), _work(adds, weights), g_memory, g_write_weights, weights, adds, gates,
        indices(least_used), shared, to_memory, to_weights, to_adds, to_gates,
    )  # fmt: skip
    return transposed(to_memory), to_weights, to_adds, to_gates


@register("lrua_read", "numba", refusal())
def lrua_read(memory: Any, keys: Any, *, eps: float = 1e-6) -> tuple[Any, Any]:
    """The second half of a step: memory [B, N, W], keys [B, R, W] -> reads [B, R, W], read weights [B, R, N]."""
    memory, keys = launch.contiguous(transposed(memory), keys)
    reads, weights = np.empty_like(keys), np.empty((*keys.shape[:2], memory.shape[-1]), keys.dtype)
    work = _work(keys, weights)
    launch.parallel(_lrua_read, len(keys), work, memory, keys, keys.dtype.type(eps), reads, weights)
    return reads, weights


@register("lrua_read_vjp", "numba", refusal())
def lrua_read_vjp(g_reads: Any, g_weights: Any, memory: Any, keys: Any, *, eps: float = 1e-6) -> tuple[Any, Any]:
    """The gradients by memory and keys; either cotangent may be None."""
    if g_weights is None:
        g_weights = np.zeros((*keys.shape[:2], memory.shape[1]), keys.dtype)
    g_reads, g_weights, memory, keys = launch.contiguous(or_zeros(g_reads, keys), g_weights, transposed(memory), keys)
    to_memory, to_keys = np.empty_like(memory), np.empty_like(keys)
    launch.parallel(
        _lrua_read_vjp, len(keys), 2 * _work(keys, g_weights), g_reads, g_weights, memory, keys, keys.dtype.type(eps),
        to_memory, to_keys,
    )  # fmt: skip
    return transposed(to_memory), to_keys


def transposed(a: Any) -> Any:
    return np.swapaxes(a, -1, -2)


def or_zeros(g: Any, like: Any) -> Any:
    return np.zeros_like(like) if g is None else g


def indices(least_used: Any) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(least_used, np.int64)


def _work(keys: np.ndarray[Any, Any], weights: np.ndarray[Any, Any]) -> float:
    """About what one pass forward takes: three products of keys' or adds' size with the memory."""
    return float(7 * keys.size * weights.shape[-1])


@compiled
def _lrua(
    begin: Any, end: Any, memory: Any, weights: Any, usage: Any, keys: Any, adds: Any, gates: Any, decay: Any,
    shared: Any, eps: Any, reads: Any, usage_after: Any, least_used: Any, memories: Any, all_weights: Any,
) -> None:  # fmt: skip
    write_weights = np.empty_like(weights[0])
    scratch = scratch_for(weights)
    for b in range(begin, end):
        copy(usage[b], usage_after[b])
        for t in range(keys.shape[1]):
            memory_before = memories[b, t - 1] if t else memory[b]
            weights_before = all_weights[b, t - 1] if t else weights[b]
            write(
                memory_before, weights_before, usage_after[b], adds[b, t], gates[b, t], shared,
                memories[b, t], write_weights, least_used[b, t],
            )  # fmt: skip
            read(memories[b, t], keys[b, t], eps, reads[b, t], all_weights[b, t], scratch)
            use(usage_after[b], decay, all_weights[b, t], write_weights)


@compiled
def _lrua_vjp(
    begin: Any, end: Any, g_reads: Any, g_memory: Any, g_weights: Any, weights: Any, keys: Any, adds: Any, gates: Any,
    least_used: Any, memories: Any, all_weights: Any, shared: Any, eps: Any,
    to_memory: Any, to_weights: Any, to_keys: Any, to_adds: Any, to_gates: Any,
) -> None:  # fmt: skip
    g_written, write_weights = np.empty_like(weights[0]), np.empty_like(weights[0])
    scratch = scratch_for(weights)
    for b in range(begin, end):
        copy(g_memory[b], to_memory[b])
        copy(g_weights[b], to_weights[b])
        for t in range(keys.shape[1] - 1, -1, -1):
            read_vjp(
                g_reads[b, t], to_weights[b], memories[b, t], keys[b, t], all_weights[b, t], eps,
                to_memory[b], to_keys[b, t], scratch,
            )  # fmt: skip
            weights_before = all_weights[b, t - 1] if t else weights[b]
            clear(g_written)
            write_vjp(
                g_written, weights_before, adds[b, t], gates[b, t], least_used[b, t], shared,
                to_memory[b], to_weights[b], to_adds[b, t], to_gates[b, t], write_weights,
            )  # fmt: skip


@compiled
def _lrua_write(
    begin: Any, end: Any, memory: Any, weights: Any, usage: Any, adds: Any, gates: Any, shared: Any,
    written: Any, write_weights: Any, least_used: Any,
) -> None:  # fmt: skip
    for b in range(begin, end):
        write(memory[b], weights[b], usage[b], adds[b], gates[b], shared, written[b], write_weights[b], least_used[b])


@compiled
def _lrua_write_vjp(
    begin: Any, end: Any, g_memory: Any, g_write_weights: Any, weights: Any, adds: Any, gates: Any, least_used: Any,
    shared: Any, to_memory: Any, to_weights: Any, to_adds: Any, to_gates: Any,
) -> None:  # fmt: skip
    g_written, write_weights = np.empty_like(weights[0]), np.empty_like(weights[0])
    for b in range(begin, end):
        copy(g_memory[b], to_memory[b])
        copy(g_write_weights[b], g_written)
        write_vjp(
            g_written, weights[b], adds[b], gates[b], least_used[b], shared,
            to_memory[b], to_weights[b], to_adds[b], to_gates[b], write_weights,
        )  # fmt: skip


@compiled
def _lrua_read(begin: Any, end: Any, memory: Any, keys: Any, eps: Any, reads: Any, weights: Any) -> None:
    scratch = scratch_for(weights)
    for b in range(begin, end):
        read(memory[b], keys[b], eps, reads[b], weights[b], scratch)


@compiled
def _lrua_read_vjp(
    begin: Any, end: Any, g_reads: Any, g_weights: Any, memory: Any, keys: Any, eps: Any, to_memory: Any, to_keys: Any
) -> None:
    weights = np.empty_like(g_weights[0])
    scratch = scratch_for(g_weights)
    for b in range(begin, end):
        _cosines(memory[b], keys[b], eps, scratch)
        _softmax(scratch[0], weights)
        clear(to_memory[b])
        read_vjp(g_reads[b], g_weights[b], memory[b], keys[b], weights, eps, to_memory[b], to_keys[b], scratch)


@inlined
def write(
    memory: Any, weights: Any, usage: Any, adds: Any, gates: Any, shared: Any,
    written: Any, write_weights: Any, least_used: Any,
) -> None:  # fmt: skip
    _choose(usage, least_used)
    _interpolate(weights, gates, least_used, shared, write_weights)
    copy(memory, written)
    _erase(written, least_used)
    _add_product(adds.T, write_weights, written)


@inlined
def write_vjp(
    g_written: Any, weights: Any, adds: Any, gates: Any, least_used: Any, shared: Any,
    to_memory: Any, to_weights: Any, to_adds: Any, to_gates: Any, write_weights: Any,
) -> None:  # fmt: skip
    """`to_memory` comes as the cotangent of the memory written, `g_written` as that of the write weights alone."""
    _interpolate(weights, gates, least_used, shared, write_weights)
    _dots(write_weights, to_memory, to_adds)
    _add_product(adds, to_memory, g_written)
    for r in range(len(gates)):
        to_gates[r] = _dot(g_written[r], weights[r])
        for j in range(len(gates)):
            if shared or j == r:
                to_gates[r] -= g_written[r, least_used[j]]
        for n in range(weights.shape[1]):
            to_weights[r, n] = gates[r] * g_written[r, n]
    _erase(to_memory, least_used)


@inlined
def read(memory: Any, keys: Any, eps: Any, reads: Any, weights: Any, scratch: Any) -> None:
    _cosines(memory, keys, eps, scratch)
    _softmax(scratch[0], weights)
    _dots(weights, memory, reads)


@inlined
def read_vjp(
    g_reads: Any, g_weights: Any, memory: Any, keys: Any, weights: Any, eps: Any,
    to_memory: Any, to_keys: Any, scratch: Any,
) -> None:  # fmt: skip
    """Adds to `to_memory`."""
    _cosines(memory, keys, eps, scratch)
    cosine, scale, g_dot, norms, pull = scratch
    copy(g_weights, g_dot)
    _add_product(g_reads, memory, g_dot)
    for r in range(len(keys)):
        mean = _dot(weights[r], g_dot[r])
        for n in range(len(norms)):
            g_dot[r, n] = scale[r, n] * weights[r, n] * (g_dot[r, n] - mean)
        for n in range(len(norms)):
            cosine[r, n] *= scale[r, n] * g_dot[r, n]  # from here on "shrink" of the reference
    _dots(g_dot, memory, to_keys)
    for r in range(len(keys)):
        shrink = _dot(cosine[r], norms)
        for w in range(keys.shape[1]):
            to_keys[r, w] -= shrink * keys[r, w]
    clear(pull)
    for r in range(len(keys)):
        norm = _dot(keys[r], keys[r])
        for n in range(len(pull)):
            pull[n] -= norm * cosine[r, n]
    _add_scaled(pull, memory, to_memory)
    _add_product(g_reads.T, weights, to_memory)
    _add_product(keys.T, g_dot, to_memory)


@inlined
def scratch_for(weights: Any) -> Any:
    """Cosines, their scales and a gradient, all [R, N], and two single rows of N."""
    heads, rows = weights.shape[-2:]
    tables, lines = np.empty((3, heads, rows), weights.dtype), np.empty((2, rows), weights.dtype)
    return tables[0], tables[1], tables[2], lines[0], lines[1]


@inlined
def _choose(usage: Any, least_used: Any) -> None:
    """The rows of least usage, by insertion: a row passes those before it only if it is used strictly less."""
    heads = len(least_used)
    for n in range(len(usage)):
        place = min(n, heads)
        while place > 0 and usage[n] < usage[least_used[place - 1]]:
            if place < heads:
                least_used[place] = least_used[place - 1]
            place -= 1
        if place < heads:
            least_used[place] = n


@inlined
def _interpolate(weights: Any, gates: Any, least_used: Any, shared: Any, write_weights: Any) -> None:
    one = gates.dtype.type(1)
    for r in range(len(gates)):
        for n in range(weights.shape[1]):
            write_weights[r, n] = gates[r] * weights[r, n]
        for j in range(len(gates)):
            if shared or j == r:
                write_weights[r, least_used[j]] += one - gates[r]


@inlined
def _erase(memory: Any, least_used: Any) -> None:
    for row in least_used[:1]:
        for w in range(len(memory)):
            memory[w, row] = 0


@inlined
def use(usage: Any, decay: Any, weights: Any, write_weights: Any) -> None:
    for n in range(len(usage)):
        usage[n] *= decay
    for r in range(len(weights)):
        for n in range(len(usage)):
            usage[n] += weights[r, n] + write_weights[r, n]


@inlined
def _cosines(memory: Any, keys: Any, eps: Any, scratch: Any) -> None:
    cosine, scale, _, norms, _ = scratch
    _square(memory, norms)
    clear(cosine)
    _add_product(keys, memory, cosine)
    for r in range(len(keys)):
        norm = _dot(keys[r], keys[r])
        for n in range(len(norms)):
            scale[r, n] = _inverse_root(norm * norms[n] + eps)
        for n in range(len(norms)):
            cosine[r, n] *= scale[r, n]


@_rowwise
def _inverse_root(x: Any) -> Any:
    return type(x)(1) / np.sqrt(x)


@inlined
def _softmax(cosine: Any, weights: Any) -> None:
    for r in range(len(weights)):
        total = cosine.dtype.type(0)
        for n in range(weights.shape[1]):
            weights[r, n] = exp(cosine[r, n])
            total += weights[r, n]
        for n in range(weights.shape[1]):
            weights[r, n] /= total


# The following three work on a wide vector of columns at a time, and on single ones in the end.


@_rowwise
def _square(x: Any, y: Any) -> None:
    """y [N] = the columns' squared lengths of x [I, N]."""
    whole = len(y) - len(y) % _wide(y)
    for n in range(0, whole, _wide(y)):
        _square_some(len(x), wide(data(x)), wide(data(y)), n, len(y), _wide(y))
    for n in range(whole, len(y), _lanes(y)):
        _square_some(len(x), data(x), data(y), n, len(y), len(y) - n)


@_rowwise
def _square_some(rows: Any, x: Any, y: Any, n: Any, columns: Any, count: Any) -> None:
    total = zeros(x)
    for i in range(rows):
        v = load_some(x, i * columns + n, count)
        total = total + v * v
    store_some(y, n, total, count)


@_rowwise
def _add_scaled(k: Any, x: Any, y: Any) -> None:
    """y [I, N] += k [N] x [I, N]"""
    whole = len(k) - len(k) % _wide(k)
    for n in range(0, whole, _wide(k)):
        _add_some_scaled(len(x), wide(data(k)), wide(data(x)), wide(data(y)), n, len(k), _wide(k))
    for n in range(whole, len(k), _lanes(k)):
        _add_some_scaled(len(x), data(k), data(x), data(y), n, len(k), len(k) - n)


@_rowwise
def _add_some_scaled(rows: Any, k: Any, x: Any, y: Any, n: Any, columns: Any, count: Any) -> None:
    scale = load_some(k, n, count)
    for i in range(n, n + rows * columns, columns):
        store_some(y, i, load_some(y, i, count) + scale * load_some(x, i, count), count)


@_rowwise
def _add_product(x: Any, z: Any, y: Any) -> None:
    """y [I, N] += x [I, J] z [J, N], four rows of y at a time."""
    columns = y.shape[1]
    whole = columns - columns % _wide(y)
    for i in range(0, len(x), 4):
        for n in range(0, whole, _wide(y)):
            _add_to_four(x, i, wide(data(z)), wide(data(y)), n, columns, _wide(y))
        for n in range(whole, columns, _lanes(y)):
            _add_to_four(x, i, data(z), data(y), n, columns, columns - n)


@_rowwise
def _add_to_four(x: Any, i: Any, z: Any, y: Any, n: Any, columns: Any, count: Any) -> None:
    """Rows from i on, the last of all as often as it takes."""
    last = len(x) - 1
    i1, i2, i3 = min(i + 1, last), min(i + 2, last), min(i + 3, last)
    a, b = load_some(y, i * columns + n, count), load_some(y, i1 * columns + n, count)
    c, d = load_some(y, i2 * columns + n, count), load_some(y, i3 * columns + n, count)
    for j in range(x.shape[1]):
        v = load_some(z, j * columns + n, count)
        a, b = a + full(z, x[i, j]) * v, b + full(z, x[i1, j]) * v
        c, d = c + full(z, x[i2, j]) * v, d + full(z, x[i3, j]) * v
    store_some(y, i * columns + n, a, count)
    store_some(y, i1 * columns + n, b, count)
    store_some(y, i2 * columns + n, c, count)
    store_some(y, i3 * columns + n, d, count)


@inlined
def _lanes(x: Any) -> Any:
    """Numbers in a vector."""
    return VECTOR_BYTES // x.itemsize


@inlined
def _wide(x: Any) -> Any:
    """Numbers in a wide vector."""
    return WIDE * VECTOR_BYTES // x.itemsize


@inlined
def _dots(x: Any, z: Any, y: Any) -> None:
    """y [I, J] = x [I, N] z [J, N]^T, four sums in each pass over a row of x."""
    whole = len(z) - len(z) % 4
    for i in range(len(x)):
        for j in range(0, whole, 4):
            a = b = c = d = x.dtype.type(0)
            for n in range(x.shape[1]):
                a += x[i, n] * z[j, n]
                b += x[i, n] * z[j + 1, n]
                c += x[i, n] * z[j + 2, n]
                d += x[i, n] * z[j + 3, n]
            y[i, j], y[i, j + 1], y[i, j + 2], y[i, j + 3] = a, b, c, d
        for j in range(whole, len(z)):
            y[i, j] = _dot(x[i], z[j])


@inlined
def _dot(x: Any, y: Any) -> Any:
    total = x.dtype.type(0)
    for n in range(len(x)):
        total += x[n] * y[n]
    return total


@inlined
def copy(source: Any, target: Any) -> None:
    """Flat, because a loop over whole arrays is slow to compile and to run where a slice is assigned."""
    source, target = source.reshape(source.size), target.reshape(target.size)
    for i in range(len(target)):
        target[i] = source[i]


@inlined
def clear(target: Any) -> None:
    flat = target.reshape(target.size)
    for i in range(len(flat)):
        flat[i] = 0
