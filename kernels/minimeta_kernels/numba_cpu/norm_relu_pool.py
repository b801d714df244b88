"""Batch norm, ReLU and max-pool 2x2 over many images: sums per channel first, then every pixel once.

Arguments and equations: minimeta_kernels.reference.norm_relu_pool; what is done to one image: windows.py. Sums that
only winners enter are taken over the pooled size, each image's on its own first, for the digits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minimeta_kernels import launch
from minimeta_kernels.numba_cpu import batch_norm, windows
from minimeta_kernels.numba_cpu.compiled import compiled, inlined
from minimeta_kernels.numba_cpu.target import TARGET
from minimeta_kernels.numba_cpu.vector import ahead, data
from minimeta_kernels.numba_cpu.windows import add_deviations, add_products, add_winners, sums_like
from minimeta_kernels.reference.norm_relu_pool import NormReluPool
from minimeta_kernels.registry import register

_BYTES = TARGET.vector_bytes
_normalise_image, _spread_image, _combine_image = windows.normalise, windows.spread, windows.combine

#: With fewer tasks than this, sums over a task are put together from several parts of its images.
_MANY_TASKS = 8
_PARTS = 16


def parts_of(x: Any) -> int:
    """Into how many parts a task's images are cut; by shape alone, so that threads do not change sums."""
    return 1 if x.shape[0] >= _MANY_TASKS else max(1, min(_PARTS, x.shape[1]))


@register("norm_relu_pool", "numba", launch.refuses)
def norm_relu_pool(x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5) -> NormReluPool:
    """x [T, B, H, W, C], gamma and beta [T, C] -> [T, B, H // 2, W // 2, C], statistics [T, C]."""
    x, gamma, beta = launch.contiguous(x, gamma, beta)
    parts = parts_of(x)
    moments = np.zeros((len(x), parts, 2, x.shape[-1]), x.dtype)
    launch.parallel(_moments, len(x) * parts, 3 * x.size, x, moments)
    mean, var = merged(moments, x.shape[1], x.shape[2] * x.shape[3])
    pooled, top = (np.empty((*x.shape[:2], x.shape[2] // 2, x.shape[3] // 2, x.shape[4]), x.dtype) for _ in range(2))
    of = np.stack([mean, gamma * rate(var, eps), beta], axis=1)
    launch.parallel(_normalise, len(x) * parts, 6 * x.size, x, of, pooled, top, parts)
    return NormReluPool(pooled, top, mean, var)


def rate(var: Any, eps: float) -> Any:
    """r = 1 / sqrt(var + eps)."""
    return (1 / np.sqrt(var + eps)).astype(var.dtype, copy=False)


def merged(moments: Any, images: int, pixels: int) -> tuple[Any, Any]:
    """Mean and biased variance [T, C] from those of parts of the images; without pixels NaN, as NumPy has it."""
    parts = moments.shape[1]
    sizes = np.diff([images * i // parts for i in range(parts + 1)]) * pixels
    count, mean, squares = 0, 0 * moments[:, 0, 0], 0 * moments[:, 0, 1]
    for i, more in enumerate(sizes.tolist()):
        if more:
            step = moments[:, i, 0] - mean
            mean = mean + step * (more / (count + more))
            squares = squares + moments[:, i, 1] + step * step * (count * more / (count + more))
            count += more
    if count == 0:
        return mean * np.nan, mean * np.nan
    return mean, squares / count


@compiled
def _moments(begin: int, end: int, x: Any, moments: Any) -> None:
    """Mean and sum of squared deviations of each part of a task's images."""
    _, images, height, width, channels = x.shape
    parts, pixels = moments.shape[1], height * width
    sums = sums_like(2, x)
    if pixels == 0:
        return
    for item in range(begin, end):
        t, part = item // parts, item % parts
        first = images * part // parts
        for b in range(first, images * (part + 1) // parts):
            image = ahead(data(x), (t * images + b) * pixels * channels)
            sums[:] = 0
            add_deviations(image, pixels, channels, _BYTES // x.itemsize, data(sums), sums.shape[1])
            merge(moments[t, part], sums, x[t, b, 0, 0], b - first, pixels)


@inlined
def merge(moments: Any, sums: Any, origin: Any, images: int, pixels: int) -> None:
    """Take one more image into mean and squared deviations, as Chan, Golub and LeVeque (1983) do.

    Within the image, deviations are from its first pixel: one of the summed numbers, it bounds the cancellation.
    """
    before, here = origin.dtype.type(images * pixels), origin.dtype.type(pixels)
    for c in range(origin.size):
        shift = sums[0, c] / here
        step = origin[c] + shift - moments[0, c]
        moments[0, c] += step * (here / (before + here))
        moments[1, c] += sums[1, c] - sums[0, c] * shift + step * step * (before * here / (before + here))


@compiled
def _normalise(begin: int, end: int, x: Any, of: Any, pooled: Any, top: Any, parts: int) -> None:
    _, images, height, width, channels = x.shape
    size, small = height * width * channels, pooled.shape[2] * pooled.shape[3] * channels
    for item in range(begin, end):
        t, part = item // parts, item % parts
        of_task = ahead(data(of), t * 3 * channels)
        for b in range(t * images + images * part // parts, t * images + images * (part + 1) // parts):
            _normalise_image(ahead(data(x), b * size), height, width, channels, _BYTES // x.itemsize, of_task,
                             ahead(data(pooled), b * small), ahead(data(top), b * small))  # fmt: skip


@register("norm_relu_pool_vjp", "numba", launch.refuses)
def norm_relu_pool_vjp(
    g: Any, top: Any, mean: Any, var: Any, x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5
) -> tuple[Any, Any, Any]:
    """The gradients of x, gamma and beta."""
    g, top, mean, var, x, gamma, beta = launch.contiguous(g, top, mean, var, x, gamma, beta)
    of, g_gamma, g_beta = first_sums(g, top, mean, var, gamma, beta, eps, x[:1, ..., 0].size)
    gx = np.empty_like(x)
    launch.parallel(_spread, len(x) * parts_of(x), 6 * x.size, x, of, g, gx, parts_of(x))
    return gx, g_gamma, g_beta


def first_sums(
    g: Any, top: Any, mean: Any, var: Any, gamma: Any, beta: Any, eps: float, pixels: int
) -> tuple[Any, Any, Any]:
    """The gradients of gamma and beta, and before them the five rows from which `windows.spread` makes that of x."""
    r = rate(var, eps)
    k = gamma * r
    parts = parts_of(g)
    sums = np.zeros((len(g), parts, 2, g.shape[-1]), g.dtype)
    of = np.stack([mean, k, beta], axis=1)
    launch.parallel(_winner_sums, len(g) * parts, 6 * g.size, g, top, of, sums)
    g_beta, g_d = np.moveaxis(sums.sum(axis=1), 1, 0)
    g_gamma, level, slope = batch_norm.first_order(g_beta, g_d, k, r, g.dtype.type(max(1, pixels)))
    return np.stack([mean, k, beta, level, slope], axis=1), g_gamma, np.ascontiguousarray(g_beta)


@compiled
def _winner_sums(begin: int, end: int, g: Any, top: Any, of: Any, sums: Any) -> None:
    _, images, height, width, channels = g.shape
    parts, size = sums.shape[1], height * width * channels
    image = sums_like(2, g)
    for item in range(begin, end):
        t, part = item // parts, item % parts
        of_task = ahead(data(of), t * 3 * channels)
        for b in range(t * images + images * part // parts, t * images + images * (part + 1) // parts):
            image[:] = 0
            add_winners(ahead(data(g), b * size), ahead(data(top), b * size), height * width, channels,
                        _BYTES // g.itemsize, of_task, data(image), image.shape[1])  # fmt: skip
            sums[t, part] += image[:, :channels]


@compiled
def _spread(begin: int, end: int, x: Any, of: Any, g: Any, gx: Any, parts: int) -> None:
    _, images, height, width, channels = x.shape
    size, small = height * width * channels, g.shape[2] * g.shape[3] * channels
    for item in range(begin, end):
        t, part = item // parts, item % parts
        of_task = ahead(data(of), t * 5 * channels)
        for b in range(t * images + images * part // parts, t * images + images * (part + 1) // parts):
            _spread_image(ahead(data(x), b * size), height, width, channels, _BYTES // x.itemsize, of_task,
                          ahead(data(g), b * small), ahead(data(gx), b * size))  # fmt: skip


@register("norm_relu_pool_vjp2", "numba", launch.refuses)
def norm_relu_pool_vjp2(
    cotangents: tuple[Any, Any, Any], g: Any, top: Any, mean: Any, var: Any, x: Any, gamma: Any, beta: Any, *,
    eps: float = 1e-5,
) -> tuple[Any, Any, Any]:  # fmt: skip
    """The gradients of g, x and gamma (that of beta is zero) for cotangents of the three gradients."""
    u, u_gamma, u_beta, g, mean, var, x, gamma, beta = launch.contiguous(*cotangents, g, mean, var, x, gamma, beta)
    r = rate(var, eps)
    k = gamma * r
    parts = parts_of(x)
    sums = np.zeros((len(x), parts, 5, x.shape[-1]), x.dtype)
    launch.parallel(
        _five_sums, len(x) * parts, 8 * x.size, x, np.stack([mean, k, beta], axis=1), g, u, sums
    )
    n = x.dtype.type(max(1, x[:1, ..., :1].size))
    g_gamma, *factors = batch_norm.second_order(np.moveaxis(sums.sum(axis=1), 1, 0), k, r, u_gamma, u_beta, n)
    of = np.stack([mean, k, beta, *factors], axis=1)
    gg, gx = np.empty_like(g), np.empty_like(x)
    launch.parallel(_combine, len(x) * parts, 12 * x.size, x, of, g, u, gg, gx, parts)
    return gg, gx, g_gamma


@compiled
def _five_sums(begin: int, end: int, x: Any, of: Any, g: Any, u: Any, sums: Any) -> None:
    _, images, height, width, channels = x.shape
    parts = sums.shape[1]
    size, small = height * width * channels, g.shape[2] * g.shape[3] * channels
    image = sums_like(5, x)
    for item in range(begin, end):
        t, part = item // parts, item % parts
        of_task = ahead(data(of), t * 3 * channels)
        for b in range(t * images + images * part // parts, t * images + images * (part + 1) // parts):
            image[:] = 0
            add_products(ahead(data(x), b * size), height, width, channels, _BYTES // x.itemsize, of_task,
                         ahead(data(g), b * small), ahead(data(u), b * size), data(image),
                         image.shape[1])  # fmt: skip
            sums[t, part] += image[:, :channels]


@compiled
def _combine(begin: int, end: int, x: Any, of: Any, g: Any, u: Any, gg: Any, gx: Any, parts: int) -> None:
    _, images, height, width, channels = x.shape
    size, small = height * width * channels, g.shape[2] * g.shape[3] * channels
    for item in range(begin, end):
        t, part = item // parts, item % parts
        of_task = ahead(data(of), t * 9 * channels)
        for b in range(t * images + images * part // parts, t * images + images * (part + 1) // parts):
            _combine_image(ahead(data(x), b * size), height, width, channels, _BYTES // x.itemsize, of_task,
                           ahead(data(g), b * small), ahead(data(u), b * size), ahead(data(gg), b * small),
                           ahead(data(gx), b * size))  # fmt: skip
