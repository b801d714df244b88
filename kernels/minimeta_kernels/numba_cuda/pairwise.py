"""Squared and Manhattan distances: one thread a pair, rows of both through shared memory. See reference/pairwise.py."""

from __future__ import annotations

import functools
from typing import Any

from minimeta_kernels.numba_cuda.launch import SIDE, compiled, cuda, device, entry, number, run
from minimeta_kernels.reference.modules import array_module


@device
def _square(x: Any, y: Any) -> Any:
    return (x - y) * (x - y)


@device
def _square_slope(x: Any, y: Any) -> Any:
    return 2 * (x - y)


@device
def _absolute(x: Any, y: Any) -> Any:
    return abs(x - y)


@device
def _absolute_slope(x: Any, y: Any) -> Any:
    return 1 if x > y else (-1 if x < y else 0)


@functools.cache
def _distances(dtype: Any, term: Any) -> Any:
    kind = number(dtype)

    @compiled
    def kernel(x: Any, y: Any, out: Any) -> None:
        # x [B, Q, D], y [B, S, D]; a block has SIDE x SIDE pairs, and SIDE coordinates of their rows at a time
        xs = cuda.shared.array((SIDE, SIDE), kind)
        ys = cuda.shared.array((SIDE, SIDE), kind)
        across, down, b = cuda.threadIdx.x, cuda.threadIdx.y, cuda.blockIdx.z
        q, s = cuda.blockIdx.y * SIDE + down, cuda.blockIdx.x * SIDE + across
        row_of_y = cuda.blockIdx.x * SIDE + down
        total = kind(0)
        for first in range(0, x.shape[2], SIDE):
            d = first + across
            xs[down, across] = x[b, q, d] if q < x.shape[1] and d < x.shape[2] else 0
            ys[down, across] = y[b, row_of_y, d] if row_of_y < y.shape[1] and d < x.shape[2] else 0
            cuda.syncthreads()  # both are there
            for k in range(SIDE):
                total += term(xs[down, k], ys[across, k])
            cuda.syncthreads()  # nobody needs them any more
        if q < x.shape[1] and s < y.shape[1]:
            out[b, q, s] = total

    return kernel


@functools.cache
def _pulls(slope: Any) -> Any:
    @compiled
    def kernel(g: Any, x: Any, y: Any, to_x: Any) -> None:
        # one thread a coordinate of a row of x: it goes through all rows of y
        d, q, b = cuda.grid(3)
        if d < x.shape[2] and q < x.shape[1]:
            total = x[b, q, d] * 0
            for s in range(y.shape[1]):
                total += g[b, q, s] * slope(x[b, q, d], y[b, s, d])
            to_x[b, q, d] = total

    return kernel


def _forward(term: Any, x: Any, y: Any) -> Any:
    out = array_module(x).empty((len(x), x.shape[1], y.shape[1]), x.dtype)
    grid = (-(-y.shape[1] // SIDE), -(-x.shape[1] // SIDE), len(x))
    run(_distances(x.dtype, term), grid, (SIDE, SIDE, 1), x, y, out)
    return out


def _backward(slope: Any, g: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """The gradient by y is that by x of the exchanged problem."""
    xp = array_module(x)
    to_x, to_y, turned = xp.empty_like(x), xp.empty_like(y), xp.ascontiguousarray(xp.swapaxes(g, 1, 2))
    for cotangent, one, other, to in ((g, x, y, to_x), (turned, y, x, to_y)):
        grid = (-(-one.shape[2] // SIDE), -(-one.shape[1] // SIDE), len(one))
        run(_pulls(slope), grid, (SIDE, SIDE, 1), cotangent, one, other, to)
    return to_x, to_y


@entry("sqeuclidean")
def sqeuclidean(x: Any, y: Any) -> Any:
    """[B, Q, D], [B, S, D] -> [B, Q, S]."""
    return _forward(_square, x, y)


@entry("sqeuclidean_vjp")
def sqeuclidean_vjp(g: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """The gradients by x and y."""
    return _backward(_square_slope, g, x, y)


@entry("l1")
def l1(x: Any, y: Any) -> Any:
    """[B, Q, D], [B, S, D] -> [B, Q, S]."""
    return _forward(_absolute, x, y)


@entry("l1_vjp")
def l1_vjp(g: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """The gradients by x and y, with sign(0) = 0."""
    return _backward(_absolute_slope, g, x, y)
