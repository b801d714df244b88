"""Batch norm and ReLU: every channel of a task on its own, so that a block of channels is read from memory once.

Arguments and equations: minimeta_kernels.reference.norm_relu. A block goes down the rows of its task twice: for its
sums, and, while the rows are still in the cache, for its results. Threads have different blocks; none cuts a sum.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minimeta_kernels import launch
from minimeta_kernels.numba_cpu import batch_norm
from minimeta_kernels.numba_cpu.compiled import compiled, inlined
from minimeta_kernels.numba_cpu.target import TARGET
from minimeta_kernels.numba_cpu.vector import (
    HALF,
    WIDE,
    ahead,
    data,
    full,
    half,
    load_some,
    place,
    select,
    sqrt,
    store_some,
    wide,
    zeros,
)
from minimeta_kernels.reference.norm_relu import NormRelu
from minimeta_kernels.registry import register

_BYTES = TARGET.vector_bytes
_first_order, _second_order = inlined(batch_norm.first_order), inlined(batch_norm.second_order)

#: Rows whose sum is made on its own, for the digits.
_ROWS = 64


@register("norm_relu", "numba", launch.refuses)
def norm_relu(x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5) -> NormRelu:
    """x [T, M, C], gamma and beta [T, C] -> [T, M, C], statistics [T, C]."""
    x, gamma, beta = launch.contiguous(x, gamma, beta)
    y, mean, var = np.empty_like(x), np.empty_like(gamma), np.empty_like(gamma)
    launch.parallel(_normalise, _blocks(x), 2 * x.size, x, gamma, beta, x.dtype.type(eps), y, mean, var)
    return NormRelu(y, mean, var)


@register("norm_relu_vjp", "numba", launch.refuses)
def norm_relu_vjp(
    g: Any, mean: Any, var: Any, x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5
) -> tuple[Any, Any, Any]:
    """The gradients of x, gamma and beta."""
    arrays = launch.contiguous(x, mean, var, gamma, beta, g)
    found = tuple(map(np.empty_like, (arrays[0], arrays[3], arrays[4])))
    launch.parallel(_spread, _blocks(arrays[0]), 2 * x.size, *arrays, arrays[0].dtype.type(eps), *found)
    return found


@register("norm_relu_vjp2", "numba", launch.refuses)
def norm_relu_vjp2(
    cotangents: tuple[Any, Any, Any], g: Any, mean: Any, var: Any, x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5
) -> tuple[Any, Any, Any]:
    """The gradients of g, x and gamma (that of beta is zero) for cotangents of the three gradients."""
    arrays = launch.contiguous(x, mean, var, gamma, beta, g, *cotangents)
    found = tuple(map(np.empty_like, (arrays[5], arrays[0], arrays[3])))
    launch.parallel(_combine, _blocks(arrays[0]), 4 * x.size, *arrays, arrays[0].dtype.type(eps), *found)
    return found


def _blocks(x: Any) -> int:
    tasks, _, channels = x.shape
    return int(tasks * -(-channels // (WIDE * _BYTES // x.itemsize)))


@inlined
def _each_block(block: Any, begin: int, end: int, x: Any, *arrays: Any) -> None:
    """Call block(like, n, t, c, x, ...) for `n` channels of task t from c on, in vectors as wide as `like` says."""
    channels, lanes = x.shape[2], _BYTES // x.itemsize
    blocks = -(-channels // (WIDE * lanes))
    for item in range(begin, end):
        t, c = item // blocks, item % blocks * WIDE * lanes
        if channels - c >= WIDE * lanes:
            block(wide(data(x)), WIDE * lanes, t, c, x, *arrays)
        else:
            if channels - c >= HALF * lanes:
                block(half(data(x)), HALF * lanes, t, c, x, *arrays)
                c += HALF * lanes
            for rest in range(c, channels, lanes):
                block(data(x), channels - rest, t, rest, x, *arrays)


@compiled
def _normalise(
    begin: int, end: int, x: Any, gamma: Any, beta: Any, eps: Any, y: Any, mean: Any, var: Any
) -> None:
    _each_block(_normalise_block, begin, end, x, gamma, beta, eps, y, mean, var)


@inlined
def _normalise_block(
    like: Any, n: int, t: int, c: int, x: Any, gamma: Any, beta: Any, eps: Any, y: Any, mean: Any, var: Any
) -> None:
    _, rows, channels = x.shape
    of, at = t * channels + c, t * rows * channels + c
    pixel, result = place(like, x, at), place(like, y, at)
    middle, spread = _moments(pixel, rows, channels, n)
    store_some(place(like, mean, of), 0, middle, n)
    store_some(place(like, var, of), 0, spread, n)
    middle, _, k, shift = _affine(like, n, of, mean, var, gamma, beta, eps)
    for p in range(0, rows * channels, channels):
        z = (load_some(pixel, p, n) - middle) * k + shift
        store_some(result, p, select(z < zeros(like), zeros(like), z), n)  # NaN stays NaN


@inlined
def _moments(x: Any, rows: int, channels: int, n: int) -> Any:
    """Mean and (biased) variance, merged from those of parts of the rows; see norm_relu_pool.merge."""
    mean, squares = zeros(x), zeros(x)
    for first in range(0, rows, _ROWS):
        here = min(_ROWS, rows - first)
        chunk = ahead(x, first * channels)
        origin = load_some(chunk, 0, n)
        total, total_squares = zeros(x), zeros(x)
        for p in range(0, here * channels, channels):
            d = load_some(chunk, p, n) - origin
            total, total_squares = total + d, total_squares + d * d
        shift, share = total / full(x, here), here / (first + here)
        step = origin + shift - mean
        mean = mean + step * full(x, share)
        squares = squares + (total_squares - total * shift + step * step * full(x, first * share))
    return mean, squares / full(x, rows)


@inlined
def _affine(like: Any, n: int, of: int, mean: Any, var: Any, gamma: Any, beta: Any, eps: Any) -> Any:
    """mean, r, k = gamma r and beta of the channels."""
    r = full(like, 1) / sqrt(load_some(place(like, var, of), 0, n) + full(like, eps))
    k = load_some(place(like, gamma, of), 0, n) * r
    return load_some(place(like, mean, of), 0, n), r, k, load_some(place(like, beta, of), 0, n)


@inlined
def _alive(d: Any, k: Any, beta: Any, g: Any, p: int, n: int) -> Any:
    """g of a pixel that is d above the mean, zero where ReLU is."""
    return select(d * k + beta > zeros(g), load_some(g, p, n), zeros(g))


@compiled
def _spread(
    begin: int, end: int, x: Any, mean: Any, var: Any, gamma: Any, beta: Any, g: Any, eps: Any, gx: Any, g_gamma: Any,
    g_beta: Any,
) -> None:  # fmt: skip
    _each_block(_spread_block, begin, end, x, mean, var, gamma, beta, g, eps, gx, g_gamma, g_beta)


@inlined
def _spread_block(
    like: Any, n: int, t: int, c: int, x: Any, mean: Any, var: Any, gamma: Any, beta: Any, g: Any, eps: Any, gx: Any,
    g_gamma: Any, g_beta: Any,
) -> None:  # fmt: skip
    """gx = k g + level + slope d, where g is zero where ReLU is."""
    _, rows, channels = x.shape
    of, at = t * channels + c, t * rows * channels + c
    pixel, pull, result = place(like, x, at), place(like, g, at), place(like, gx, at)
    middle, r, k, shift = _affine(like, n, of, mean, var, gamma, beta, eps)
    total_g, total_gd = zeros(like), zeros(like)
    for first in range(0, rows, _ROWS):
        some_g, some_gd = zeros(like), zeros(like)
        for p in range(first * channels, min(first + _ROWS, rows) * channels, channels):
            d = load_some(pixel, p, n) - middle
            alive = _alive(d, k, shift, pull, p, n)
            some_g, some_gd = some_g + alive, some_gd + alive * d
        total_g, total_gd = total_g + some_g, total_gd + some_gd
    of_gamma, level, slope = _first_order(total_g, total_gd, k, r, full(like, rows))
    store_some(place(like, g_gamma, of), 0, of_gamma, n)
    store_some(place(like, g_beta, of), 0, total_g, n)
    for p in range(0, rows * channels, channels):
        d = load_some(pixel, p, n) - middle
        store_some(result, p, _alive(d, k, shift, pull, p, n) * k + (d * slope + level), n)


@compiled
def _combine(
    begin: int, end: int, x: Any, mean: Any, var: Any, gamma: Any, beta: Any, g: Any, u: Any, u_gamma: Any, u_beta: Any,
    eps: Any, gg: Any, gx: Any, g_gamma: Any,
) -> None:  # fmt: skip
    _each_block(
        _combine_block, begin, end, x, mean, var, gamma, beta, g, u, u_gamma, u_beta, eps, gg, gx, g_gamma
    )


@inlined
def _combine_block(
    like: Any, n: int, t: int, c: int, x: Any, mean: Any, var: Any, gamma: Any, beta: Any, g: Any, u: Any, u_gamma: Any,
    u_beta: Any, eps: Any, gg: Any, gx: Any, g_gamma: Any,
) -> None:  # fmt: skip
    """gg = k U + gg_x d + gg_1 where ReLU is not zero, gx = gx_g g + gx_u U + gx_x d + gx_1."""
    _, rows, channels = x.shape
    of, at = t * channels + c, t * rows * channels + c
    pixel, pull, turn = place(like, x, at), place(like, g, at), place(like, u, at)
    gg_at, gx_at = place(like, gg, at), place(like, gx, at)
    middle, r, k, shift = _affine(like, n, of, mean, var, gamma, beta, eps)
    sums = zeros(like), zeros(like), zeros(like), zeros(like), zeros(like)
    for first in range(0, rows, _ROWS):
        some = zeros(like), zeros(like), zeros(like), zeros(like), zeros(like)
        for p in range(first * channels, min(first + _ROWS, rows) * channels, channels):
            d, v = load_some(pixel, p, n) - middle, load_some(turn, p, n)
            alive = _alive(d, k, shift, pull, p, n)
            some = some[0] + alive, some[1] + alive * d, some[2] + v, some[3] + v * d, some[4] + alive * v
        sums = sums[0] + some[0], sums[1] + some[1], sums[2] + some[2], sums[3] + some[3], sums[4] + some[4]
    toward_gamma, toward_beta = load_some(place(like, u_gamma, of), 0, n), load_some(place(like, u_beta, of), 0, n)
    of_gamma, gg_x, gg_1, gx_g, gx_u, gx_x, gx_1 = _second_order(
        sums, k, r, toward_gamma, toward_beta, full(like, rows)
    )
    store_some(place(like, g_gamma, of), 0, of_gamma, n)
    for p in range(0, rows * channels, channels):
        d, v = load_some(pixel, p, n) - middle, load_some(turn, p, n)
        pulled = select(d * k + shift > zeros(like), k * v + (gg_x * d + gg_1), zeros(like))
        store_some(gg_at, p, pulled, n)
        store_some(gx_at, p, gx_g * _alive(d, k, shift, pull, p, n) + gx_u * v + (gx_x * d + gx_1), n)
