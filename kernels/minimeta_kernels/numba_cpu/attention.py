"""Attention, softmax(scores) v, block by block of queries without ever writing all scores to memory.

Scores of a block are kept as (keys, queries): queries lie along the vectors, so softmax and its derivatives run down
the rows and every step of them is a vector operation. Cosine attention is the same at rows of unit length, with the
normalisation's P and H on the way back. Equations: `reference/attention.py`, `reference/pairwise.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minimeta_kernels import launch
from minimeta_kernels.numba_cpu.compiled import compiled, inlined
from minimeta_kernels.numba_cpu.elementary import exp
from minimeta_kernels.numba_cpu.product import FRESH, ONTO, POSITIONS, multiply, padded, transpose
from minimeta_kernels.numba_cpu.rows import blocks_of, curve, project, read, read_projected, read_unit, span
from minimeta_kernels.numba_cpu.tile import PACE
from minimeta_kernels.registry import register

Array = np.ndarray[Any, Any]

#: Queries at a time: whole tiles and whole vectors, few enough that their scores stay in the nearest caches.
_QUERIES = 128


@inlined
def _scratch(rows: Any, columns: Any, like: Any) -> Any:
    """Zeros in whole vectors, so that what no one wrote is harmless."""
    return np.zeros((padded(rows, like.itemsize), padded(columns, like.itemsize)), like.dtype)


@inlined
def _rows(x: Any, b: Any, first: Any, last: Any, unit: Any, eps: Any, out: Any, norms: Any) -> None:
    """Rows of x[b] into scratch, of unit length if `unit`."""
    if unit:
        read_unit(x, b, first, last, eps, out, norms)
    else:
        read(x, b, first, last, out)


@inlined
def _tangents(u: Any, b: Any, first: Any, last: Any, unit: Any, rows: Any, norms: Any, out: Any) -> None:
    """Rows of u[b] into scratch: the tangents of what `_rows` read, where u are those of x."""
    if unit:
        read_projected(u, b, first, last, rows, norms, out)
    else:
        read(u, b, first, last, out)


@inlined
def _softmax(scores: Any, queries: Any, temperature: Any, largest: Any, total: Any) -> None:
    """Down the columns, in place: exp(temperature s - max) / sum."""
    keys = len(scores)
    for q in range(queries):
        largest[q] = -np.inf
        total[q] = 0
    for k in range(keys):
        for q in range(queries):
            s = scores[k, q] * temperature
            scores[k, q] = s
            largest[q] = s if s > largest[q] else largest[q]
    for k in range(keys):
        for q in range(queries):
            e = exp(scores[k, q] - largest[q])
            scores[k, q] = e
            total[q] += e
    for q in range(queries):
        total[q] = total.dtype.type(1) / total[q]
    for k in range(keys):
        for q in range(queries):
            scores[k, q] *= total[q]


@inlined
def _softmax_vjp(weights: Any, queries: Any, a: Any, temperature: Any, delta: Any) -> None:
    """a <- temperature A (a - delta) with delta = the sum of A a down the columns."""
    keys = len(weights)
    for q in range(queries):
        delta[q] = 0
    for k in range(keys):
        for q in range(queries):
            delta[q] += weights[k, q] * a[k, q]
    for k in range(keys):
        for q in range(queries):
            a[k, q] = temperature * weights[k, q] * (a[k, q] - delta[q])


@inlined
def _softmax_vjp2(
    weights: Any, queries: Any, moved: Any, a: Any, moved_a: Any, temperature: Any, delta: Any, moved_delta: Any
) -> None:
    """a <- G = temperature A (a - delta), and moved_a <- its tangent, where A and a have the tangents given."""
    keys = len(weights)
    for q in range(queries):
        delta[q] = 0
        moved_delta[q] = 0
    for k in range(keys):
        for q in range(queries):
            delta[q] += weights[k, q] * a[k, q]
            moved_delta[q] += moved[k, q] * a[k, q] + weights[k, q] * moved_a[k, q]
    for k in range(keys):
        for q in range(queries):
            centred = a[k, q] - delta[q]
            tangent = moved[k, q] * centred + weights[k, q] * (moved_a[k, q] - moved_delta[q])
            moved_a[k, q] = temperature * tangent
            a[k, q] = temperature * weights[k, q] * centred


@compiled
def _forward(
    begin: Any, end: Any, x: Any, y: Any, v: Any, unit: Any, eps: Any, temperature: Any, out: Any, blocks: Any
) -> None:
    (_, queries, dim), (_, keys, values) = x.shape, v.shape
    qs, qs_t = _scratch(_QUERIES, dim, x), _scratch(dim, _QUERIES, x)
    ks, vs = _scratch(keys, dim, x), _scratch(keys, values, x)
    weights = _scratch(keys, _QUERIES, x)[:keys]
    norms, sums = np.empty(max(keys, _QUERIES), x.dtype), np.empty((2, _QUERIES), x.dtype)
    positions = np.empty(POSITIONS, np.int64)
    for item in range(begin, end):
        b, first, last = span(item, blocks, queries)
        _rows(y, b, 0, keys, unit, eps, ks, norms)
        read(v, b, 0, keys, vs)
        for q in range(first, last, _QUERIES):
            n = min(_QUERIES, last - q)
            wide = padded(n, x.itemsize)
            _rows(x, b, q, q + n, unit, eps, qs, norms)
            transpose(qs, qs_t)
            multiply(ks[:keys, :dim], qs_t, weights[:, :wide], FRESH, positions)
            _softmax(weights, wide, temperature, sums[0], sums[1])
            multiply(weights.T[:n, :], vs, out[b, q : q + n, :], FRESH, positions)


@compiled
def _backward(
    begin: Any, end: Any, g: Any, x: Any, y: Any, v: Any, unit: Any, eps: Any, temperature: Any,
    of_x: Any, of_y: Any, of_v: Any, blocks: Any,
) -> None:  # fmt: skip
    """of_y and of_v have an entry for every item, zero at first."""
    (_, queries, dim), (_, keys, values) = x.shape, v.shape
    qs, qs_t, ks = _scratch(_QUERIES, dim, x), _scratch(dim, _QUERIES, x), _scratch(keys, dim, x)
    gs, gs_t = _scratch(_QUERIES, values, x), _scratch(values, _QUERIES, x)
    weights, a = _scratch(keys, _QUERIES, x)[:keys], _scratch(keys, _QUERIES, x)[:keys]
    q_norms, k_norms, sums = np.empty(_QUERIES, x.dtype), np.empty(keys, x.dtype), np.empty((2, _QUERIES), x.dtype)
    positions = np.empty(POSITIONS, np.int64)
    for item in range(begin, end):
        b, first, last = span(item, blocks, queries)
        _rows(y, b, 0, keys, unit, eps, ks, k_norms)
        for q in range(first, last, _QUERIES):
            n = min(_QUERIES, last - q)
            wide = padded(n, x.itemsize)
            _rows(x, b, q, q + n, unit, eps, qs, q_norms)
            transpose(qs, qs_t)
            read(g, b, q, q + n, gs)
            transpose(gs, gs_t)
            multiply(ks[:keys, :dim], qs_t, weights[:, :wide], FRESH, positions)
            _softmax(weights, wide, temperature, sums[0], sums[1])
            multiply(v[b, :, :], gs_t, a[:, :wide], FRESH, positions)
            _softmax_vjp(weights, wide, a, temperature, sums[0])
            multiply(a.T[:n, :], ks, of_x[b, q : q + n, :], FRESH, positions)
            multiply(a[:, :n], qs, of_y[item, :, :], ONTO, positions)
            multiply(weights[:, :n], gs, of_v[item, :, :], ONTO, positions)
            if unit:
                project(qs, q_norms, of_x, b, q, q + n)
        if unit:
            project(ks, k_norms, of_y, item, 0, keys)


@compiled
def _twice(
    begin: Any, end: Any, u: Any, w: Any, z: Any, g: Any, x: Any, y: Any, v: Any, unit: Any, eps: Any,
    temperature: Any, of_g: Any, of_x: Any, of_y: Any, of_v: Any, blocks: Any,
) -> None:  # fmt: skip
    """of_y and of_v have an entry for every item, zero at first."""
    (_, queries, dim), (_, keys, values) = x.shape, v.shape
    qs, qs_t, ks = _scratch(_QUERIES, dim, x), _scratch(dim, _QUERIES, x), _scratch(keys, dim, x)
    us, us_t, ws = _scratch(_QUERIES, dim, x), _scratch(dim, _QUERIES, x), _scratch(keys, dim, x)
    gs, gs_t = _scratch(_QUERIES, values, x), _scratch(values, _QUERIES, x)
    vs, zs = _scratch(keys, values, x), _scratch(keys, values, x)
    weights, moved = _scratch(keys, _QUERIES, x)[:keys], _scratch(keys, _QUERIES, x)[:keys]
    a, moved_a = _scratch(keys, _QUERIES, x)[:keys], _scratch(keys, _QUERIES, x)[:keys]
    q_first, k_first = _scratch(_QUERIES, dim, x), _scratch(keys, dim, x)
    q_norms, k_norms, sums = np.empty(_QUERIES, x.dtype), np.empty(keys, x.dtype), np.empty((2, _QUERIES), x.dtype)
    positions = np.empty(POSITIONS, np.int64)
    for item in range(begin, end):
        b, first, last = span(item, blocks, queries)
        _rows(y, b, 0, keys, unit, eps, ks, k_norms)
        _tangents(w, b, 0, keys, unit, ks, k_norms, ws)
        read(v, b, 0, keys, vs)
        read(z, b, 0, keys, zs)
        k_first[:] = 0
        for q in range(first, last, _QUERIES):
            n = min(_QUERIES, last - q)
            wide = padded(n, x.itemsize)
            _rows(x, b, q, q + n, unit, eps, qs, q_norms)
            transpose(qs, qs_t)
            _tangents(u, b, q, q + n, unit, qs, q_norms, us)
            transpose(us, us_t)
            read(g, b, q, q + n, gs)
            transpose(gs, gs_t)
            multiply(ks[:keys, :dim], qs_t, weights[:, :wide], FRESH, positions)
            _softmax(weights, wide, temperature, sums[0], sums[1])
            multiply(ks[:keys, :dim], us_t, moved[:, :wide], FRESH, positions)
            multiply(ws[:keys, :dim], qs_t, moved[:, :wide], ONTO, positions)
            _softmax_vjp(weights, wide, moved, temperature, sums[0])
            multiply(v[b, :, :], gs_t, a[:, :wide], FRESH, positions)
            multiply(z[b, :, :], gs_t, moved_a[:, :wide], FRESH, positions)
            _softmax_vjp2(weights, wide, moved, a, moved_a, temperature, sums[0], sums[1])
            multiply(moved.T[:n, :], vs, of_g[b, q : q + n, :], FRESH, positions)
            multiply(weights.T[:n, :], zs, of_g[b, q : q + n, :], ONTO, positions)
            multiply(moved_a.T[:n, :], ks, of_x[b, q : q + n, :], FRESH, positions)
            multiply(a.T[:n, :], ws, of_x[b, q : q + n, :], ONTO, positions)
            multiply(moved_a[:, :n], qs, of_y[item, :, :], ONTO, positions)
            multiply(a[:, :n], us, of_y[item, :, :], ONTO, positions)
            multiply(moved[:, :n], gs, of_v[item, :, :], ONTO, positions)
            if unit:
                multiply(a.T[:n, :], ks, q_first[:n, :dim], FRESH, positions)
                multiply(a[:, :n], qs, k_first[:keys, :dim], ONTO, positions)
                project(qs, q_norms, of_x, b, q, q + n)
                curve(qs, q_norms, q_first, u, b, q, q + n, of_x, b)
        if unit:
            project(ks, k_norms, of_y, item, 0, keys)
            curve(ks, k_norms, k_first, w, b, 0, keys, of_y, item)


def _attention(x: Array, y: Array, v: Array, unit: bool, eps: float, temperature: float) -> Array:
    x, y, v = launch.contiguous(x, y, v)
    (batch, queries, dim), (_, keys, values) = x.shape, v.shape
    out = np.empty((batch, queries, values), x.dtype)
    blocks = blocks_of(batch, queries)
    work = 2 * batch * queries * keys * (dim + values) / PACE
    options = unit, x.dtype.type(eps), x.dtype.type(temperature)
    launch.parallel(_forward, batch * blocks, work, x, y, v, *options, out, blocks)
    return out


def _attention_vjp(
    g: Array, x: Array, y: Array, v: Array, unit: bool, eps: float, temperature: float
) -> tuple[Array, Array, Array]:
    g, x, y, v = launch.contiguous(g, x, y, v)
    (batch, queries, dim), (_, keys, values) = x.shape, v.shape
    blocks = blocks_of(batch, queries)
    of_x, of_y, of_v = np.empty_like(x), _parts(y, blocks), _parts(v, blocks)
    work = batch * queries * keys * (6 * dim + 4 * values) / PACE
    options = unit, x.dtype.type(eps), x.dtype.type(temperature)
    launch.parallel(_backward, batch * blocks, work, g, x, y, v, *options, of_x, of_y, of_v, blocks)
    return of_x, _joined(of_y, y), _joined(of_v, v)


def _attention_vjp2(
    cotangents: tuple[Array, Array, Array], g: Array, x: Array, y: Array, v: Array,
    unit: bool, eps: float, temperature: float,
) -> tuple[Array, Array, Array, Array]:  # fmt: skip
    u, w, z, g, x, y, v = launch.contiguous(*cotangents, g, x, y, v)
    (batch, queries, dim), (_, keys, values) = x.shape, v.shape
    blocks = blocks_of(batch, queries)
    of_g, of_x, of_y, of_v = np.empty_like(g), np.empty_like(x), _parts(y, blocks), _parts(v, blocks)
    work = batch * queries * keys * (18 * dim + 10 * values) / PACE
    options = unit, x.dtype.type(eps), x.dtype.type(temperature)
    results = of_g, of_x, of_y, of_v
    launch.parallel(_twice, batch * blocks, work, u, w, z, g, x, y, v, *options, *results, blocks)
    return of_g, of_x, _joined(of_y, y), _joined(of_v, v)


def _parts(y: Array, blocks: int) -> Array:
    """Zeros for what every block of queries adds to a gradient of the shape of y."""
    return np.zeros((len(y) * blocks, *y.shape[1:]), y.dtype)


def _joined(parts: Array, y: Array) -> Array:
    """The sum over blocks, in their order."""
    return parts if len(parts) == len(y) else parts.reshape(len(y), -1, *y.shape[1:]).sum(axis=1)


@register("attention", "numba", launch.refuses)
def attention(x: Array, y: Array, v: Array, temperature: float = 1.0) -> Array:
    """softmax(temperature x y^T) v, (B, Q, D), (B, S, D), (B, S, C) -> (B, Q, C)."""
    return _attention(x, y, v, False, 0.0, temperature)


@register("attention_vjp", "numba", launch.refuses)
def attention_vjp(g: Array, x: Array, y: Array, v: Array, temperature: float = 1.0) -> tuple[Array, Array, Array]:
    """Gradients of `attention` for x, y and v."""
    return _attention_vjp(g, x, y, v, False, 0.0, temperature)


@register("attention_vjp2", "numba", launch.refuses)
def attention_vjp2(
    cotangents: tuple[Array, Array, Array], g: Array, x: Array, y: Array, v: Array, temperature: float = 1.0
) -> tuple[Array, Array, Array, Array]:
    """Gradients of `attention_vjp` for g, x, y and v."""
    return _attention_vjp2(cotangents, g, x, y, v, False, 0.0, temperature)


@register("cosine_attention", "numba", launch.refuses)
def cosine_attention(x: Array, y: Array, v: Array, temperature: float = 1.0, eps: float = 1e-8) -> Array:
    """softmax(temperature cosine(x, y)) v, (B, Q, D), (B, S, D), (B, S, C) -> (B, Q, C)."""
    return _attention(x, y, v, True, eps, temperature)


@register("cosine_attention_vjp", "numba", launch.refuses)
def cosine_attention_vjp(
    g: Array, x: Array, y: Array, v: Array, temperature: float = 1.0, eps: float = 1e-8
) -> tuple[Array, Array, Array]:
    """Gradients of `cosine_attention` for x, y and v."""
    return _attention_vjp(g, x, y, v, True, eps, temperature)


@register("cosine_attention_vjp2", "numba", launch.refuses)
def cosine_attention_vjp2(
    cotangents: tuple[Array, Array, Array], g: Array, x: Array, y: Array, v: Array,
    temperature: float = 1.0, eps: float = 1e-8,
) -> tuple[Array, Array, Array, Array]:  # fmt: skip
    """Gradients of `cosine_attention_vjp` for g, x, y and v."""
    return _attention_vjp2(cotangents, g, x, y, v, True, eps, temperature)
