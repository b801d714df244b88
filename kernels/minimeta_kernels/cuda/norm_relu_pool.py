"""Batch norm with ReLU, and with pooling, on a GPU; kernels in norm_relu_pool.cu. Of `Dual` arrays derivatives too."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minimeta_kernels.cuda.entries import enter
from minimeta_kernels.cuda.source import Dual, Source, shape
from minimeta_kernels.reference.norm_relu import NormRelu
from minimeta_kernels.reference.norm_relu_pool import NormReluPool

_WARPS, _THREADS = 16, 128
_SOURCE = Source(
    "norm_relu_pool",
    ["statistics<{S}>", "sums<{S}>", *(f"{name}<{{S}}, {n}>" for name in ("normalise", "spread") for n in (1, 2))],
)


def _forward(side: int, x: Any, gamma: Any, beta: Any, eps: float) -> NormReluPool:
    """x [T, B, H, W, C] in windows of `side` by `side`."""
    mean, var = _statistics(x)
    return NormReluPool(*_normalise(side, x, mean, var, gamma, beta, eps), mean, var)


def _statistics(x: Any) -> list[Any]:
    """Mean and variance of every channel."""
    tasks, images, height, width, channels = shape(x)
    pixels = [np.int32(images * height * width), np.int32(channels)]
    grid, found = (-(-channels // 32), tasks), [(tasks, channels)] * 2
    return _SOURCE.run("statistics<{S}>", grid, 32 * _WARPS, [x], found, pixels, 32 * _WARPS)


def _normalise(side: int, x: Any, mean: Any, var: Any, gamma: Any, beta: Any, eps: float) -> tuple[Any, Any]:
    """The result, and the input that each number of it came from."""
    tasks, images, height, width, channels = shape(x)
    found = (tasks, images, height // side, width // side, channels)
    count = math.prod(found)
    pooled, top = _SOURCE.run(
        f"normalise<{{S}}, {side}>", (-(-count // _THREADS),), _THREADS, [x, mean, var, gamma, beta], [found] * 2,
        [np.int64(count), *map(np.int32, (images, height, width, channels)), float(eps)],
    )  # fmt: skip
    return pooled, top


def _vjp(
    side: int, g: Any, top: Any, mean: Any, var: Any, x: Any, gamma: Any, beta: Any, eps: float
) -> tuple[Any, Any, Any]:
    """The gradients of x, gamma and beta."""
    tasks, images, height, width, channels = shape(x)
    windows, norm = math.prod(shape(top)[1:4]), [mean, var, gamma, beta]
    g_gamma, g_beta = _SOURCE.run(
        "sums<{S}>", (-(-channels // 32), tasks), 32 * _WARPS, [g, top, *norm], [(tasks, channels)] * 2,
        [np.int32(windows), np.int32(channels), float(eps)], 32 * _WARPS,
    )  # fmt: skip
    count = math.prod(shape(x))
    (to_x,) = _SOURCE.run(
        f"spread<{{S}}, {side}>", (-(-count // _THREADS),), _THREADS, [g, top, x, *norm, g_gamma, g_beta], [shape(x)],
        [np.int64(count), *map(np.int32, (images, height, width, channels)), float(eps)],
    )  # fmt: skip
    return to_x, g_gamma, g_beta


def _vjp2(
    side: int, cotangents: Any, g: Any, mean: Any, var: Any, x: Any, gamma: Any, beta: Any, eps: float
) -> tuple[Any, Any, Any]:
    """The gradients of g, x and gamma: the derivatives along the cotangents, see entries.differentiable."""
    x, gamma, beta = (Dual(a, c) for a, c in zip((x, gamma, beta), cotangents, strict=True))
    mean, var = (Dual(value, found.tangent) for value, found in zip((mean, var), _statistics(x), strict=True))
    pooled, top = _normalise(side, x, mean, var, gamma, beta, eps)
    to_x, g_gamma, _ = _vjp(side, g, top, mean, var, x, gamma, beta, eps)
    return pooled.tangent, to_x.tangent, g_gamma.tangent


def norm_relu_pool(x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5) -> NormReluPool:
    """x [T, B, H, W, C], gamma and beta [T, C] -> [T, B, H // 2, W // 2, C], statistics [T, C]."""
    return _forward(2, x, gamma, beta, eps)


def norm_relu_pool_vjp(
    g: Any, top: Any, mean: Any, var: Any, x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5
) -> tuple[Any, Any, Any]:
    """The gradients of x, gamma and beta."""
    return _vjp(2, g, top, mean, var, x, gamma, beta, eps)


def norm_relu_pool_vjp2(
    cotangents: tuple[Any, Any, Any], g: Any, top: Any, mean: Any, var: Any, x: Any, gamma: Any, beta: Any, *,
    eps: float = 1e-5,
) -> tuple[Any, Any, Any]:  # fmt: skip
    """The gradients of g, x and gamma (that of beta is zero) for cotangents of the three gradients."""
    return _vjp2(2, cotangents, g, mean, var, x, gamma, beta, eps)


def norm_relu(x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5) -> NormRelu:
    """x [T, M, C] with M >= 1, gamma and beta [T, C] -> [T, M, C], statistics [T, C]."""
    found = _forward(1, _as_images(x), gamma, beta, eps)
    return NormRelu(found.pooled.reshape(x.shape), found.mean, found.var)


def norm_relu_vjp(
    g: Any, mean: Any, var: Any, x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5
) -> tuple[Any, Any, Any]:
    """The gradients of x, gamma and beta."""
    images = _as_images(x)
    to_x, g_gamma, g_beta = _vjp(1, _as_images(g), images, mean, var, images, gamma, beta, eps)
    return to_x.reshape(x.shape), g_gamma, g_beta


def norm_relu_vjp2(
    cotangents: tuple[Any, Any, Any], g: Any, mean: Any, var: Any, x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5
) -> tuple[Any, Any, Any]:
    """The gradients of g, x and gamma (that of beta is zero) for cotangents of the three gradients."""
    along = (_as_images(cotangents[0]), *cotangents[1:])
    of_g, of_x, g_gamma = _vjp2(1, along, _as_images(g), mean, var, _as_images(x), gamma, beta, eps)
    return of_g.reshape(x.shape), of_x.reshape(x.shape), g_gamma


def _as_images(x: Any) -> Any:
    """[T, M, C] as [T, M, 1, 1, C]."""
    return x.reshape(*x.shape[:2], 1, 1, x.shape[2])


for _kernel in (norm_relu_pool, norm_relu_pool_vjp, norm_relu_pool_vjp2, norm_relu, norm_relu_vjp, norm_relu_vjp2):
    enter(_kernel.__name__, _kernel)
