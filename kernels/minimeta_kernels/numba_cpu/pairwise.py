"""Distances and similarities of every row of x (B, Q, D) with every row of y (B, S, D), by tiles over pairs.

The work is cut into blocks of rows of one batch element; the other side's rows are read into scratch memory, and
transposed there where a tile needs the pairs' second index along its vectors. Equations: `reference/pairwise.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minimeta_kernels import launch
from minimeta_kernels.numba_cpu.compiled import compiled, inlined
from minimeta_kernels.numba_cpu.product import FRESH, ONTO, POSITIONS, make_sums, multiply, padded, transpose
from minimeta_kernels.numba_cpu.rows import (
    blocks_of,
    curve,
    dot,
    inverse_norm,
    project,
    read,
    read_less,
    read_projected,
    read_unit,
    span,
)
from minimeta_kernels.numba_cpu.tile import PACE
from minimeta_kernels.registry import register

Array = np.ndarray[Any, Any]

#: Rows of y transposed at a time, and rows of it multiplied at a time.
_PANEL = 64
_DEPTH = 256

_absolute = make_sums("absolute")
_square = make_sums("square")


@inlined
def _make_panel(y: Any) -> Any:
    """Scratch for some rows of y and for their transpose."""
    width = padded(y.shape[2], y.itemsize)
    return np.zeros((_PANEL, width), y.dtype), np.empty((width, _PANEL), y.dtype), np.empty(POSITIONS, np.int64)


@inlined
def _make_rows(x: Any, blocks: Any) -> Any:
    """Scratch for one block of rows."""
    return np.zeros((-(-x.shape[1] // blocks), padded(x.shape[2], x.itemsize)), x.dtype)


@compiled
def _l1(begin: Any, end: Any, x: Any, y: Any, out: Any, blocks: Any) -> None:
    rows, right, positions = _make_panel(y)
    others = y.shape[1]
    for item in range(begin, end):
        b, first, last = span(item, blocks, x.shape[1])
        for s in range(0, others, _PANEL):
            read(y, b, s, min(s + _PANEL, others), rows)
            transpose(rows, right)
            _absolute(x[b, first:last, :], right, out[b, first:last, s : s + _PANEL], FRESH, positions)


@compiled
def _sqeuclidean(begin: Any, end: Any, x: Any, y: Any, out: Any, blocks: Any) -> None:
    rows, right, positions = _make_panel(y)
    others = y.shape[1]
    for item in range(begin, end):
        b, first, last = span(item, blocks, x.shape[1])
        for s in range(0, others, _PANEL):
            read(y, b, s, min(s + _PANEL, others), rows)
            transpose(rows, right)
            _square(x[b, first:last, :], right, out[b, first:last, s : s + _PANEL], FRESH, positions)


@compiled
def _cosine(begin: Any, end: Any, x: Any, y: Any, eps: Any, out: Any, blocks: Any) -> None:
    rows, right, positions = _make_panel(y)
    inverse = np.empty(_PANEL, y.dtype)
    others = y.shape[1]
    for item in range(begin, end):
        b, first, last = span(item, blocks, x.shape[1])
        for s in range(0, others, _PANEL):
            read_unit(y, b, s, min(s + _PANEL, others), eps, rows, inverse)
            transpose(rows, right)
            multiply(x[b, first:last, :], right, out[b, first:last, s : s + _PANEL], FRESH, positions)
        for i in range(first, last):
            own, row = inverse_norm(x[b, i], eps), out[b, i]
            for j in range(others):
                row[j] *= own


@inlined
def _pairing(g: Any, b: Any, first: Any, last: Any, j: Any, end: Any, swapped: Any) -> Any:
    """G_ij for rows first .. last against the others j .. end; `swapped` if g has the others first."""
    return g[b, j:end, first:last].T if swapped else g[b, first:last, j:end]


@compiled
def _laplacian(begin: Any, end: Any, g: Any, x: Any, y: Any, swapped: Any, out: Any, blocks: Any) -> None:
    """out_i = 2 sum_j G_ij (x_i - y_j), as matrix products of rows less the first y, which loses no digits."""
    (_, rows, dim), others = x.shape, y.shape[1]
    ys = np.empty((_DEPTH, padded(dim, x.itemsize)), x.dtype)
    totals, two = np.empty(rows, x.dtype), x.dtype.type(2)
    positions = np.empty(POSITIONS, np.int64)
    for item in range(begin, end):
        b, first, last = span(item, blocks, rows)
        totals[:] = 0
        for j in range(0, others, _DEPTH):
            n = min(_DEPTH, others - j)
            read_less(y, b, j, j + n, y[b, 0], ys)
            pairing = _pairing(g, b, first, last, j, j + n, swapped)
            multiply(pairing, ys, out[b, first:last, :], j > 0, positions)
            for i in range(last - first):
                for k in range(n):
                    totals[i] += pairing[i, k]
        for i in range(last - first):
            to, row = out[b, first + i], x[b, first + i]
            for d in range(dim):
                to[d] = two * (totals[i] * (row[d] - y[b, 0, d]) - to[d])


@compiled
def _signs(begin: Any, end: Any, g: Any, x: Any, y: Any, swapped: Any, out: Any, blocks: Any) -> None:
    """out_i = sum_j G_ij sign(x_i - y_j)."""
    (_, rows, dim), others = x.shape, y.shape[1]
    zero = x.dtype.type(0)
    for item in range(begin, end):
        b, first, last = span(item, blocks, rows)
        for i in range(first, last):
            row, to = x[b, i], out[b, i]
            to[:] = 0
            for j in range(others):
                up = g[b, j, i] if swapped else g[b, i, j]
                other = y[b, j]
                for d in range(dim):
                    to[d] += up if row[d] > other[d] else (-up if row[d] < other[d] else zero)


@compiled
def _cosine_side(begin: Any, end: Any, g: Any, x: Any, y: Any, swapped: Any, eps: Any, out: Any, blocks: Any) -> None:
    """out_i = P_x(sum_j G_ij y_j) with y of unit length."""
    (_, rows, dim), others = x.shape, y.shape[1]
    xs, ys = _make_rows(x, blocks), np.empty((_DEPTH, padded(dim, x.itemsize)), x.dtype)
    inverse = np.empty(max(len(xs), _DEPTH), x.dtype)
    positions = np.empty(POSITIONS, np.int64)
    for item in range(begin, end):
        b, first, last = span(item, blocks, rows)
        for j in range(0, others, _DEPTH):
            n = min(_DEPTH, others - j)
            read_unit(y, b, j, j + n, eps, ys, inverse)
            pairing = _pairing(g, b, first, last, j, j + n, swapped)
            multiply(pairing, ys, out[b, first:last, :], j > 0, positions)
        read_unit(x, b, first, last, eps, xs, inverse)
        project(xs, inverse, out, b, first, last)


@compiled
def _cosine_side2(
    begin: Any, end: Any, u: Any, v: Any, g: Any, x: Any, y: Any, swapped: Any, eps: Any, out: Any, blocks: Any
) -> None:
    """out_i = P_x(sum_j G_ij P_y(v_j)) + H_x(sum_j G_ij y_j, u_i) with y of unit length."""
    (_, rows, dim), others = x.shape, y.shape[1]
    width = padded(dim, x.itemsize)
    xs, firsts = _make_rows(x, blocks), _make_rows(x, blocks)
    ys, vs = np.zeros((_DEPTH, width), x.dtype), np.zeros((_DEPTH, width), x.dtype)
    inverse = np.empty(max(len(xs), _DEPTH), x.dtype)
    positions = np.empty(POSITIONS, np.int64)
    for item in range(begin, end):
        b, first, last = span(item, blocks, rows)
        for j in range(0, others, _DEPTH):
            n = min(_DEPTH, others - j)
            read_unit(y, b, j, j + n, eps, ys, inverse)
            read_projected(v, b, j, j + n, ys, inverse, vs)
            pairing = _pairing(g, b, first, last, j, j + n, swapped)
            multiply(pairing, vs, out[b, first:last, :], j > 0, positions)
            multiply(pairing, ys, firsts[: last - first, :dim], j > 0, positions)
        read_unit(x, b, first, last, eps, xs, inverse)
        project(xs, inverse, out, b, first, last)
        curve(xs, inverse, firsts, u, b, first, last, out, b)


@compiled
def _sign_products(begin: Any, end: Any, u: Any, v: Any, x: Any, y: Any, out: Any, blocks: Any) -> None:
    """out_ij = sum_d sign(x_id - y_jd) (u_id - v_jd)."""
    rows, ys, _ = _make_panel(y)
    vs = np.empty_like(ys)
    (dim, others), zero = (y.shape[2], y.shape[1]), y.dtype.type(0)
    total = np.empty(_PANEL, y.dtype)
    for item in range(begin, end):
        b, first, last = span(item, blocks, x.shape[1])
        for s in range(0, others, _PANEL):
            n = min(_PANEL, others - s)
            read(y, b, s, s + n, rows)
            transpose(rows, ys)
            read(v, b, s, s + n, rows)
            transpose(rows, vs)
            for i in range(first, last):
                total[:] = 0
                for d in range(dim):
                    a, t = x[b, i, d], u[b, i, d]
                    for j in range(_PANEL):
                        change = t - vs[d, j]
                        total[j] += change if a > ys[d, j] else (-change if a < ys[d, j] else zero)
                for j in range(n):
                    out[b, i, s + j] = total[j]


@compiled
def _products_of_differences(
    begin: Any, end: Any, u: Any, v: Any, x: Any, y: Any, factor: Any, out: Any, blocks: Any
) -> None:
    """out_ij = factor (x_i - y_j).(u_i - v_j), expanded after taking the first y and the first v from all."""
    (_, rows, dim), others = x.shape, y.shape[1]
    xs, us = _make_rows(x, blocks), _make_rows(x, blocks)
    ys, ys_t, positions = _make_panel(y)
    vs, vs_t, _ = _make_panel(y)
    inner = np.empty(_PANEL, y.dtype)
    for item in range(begin, end):
        b, first, last = span(item, blocks, rows)
        count = last - first
        read_less(x, b, first, last, y[b, 0], xs)
        read_less(u, b, first, last, v[b, 0], us)
        for s in range(0, others, _PANEL):
            n = min(_PANEL, others - s)
            read_less(y, b, s, s + n, y[b, 0], ys)
            read_less(v, b, s, s + n, v[b, 0], vs)
            transpose(ys, ys_t)
            transpose(vs, vs_t)
            multiply(us[:count, :dim], ys_t, out[b, first:last, s : s + n], FRESH, positions)
            multiply(xs[:count, :dim], vs_t, out[b, first:last, s : s + n], ONTO, positions)
            for j in range(n):
                inner[j] = dot(ys[j], vs[j])
            for i in range(count):
                own, row = dot(xs[i], us[i]), out[b, first + i]
                for j in range(n):
                    row[s + j] = factor * (own + inner[j] - row[s + j])


@compiled
def _cosine_products(begin: Any, end: Any, u: Any, v: Any, x: Any, y: Any, eps: Any, out: Any, blocks: Any) -> None:
    """out_ij = P_x(u_i).y_j + x_i.P_y(v_j) with x and y of unit length."""
    (_, rows, dim), others = x.shape, y.shape[1]
    xs, us = _make_rows(x, blocks), _make_rows(x, blocks)
    ys, ys_t, positions = _make_panel(y)
    vs, vs_t, _ = _make_panel(y)
    inverse = np.empty(max(len(xs), _PANEL), y.dtype)
    for item in range(begin, end):
        b, first, last = span(item, blocks, rows)
        count = last - first
        read_unit(x, b, first, last, eps, xs, inverse)
        read_projected(u, b, first, last, xs, inverse, us)
        for s in range(0, others, _PANEL):
            n = min(_PANEL, others - s)
            read_unit(y, b, s, s + n, eps, ys, inverse)
            read_projected(v, b, s, s + n, ys, inverse, vs)
            transpose(ys, ys_t)
            transpose(vs, vs_t)
            multiply(us[:count, :dim], ys_t, out[b, first:last, s : s + n], FRESH, positions)
            multiply(xs[:count, :dim], vs_t, out[b, first:last, s : s + n], ONTO, positions)


def _table(kernel: Any, x: Array, y: Array, *arguments: Any, before: tuple[Array, ...] = ()) -> Array:
    """The array over pairs that `kernel(begin, end, *before, x, y, *arguments, out, blocks)` fills."""
    (batch, rows, dim), others = x.shape, y.shape[1]
    out = np.empty((batch, rows, others), x.dtype)
    if out.size:
        blocks = blocks_of(batch, rows)
        work = 2 * out.size * dim * (1 + len(before)) / PACE
        launch.parallel(kernel, batch * blocks, work, *before, x, y, *arguments, out, blocks)
    return out


def _sides(
    kernel: Any, g: Array, x: Array, y: Array, *arguments: Any, along: tuple[Array, ...] = ()
) -> tuple[Array, Array]:
    """The gradients for x and y: `kernel(begin, end, *along, g, x, y, swapped, *arguments, out, blocks)` fills each."""
    results = []
    for swapped in (False, True):
        if swapped:
            x, y, along = y, x, along[::-1]
        (batch, rows, dim) = x.shape
        out = np.empty_like(x) if g.size else np.zeros_like(x)
        if g.size:
            blocks = blocks_of(batch, rows)
            work = 2 * g.size * dim * (1 + len(along)) / PACE
            launch.parallel(kernel, batch * blocks, work, *along, g, x, y, swapped, *arguments, out, blocks)
        results.append(out)
    return results[0], results[1]


@register("l1", "numba", launch.refuses)
def l1(x: Array, y: Array) -> Array:
    """Manhattan distances, (B, Q, D), (B, S, D) -> (B, Q, S)."""
    return _table(_l1, *launch.contiguous(x, y))


@register("l1_vjp", "numba", launch.refuses)
def l1_vjp(g: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """Gradients of `l1` for x and y."""
    return _sides(_signs, *launch.contiguous(g, x, y))


@register("l1_vjp2", "numba", launch.refuses)
def l1_vjp2(cotangents: tuple[Array, Array], g: Array, x: Array, y: Array) -> tuple[Array, Array, Array]:
    """Gradients of `l1_vjp` for g, x and y; those for x and y are zero."""
    u, v, x, y = launch.contiguous(*cotangents, x, y)
    return _table(_sign_products, x, y, before=(u, v)), np.zeros_like(x), np.zeros_like(y)


@register("sqeuclidean", "numba", launch.refuses)
def sqeuclidean(x: Array, y: Array) -> Array:
    """Squared Euclidean distances, (B, Q, D), (B, S, D) -> (B, Q, S)."""
    return _table(_sqeuclidean, *launch.contiguous(x, y))


@register("sqeuclidean_vjp", "numba", launch.refuses)
def sqeuclidean_vjp(g: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """Gradients of `sqeuclidean` for x and y."""
    return _sides(_laplacian, *launch.contiguous(g, x, y))


@register("sqeuclidean_vjp2", "numba", launch.refuses)
def sqeuclidean_vjp2(cotangents: tuple[Array, Array], g: Array, x: Array, y: Array) -> tuple[Array, Array, Array]:
    """Gradients of `sqeuclidean_vjp` for g, x and y."""
    u, v, g, x, y = launch.contiguous(*cotangents, g, x, y)
    of_g = _table(_products_of_differences, x, y, x.dtype.type(2), before=(u, v))
    return (of_g, *_sides(_laplacian, g, u, v))


@register("euclidean", "numba", launch.refuses)
def euclidean(x: Array, y: Array) -> Array:
    """Euclidean distances, (B, Q, D), (B, S, D) -> (B, Q, S)."""
    squares: Array = sqeuclidean(x, y)
    np.sqrt(squares, out=squares)
    return squares


@register("euclidean_vjp", "numba", launch.refuses)
def euclidean_vjp(g: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """Gradients of `euclidean` for x and y; nothing from pairs that coincide."""
    g, x, y = launch.contiguous(g, x, y)
    return _sides(_laplacian, g * _reciprocal(euclidean(x, y)) / 2, x, y)


@register("euclidean_vjp2", "numba", launch.refuses)
def euclidean_vjp2(cotangents: tuple[Array, Array], g: Array, x: Array, y: Array) -> tuple[Array, Array, Array]:
    """Gradients of `euclidean_vjp` for g, x and y; nothing from pairs that coincide."""
    u, v, g, x, y = launch.contiguous(*cotangents, g, x, y)
    per_distance = _reciprocal(euclidean(x, y))
    of_g = _table(_products_of_differences, x, y, x.dtype.type(1), before=(u, v)) * per_distance
    along = _sides(_laplacian, g * per_distance / 2, u, v)
    across = _sides(_laplacian, g * of_g * per_distance**2 / 2, x, y)
    return of_g, along[0] - across[0], along[1] - across[1]


def _reciprocal(d: Array) -> Array:
    """1 / d, and 0 where d is 0."""
    inverse: Array = np.divide(1, d, out=np.zeros_like(d), where=d != 0)
    return inverse


@register("cosine", "numba", launch.refuses)
def cosine(x: Array, y: Array, eps: float = 1e-8) -> Array:
    """Cosine similarities, (B, Q, D), (B, S, D) -> (B, Q, S)."""
    x, y = launch.contiguous(x, y)
    return _table(_cosine, x, y, x.dtype.type(eps))


@register("cosine_vjp", "numba", launch.refuses)
def cosine_vjp(g: Array, x: Array, y: Array, eps: float = 1e-8) -> tuple[Array, Array]:
    """Gradients of `cosine` for x and y."""
    g, x, y = launch.contiguous(g, x, y)
    return _sides(_cosine_side, g, x, y, x.dtype.type(eps))


@register("cosine_vjp2", "numba", launch.refuses)
def cosine_vjp2(
    cotangents: tuple[Array, Array], g: Array, x: Array, y: Array, eps: float = 1e-8
) -> tuple[Array, Array, Array]:
    """Gradients of `cosine_vjp` for g, x and y."""
    u, v, g, x, y = launch.contiguous(*cotangents, g, x, y)
    smooth = x.dtype.type(eps)
    of_g = _table(_cosine_products, x, y, smooth, before=(u, v))
    return (of_g, *_sides(_cosine_side2, g, x, y, smooth, along=(u, v)))
