"""A perceptron for each task, on a few examples: what a task needs stays in the first caches through all its layers.

Every product is one of small matrices whose right one has rows of whole vectors, so weights are copied into scratch
memory, as they are for the way forward, and turned for the way back.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minimeta_kernels import launch
from minimeta_kernels.numba_cpu.compiled import compiled, inlined
from minimeta_kernels.numba_cpu.product import FRESH, ONTO, POSITIONS, apart, multiply, padded, transpose
from minimeta_kernels.numba_cpu.tile import PACE
from minimeta_kernels.registry import register


@register("task_mlp", "numba", launch.refuses)
def task_mlp(x: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any) -> Any:
    """x [T, N, D], w1 [T, D, H1], b1 [T, H1], w2 [T, H1, H2], b2 [T, H2], w3 [T, H2, O], b3 [T, O] -> y [T, N, O]."""
    arrays = launch.contiguous(x, w1, b1, w2, b2, w3, b3)
    y = np.empty((*x.shape[:2], b3.shape[1]), arrays[0].dtype)
    launch.parallel(_mlp, len(x), _work(*arrays), *arrays, y)
    return y


@register("task_mlp_vjp", "numba", launch.refuses)
def task_mlp_vjp(g: Any, x: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any) -> tuple[Any, ...]:
    """The gradients by x and all weights for the cotangent of y."""
    g, *arrays = launch.contiguous(g, x, w1, b1, w2, b2, w3, b3)
    found = tuple(map(np.empty_like, arrays))
    launch.parallel(_mlp_vjp, len(x), 3 * _work(*arrays), g, *arrays, *found)
    return found


@register("task_mlp_vjp2", "numba", launch.refuses)
def task_mlp_vjp2(
    cotangents: tuple[Any, ...], g: Any, x: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any
) -> tuple[Any, ...]:
    """The gradients by g, x and all weights for the cotangents of all that the derivative gives."""
    *directions, g, x, w1, b1, w2, b2, w3, b3 = launch.contiguous(*cotangents, g, x, w1, b1, w2, b2, w3, b3)
    found = tuple(map(np.empty_like, (g, x, w1, b1, w2, b2, w3)))
    work = 6 * _work(x, w1, b1, w2, b2, w3, b3)
    launch.parallel(_mlp_vjp2, len(x), work, *directions, g, x, w1, b1, w2, b2, w3, *found)
    return (*found, np.zeros_like(b3))  # b3 only moves y


def _work(x: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any) -> float:
    """About what one pass forward takes."""
    return float(x.shape[1] * 2 * (w1.size + w2.size + w3.size) / PACE)


@compiled
def _mlp(begin: Any, end: Any, x: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any, y: Any) -> None:
    (_, n, d), h1, h2, o = x.shape, b1.shape[1], b2.shape[1], b3.shape[1]
    positions = np.empty(POSITIONS, np.int64)
    below, first, second, out = _room(n, d, x), _room(n, h1, x), _room(n, h2, x), _room(n, o, x)
    z1, z2 = np.zeros_like(first), np.zeros_like(second)
    by1, by2, by3 = _weights(d, h1, x), _weights(h1, h2, x), _weights(h2, o, x)
    for t in range(begin, end):
        _copy(x[t], below)
        for w, by in ((w1, by1), (w2, by2), (w3, by3)):
            _copy(w[t], by)
        _hidden(below[:, :d], by1, b1[t], z1, first, by2, b2[t], z2, second, positions)
        _affine(second[:, :h2], by3, b3[t], out, positions)
        _copy(out[:, :o], y[t])


@compiled
def _mlp_vjp(
    begin: Any, end: Any, g: Any, x: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any,
    to_x: Any, to_w1: Any, to_b1: Any, to_w2: Any, to_b2: Any, to_w3: Any, to_b3: Any,
) -> None:  # fmt: skip
    (_, n, d), h1, h2, o = x.shape, b1.shape[1], b2.shape[1], b3.shape[1]
    positions = np.empty(POSITIONS, np.int64)
    below, first, second, above = _room(n, d, x), _room(n, h1, x), _room(n, h2, x), _room(n, o, x)
    g1, g2, to_below = _room(n, h1, x), _room(n, h2, x), _room(n, d, x)
    z1, z2 = np.zeros_like(first), np.zeros_like(second)
    by1, by2, by3 = _weights(d, h1, x), _weights(h1, h2, x), _weights(h2, o, x)
    back1, back2, back3 = _weights(h1, d, x), _weights(h2, h1, x), _weights(o, h2, x)
    for t in range(begin, end):
        _copy(x[t], below)
        _copy(g[t], above)
        for w, by, back in ((w1, by1, back1), (w2, by2, back2), (w3, by3, back3)):
            _copy(w[t], by)
            transpose(by, back)
        _hidden(below[:, :d], by1, b1[t], z1, first, by2, b2[t], z2, second, positions)
        multiply(above[:, :o], back3, g2, FRESH, positions)
        _where_on(second, g2)
        multiply(g2[:, :h2], back2, g1, FRESH, positions)
        _where_on(first, g1)
        multiply(g1[:, :h1], back1, to_below, FRESH, positions)
        _copy(to_below[:, :d], to_x[t])
        multiply(below[:, :d].T, g1, to_w1[t], FRESH, positions)
        multiply(first[:, :h1].T, g2, to_w2[t], FRESH, positions)
        multiply(second[:, :h2].T, above, to_w3[t], FRESH, positions)
        _sum(g1, to_b1[t])
        _sum(g2, to_b2[t])
        _sum(above, to_b3[t])


@compiled
def _mlp_vjp2(
    begin: Any, end: Any, cx: Any, cw1: Any, cb1: Any, cw2: Any, cb2: Any, cw3: Any, cb3: Any,
    g: Any, x: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any,
    to_g: Any, to_x: Any, to_w1: Any, to_b1: Any, to_w2: Any, to_b2: Any, to_w3: Any,
) -> None:  # fmt: skip
    (_, n, d), h1, h2, o = x.shape, b1.shape[1], b2.shape[1], g.shape[2]
    positions = np.empty(POSITIONS, np.int64)
    below, first, second, above = _room(n, d, x), _room(n, h1, x), _room(n, h2, x), _room(n, o, x)
    dbelow, dfirst, dsecond, out = _room(n, d, x), _room(n, h1, x), _room(n, h2, x), _room(n, o, x)
    g1, g2, q1, q2, to_below = _room(n, h1, x), _room(n, h2, x), _room(n, h1, x), _room(n, h2, x), _room(n, d, x)
    z1, z2 = np.zeros_like(first), np.zeros_like(second)
    by1, by2, by3 = _weights(d, h1, x), _weights(h1, h2, x), _weights(h2, o, x)
    dby1, dby2, dby3 = np.zeros_like(by1), np.zeros_like(by2), np.zeros_like(by3)
    back1, back2, back3 = _weights(h1, d, x), _weights(h2, h1, x), _weights(o, h2, x)
    dback1, dback2, dback3 = np.zeros_like(back1), np.zeros_like(back2), np.zeros_like(back3)
    for t in range(begin, end):
        _copy(x[t], below)
        _copy(cx[t], dbelow)
        _copy(g[t], above)
        for w, by, back in (
            (w1, by1, back1), (w2, by2, back2), (w3, by3, back3),
            (cw1, dby1, dback1), (cw2, dby2, dback2), (cw3, dby3, dback3),
        ):  # fmt: skip
            _copy(w[t], by)
            transpose(by, back)
        # forward, and how it changes along the cotangents
        _hidden(below[:, :d], by1, b1[t], z1, first, by2, b2[t], z2, second, positions)
        _affine(below[:, :d], dby1, cb1[t], dfirst, positions)
        multiply(dbelow[:, :d], by1, dfirst, ONTO, positions)
        _where_on(first, dfirst)
        _affine(first[:, :h1], dby2, cb2[t], dsecond, positions)
        multiply(dfirst[:, :h1], by2, dsecond, ONTO, positions)
        _where_on(second, dsecond)
        _affine(second[:, :h2], dby3, cb3[t], out, positions)
        multiply(dsecond[:, :h2], by3, out, ONTO, positions)
        _copy(out[:, :o], to_g[t])
        # back, and how that changes
        multiply(above[:, :o], back3, g2, FRESH, positions)
        _where_on(second, g2)
        multiply(g2[:, :h2], back2, g1, FRESH, positions)
        _where_on(first, g1)
        multiply(above[:, :o], dback3, q2, FRESH, positions)
        _where_on(second, q2)
        multiply(g2[:, :h2], dback2, q1, FRESH, positions)
        multiply(q2[:, :h2], back2, q1, ONTO, positions)
        _where_on(first, q1)
        multiply(g1[:, :h1], dback1, to_below, FRESH, positions)
        multiply(q1[:, :h1], back1, to_below, ONTO, positions)
        _copy(to_below[:, :d], to_x[t])
        multiply(dbelow[:, :d].T, g1, to_w1[t], FRESH, positions)
        multiply(below[:, :d].T, q1, to_w1[t], ONTO, positions)
        multiply(dfirst[:, :h1].T, g2, to_w2[t], FRESH, positions)
        multiply(first[:, :h1].T, q2, to_w2[t], ONTO, positions)
        multiply(dsecond[:, :h2].T, above, to_w3[t], FRESH, positions)
        _sum(q1, to_b1[t])
        _sum(q2, to_b2[t])


@inlined
def _room(rows: Any, columns: Any, like: Any) -> Any:
    """A matrix of zeros with rows of whole vectors."""
    return np.zeros((rows, padded(columns, like.itemsize)), like.dtype)


@inlined
def _weights(rows: Any, columns: Any, like: Any) -> Any:
    """The same, of whole vectors either way, so that it can be turned in registers."""
    return _room(padded(rows, like.itemsize), columns, like)


@apart
def _copy(source: Any, target: Any) -> None:
    for i in range(source.shape[0]):
        for j in range(source.shape[1]):
            target[i, j] = source[i, j]


@apart
def _affine(x: Any, w: Any, b: Any, out: Any, positions: Any) -> None:
    """out = x w + b."""
    for i in range(len(out)):
        for j in range(len(b)):
            out[i, j] = b[j]
    multiply(x, w, out, ONTO, positions)


# Not in place, or LLVM makes stores under a mask of the selection, at which some processors are slow.


@apart
def _hidden(
    x: Any, w1: Any, b1: Any, z1: Any, h1: Any, w2: Any, b2: Any, z2: Any, h2: Any, positions: Any
) -> None:
    """h1 = relu(z1), z1 = x w1 + b1; h2 = relu(z2), z2 = h1 w2 + b2."""
    _affine(x, w1, b1, z1, positions)
    _relu(z1, h1)
    _affine(h1[:, : len(b1)], w2, b2, z2, positions)
    _relu(z2, h2)


@apart
def _relu(z: Any, h: Any) -> None:
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            h[i, j] = 0 if z[i, j] < 0 else z[i, j]  # NaN stays


@apart
def _where_on(h: Any, z: Any) -> None:
    """Zeros in z where a unit of h is off."""
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            z[i, j] = z[i, j] if h[i, j] > 0 else 0


@apart
def _sum(x: Any, out: Any) -> None:
    """The sums of the columns that count."""
    for j in range(len(out)):
        out[j] = 0
    for i in range(x.shape[0]):
        for j in range(len(out)):
            out[j] += x[i, j]
