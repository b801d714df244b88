"""Batch norm, ReLU and max-pool 2x2 on one image [H, W, C] in memory, a vector of channels at a time.

Pointers lead to the image, its pooled companions [H // 2, W // 2, C] and, as `of`, to what belongs to the task's
channels, [kinds, C]: mean, k = gamma r, beta and then whatever the pass needs. Equations: reference/norm_relu_pool.py.
Loops go through memory in order, channels innermost: what belongs to the channels is read from the first-level cache
again and again, which costs less than jumping. Every pass is written for `n` channels from c on, and compiled twice:
for whole vectors, without masks, and for the rest.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minimeta_kernels.numba_cpu.compiled import inlined
from minimeta_kernels.numba_cpu.target import TARGET
from minimeta_kernels.numba_cpu.vector import ahead, load, load_some, select, store, store_some, zeros

_BYTES = TARGET.vector_bytes


@inlined
def sums_like(rows: int, x: Any) -> Any:
    """Zeros for some sums per channel of x [..., C], each in whole vectors."""
    lanes = _BYTES // x.itemsize
    return np.zeros((rows, (x.shape[-1] + lanes - 1) // lanes * lanes), x.dtype)


@inlined
def _add(sums: Any, at: int, vector: Any) -> None:
    store(sums, at, load(sums, at) + vector)


@inlined
def _of(of: Any, channels: int, which: int, c: int, n: int) -> Any:
    return load_some(of, which * channels + c, n)


@inlined
def _first_left_over(row: int, height: int, width: int) -> int:
    """The first column of an image row that is in no window."""
    return width // 2 * 2 if row < height // 2 * 2 else 0


@inlined
def add_deviations(x: Any, pixels: int, channels: int, lanes: int, sums: Any, wide: int) -> None:
    """Sums of the deviations of an image's pixels from its first, and of their squares."""
    whole = channels // lanes * lanes
    for p in range(0, pixels * channels, channels):
        for c in range(0, whole, lanes):
            _add_deviation(ahead(x, p), x, sums, wide, c, lanes)
        if whole < channels:
            _add_deviation(ahead(x, p), x, sums, wide, whole, channels - whole)


@inlined
def _add_deviation(pixel: Any, origin: Any, sums: Any, wide: int, c: int, n: int) -> None:
    d = load_some(pixel, c, n) - load_some(origin, c, n)
    _add(sums, c, d)
    _add(sums, wide + c, d * d)


@inlined
def normalise(x: Any, height: int, width: int, channels: int, lanes: int, of: Any, pooled: Any, top: Any) -> None:
    """The winner of every window, and relu of its normalised value."""
    whole = channels // lanes * lanes
    out = 0
    for i in range(height // 2):
        for j in range(width // 2):
            corner = (2 * i * width + 2 * j) * channels
            for c in range(0, whole, lanes):
                _normalise(ahead(x, corner), width, channels, of, ahead(pooled, out), ahead(top, out), c, lanes)
            if whole < channels:
                _normalise(ahead(x, corner), width, channels, of, ahead(pooled, out), ahead(top, out), whole,
                           channels - whole)  # fmt: skip
            out += channels


@inlined
def _normalise(x: Any, width: int, channels: int, of: Any, pooled: Any, top: Any, c: int, n: int) -> None:
    winner, best = _winner(x, width, channels, of, c, n)
    store_some(top, c, winner, n)
    store_some(pooled, c, select(best < zeros(x), zeros(x), best), n)  # NaN stays NaN


@inlined
def _winner(x: Any, width: int, channels: int, of: Any, c: int, n: int) -> Any:
    """Of a window's pixels the one that is largest when normalised, of equals the first; and that value."""
    mean, k, beta = _of(of, channels, 0, c, n), _of(of, channels, 1, c, n), _of(of, channels, 2, c, n)
    winner = load_some(x, c, n)
    best = (winner - mean) * k + beta
    for q in range(1, 4):
        pixel = load_some(x, (q // 2 * width + q % 2) * channels + c, n)
        z = (pixel - mean) * k + beta
        better = z > best
        winner, best = select(better, pixel, winner), select(better, z, best)
    return winner, best


@inlined
def add_winners(g: Any, top: Any, windows: int, channels: int, lanes: int, of: Any, sums: Any, wide: int) -> None:
    """Sums of g and g (top - mean) over the windows that are alive."""
    whole = channels // lanes * lanes
    for p in range(0, windows * channels, channels):
        for c in range(0, whole, lanes):
            _add_winner(ahead(g, p), ahead(top, p), channels, of, sums, wide, c, lanes)
        if whole < channels:
            _add_winner(ahead(g, p), ahead(top, p), channels, of, sums, wide, whole, channels - whole)


@inlined
def _add_winner(g: Any, top: Any, channels: int, of: Any, sums: Any, wide: int, c: int, n: int) -> None:
    d = load_some(top, c, n) - _of(of, channels, 0, c, n)
    value = _alive(d, g, channels, of, c, n)
    _add(sums, c, value)
    _add(sums, wide + c, value * d)


@inlined
def _alive(d: Any, g: Any, channels: int, of: Any, c: int, n: int) -> Any:
    """g of a window whose winner is d above the mean, zero where ReLU is."""
    z = d * _of(of, channels, 1, c, n) + _of(of, channels, 2, c, n)
    return select(z > zeros(g), load_some(g, c, n), zeros(g))


@inlined
def spread(
    x: Any, height: int, width: int, channels: int, lanes: int, of: Any, g: Any, gx: Any
) -> None:
    """gx = k (g at the winners) + level + slope (x - mean); level and slope are rows 3 and 4 of `of`."""
    whole = channels // lanes * lanes
    pooled = 0
    for i in range(height // 2):
        for j in range(width // 2):
            corner = (2 * i * width + 2 * j) * channels
            for c in range(0, whole, lanes):
                _spread(ahead(x, corner), width, channels, of, ahead(g, pooled), ahead(gx, corner), c, lanes)
            if whole < channels:
                _spread(ahead(x, corner), width, channels, of, ahead(g, pooled), ahead(gx, corner), whole,
                        channels - whole)  # fmt: skip
            pooled += channels
    for u in range(height):
        for v in range(_first_left_over(u, height, width), width):
            for c in range(0, channels, lanes):
                n, p = channels - c, (u * width + v) * channels + c
                level, slope = _of(of, channels, 3, c, n), _of(of, channels, 4, c, n)
                store_some(gx, p, (load_some(x, p, n) - _of(of, channels, 0, c, n)) * slope + level, n)


@inlined
def _spread(x: Any, width: int, channels: int, of: Any, g: Any, gx: Any, c: int, n: int) -> None:
    mean, k = _of(of, channels, 0, c, n), _of(of, channels, 1, c, n)
    level, slope = _of(of, channels, 3, c, n), _of(of, channels, 4, c, n)
    winner, _ = _winner(x, width, channels, of, c, n)
    left = _alive(winner - mean, g, channels, of, c, n)
    for q in range(4):
        p = (q // 2 * width + q % 2) * channels + c
        pixel = load_some(x, p, n)
        won = pixel == winner
        store_some(gx, p, select(won, left, zeros(x)) * k + ((pixel - mean) * slope + level), n)
        left = select(won, zeros(x), left)  # of equals the first


@inlined
def add_products(
    x: Any, height: int, width: int, channels: int, lanes: int, of: Any, g: Any, u: Any, sums: Any, wide: int
) -> None:
    """Sums of g, g (x - mean), U, U (x - mean) and g U, where g stands at the winners and is zero elsewhere."""
    whole = channels // lanes * lanes
    pooled = 0
    for i in range(height // 2):
        for j in range(width // 2):
            corner = (2 * i * width + 2 * j) * channels
            for c in range(0, whole, lanes):
                _add_products(ahead(x, corner), width, channels, of, ahead(g, pooled), ahead(u, corner), sums, wide, c,
                              lanes)  # fmt: skip
            if whole < channels:
                _add_products(ahead(x, corner), width, channels, of, ahead(g, pooled), ahead(u, corner), sums, wide,
                              whole, channels - whole)  # fmt: skip
            pooled += channels
    for v in range(height):
        for w in range(_first_left_over(v, height, width), width):
            for c in range(0, channels, lanes):
                n, p = channels - c, (v * width + w) * channels + c
                cotangent = load_some(u, p, n)
                _add(sums, 2 * wide + c, cotangent)
                _add(sums, 3 * wide + c, cotangent * (load_some(x, p, n) - _of(of, channels, 0, c, n)))


@inlined
def _add_products(
    x: Any, width: int, channels: int, of: Any, g: Any, u: Any, sums: Any, wide: int, c: int, n: int
) -> None:
    mean = _of(of, channels, 0, c, n)
    winner, _ = _winner(x, width, channels, of, c, n)
    left = _alive(winner - mean, g, channels, of, c, n)
    _add(sums, c, left)
    _add(sums, wide + c, left * (winner - mean))
    sum_u, sum_ud, sum_gu = zeros(x), zeros(x), zeros(x)
    for q in range(4):
        p = (q // 2 * width + q % 2) * channels + c
        pixel, cotangent = load_some(x, p, n), load_some(u, p, n)
        won = pixel == winner
        sum_u, sum_ud = sum_u + cotangent, sum_ud + cotangent * (pixel - mean)
        sum_gu = sum_gu + select(won, left, zeros(x)) * cotangent
        left = select(won, zeros(x), left)
    _add(sums, 2 * wide + c, sum_u)
    _add(sums, 3 * wide + c, sum_ud)
    _add(sums, 4 * wide + c, sum_gu)


@inlined
def combine(
    x: Any, height: int, width: int, channels: int, lanes: int, of: Any, g: Any, u: Any, gg: Any, gx: Any
) -> None:
    """gg = k U + gg_x (x - mean) + gg_1 at the winners, gx = gx_g g + gx_u U + gx_x (x - mean) + gx_1 everywhere.

    The six factors are rows 3 to 8 of `of`.
    """
    whole = channels // lanes * lanes
    pooled = 0
    for i in range(height // 2):
        for j in range(width // 2):
            corner = (2 * i * width + 2 * j) * channels
            for c in range(0, whole, lanes):
                _combine(ahead(x, corner), width, channels, of, ahead(g, pooled), ahead(u, corner), ahead(gg, pooled),
                         ahead(gx, corner), c, lanes)  # fmt: skip
            if whole < channels:
                _combine(ahead(x, corner), width, channels, of, ahead(g, pooled), ahead(u, corner), ahead(gg, pooled),
                         ahead(gx, corner), whole, channels - whole)  # fmt: skip
            pooled += channels
    for v in range(height):
        for w in range(_first_left_over(v, height, width), width):
            for c in range(0, channels, lanes):
                n, p = channels - c, (v * width + w) * channels + c
                gx_u, gx_x, gx_1 = _of(of, channels, 6, c, n), _of(of, channels, 7, c, n), _of(of, channels, 8, c, n)
                d = load_some(x, p, n) - _of(of, channels, 0, c, n)
                store_some(gx, p, gx_u * load_some(u, p, n) + (gx_x * d + gx_1), n)


@inlined
def _combine(
    x: Any, width: int, channels: int, of: Any, g: Any, u: Any, gg: Any, gx: Any, c: int, n: int
) -> None:
    mean, k = _of(of, channels, 0, c, n), _of(of, channels, 1, c, n)
    gg_x, gg_1, gx_g = _of(of, channels, 3, c, n), _of(of, channels, 4, c, n), _of(of, channels, 5, c, n)
    gx_u, gx_x, gx_1 = _of(of, channels, 6, c, n), _of(of, channels, 7, c, n), _of(of, channels, 8, c, n)
    winner, best = _winner(x, width, channels, of, c, n)
    left = _alive(winner - mean, g, channels, of, c, n)
    chosen, open_ = zeros(x), best > zeros(x)
    for q in range(4):
        p = (q // 2 * width + q % 2) * channels + c
        pixel, cotangent = load_some(x, p, n), load_some(u, p, n)
        d, won = pixel - mean, pixel == winner
        store_some(gx, p, gx_g * select(won, left, zeros(x)) + gx_u * cotangent + (gx_x * d + gx_1), n)
        chosen = select(won & open_, k * cotangent + (gg_x * d + gg_1), chosen)
        left, open_ = select(won, zeros(x), left), open_ & ~won  # of equals the first
    store_some(gg, c, chosen, n)
