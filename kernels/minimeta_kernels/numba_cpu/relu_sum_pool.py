"""Max-pooling of the sum of two ReLUs: each window is read once and never written but as its largest."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minimeta_kernels import launch
from minimeta_kernels.numba_cpu.compiled import compiled, inlined
from minimeta_kernels.numba_cpu.cover import VECTOR_BYTES
from minimeta_kernels.numba_cpu.vector import ahead, data, load_some, select, store_some, zeros
from minimeta_kernels.registry import register

#: About what a pixel takes, forth and back.
_FLOP, _FLOP_VJP = 2, 4


@register("relu_sum_pool", "numba", launch.refuses)
def relu_sum_pool(x1: Any, x2: Any) -> Any:
    """x1, x2 [B, H, W, C] -> y [B, ceil(H / 2), ceil(W / 2), C]."""
    x1, x2 = launch.contiguous(x1, x2)
    batch, height, width, channels = x1.shape
    y = np.empty((batch, -(-height // 2), -(-width // 2), channels), x1.dtype)
    launch.parallel(_relu_sum_pool, math.prod(y.shape[:3]), _FLOP * x1.size, x1, x2, y)
    return y


@register("relu_sum_pool_vjp", "numba", launch.refuses)
def relu_sum_pool_vjp(g: Any, x1: Any, x2: Any) -> tuple[Any, Any]:
    """The gradients by x1 and x2 for the cotangent of y."""
    g, x1, x2 = launch.contiguous(g, x1, x2)
    to_x1, to_x2 = np.empty_like(x1), np.empty_like(x2)
    launch.parallel(_relu_sum_pool_vjp, math.prod(g.shape[:3]), _FLOP_VJP * x1.size, g, x1, x2, to_x1, to_x2)
    return to_x1, to_x2


@compiled
def _relu_sum_pool(begin: Any, end: Any, x1: Any, x2: Any, y: Any) -> None:
    channels = y.shape[-1]
    for item in range(begin, end):
        corner, right, down = _pixels(item, x1, y)
        for c in range(0, channels, VECTOR_BYTES // y.itemsize):
            at, n = corner * channels + c, channels - c
            largest = _window(ahead(data(x1), at), ahead(data(x2), at), right, down, channels, n)[-1]
            store_some(data(y), item * channels + c, largest, n)


@compiled
def _relu_sum_pool_vjp(begin: Any, end: Any, g: Any, x1: Any, x2: Any, to_x1: Any, to_x2: Any) -> None:
    channels = g.shape[-1]
    for item in range(begin, end):
        corner, right, down = _pixels(item, x1, g)
        for c in range(0, channels, VECTOR_BYTES // g.itemsize):
            at, n = corner * channels + c, channels - c
            _spread(
                load_some(data(g), item * channels + c, n), ahead(data(x1), at), ahead(data(x2), at),
                ahead(data(to_x1), at), ahead(data(to_x2), at), right, down, channels, n,
            )  # fmt: skip


@inlined
def _pixels(item: Any, x: Any, y: Any) -> Any:
    """A window's first pixel and the steps to those right of and below it: 0 beyond the edge, the same pixel again."""
    row, j = divmod(item, y.shape[2])
    image, i = divmod(row, y.shape[1])
    _, height, width, _ = x.shape
    corner = (image * height + 2 * i) * width + 2 * j
    return corner, 1 if 2 * j + 1 < width else 0, width if 2 * i + 1 < height else 0


@inlined
def _window(x1: Any, x2: Any, right: Any, down: Any, channels: Any, n: Any) -> Any:
    """The sums of a window's four pixels, and the largest."""
    s0, s1 = _sum(x1, x2, 0, n), _sum(x1, x2, right * channels, n)
    s2, s3 = _sum(x1, x2, down * channels, n), _sum(x1, x2, (down + right) * channels, n)
    return s0, s1, s2, s3, _larger(_larger(_larger(s0, s1), s2), s3)


@inlined
def _sum(x1: Any, x2: Any, at: Any, n: Any) -> Any:
    return _relu(load_some(x1, at, n), zeros(x1)) + _relu(load_some(x2, at, n), zeros(x2))


@inlined
def _relu(x: Any, zero: Any) -> Any:
    return select(x < zero, zero, x)  # NaN stays


@inlined
def _larger(x: Any, y: Any) -> Any:
    return select(y == y, select(y > x, y, x), y)  # NaN if one is


@inlined
def _spread(
    g: Any, x1: Any, x2: Any, to_x1: Any, to_x2: Any, right: Any, down: Any, channels: Any, n: Any
) -> None:
    """The gradient of a window's largest to the first pixel that is; from the last on, as they may be the same."""
    zero = zeros(x1)
    s0, s1, s2, s3, largest = _window(x1, x2, right, down, channels, n)
    won0, won1, won2 = s0 == largest, s1 == largest, s2 == largest
    left1 = select(won0, zero, g)
    left2 = select(won1, zero, left1)
    left3 = select(won2, zero, left2)
    _give(select(s3 == largest, left3, zero), x1, x2, to_x1, to_x2, (down + right) * channels, n)
    _give(select(won2, left2, zero), x1, x2, to_x1, to_x2, down * channels, n)
    _give(select(won1, left1, zero), x1, x2, to_x1, to_x2, right * channels, n)
    _give(select(won0, g, zero), x1, x2, to_x1, to_x2, 0, n)


@inlined
def _give(g: Any, x1: Any, x2: Any, to_x1: Any, to_x2: Any, at: Any, n: Any) -> None:
    """To those of a pixel's two that are above zero."""
    zero = zeros(x1)
    store_some(to_x1, at, select(load_some(x1, at, n) > zero, g, zero), n)
    store_some(to_x2, at, select(load_some(x2, at, n) > zero, g, zero), n)
