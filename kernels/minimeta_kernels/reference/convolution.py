"""Convolution of channels-last images with weights per task, and its two gradients, by patches and matrix products.

<g, conv(x, w)> is linear in each of g, x and w, so conv, conv_data (by x) and conv_weight (by w) are each other's
derivatives, and no further kernels are needed for any order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from minimeta_kernels.reference.modules import array_module
from minimeta_kernels.registry import register

Pair = tuple[int, int]
Pads = tuple[Pair, Pair]  # ((top, bottom), (left, right))

#: Patches are gathered in pieces of about this many numbers: on the CPU so few that they stay in its cache.
_PIECE, _PIECE_ON_DEVICE = 1 << 18, 1 << 26


@register("conv", "reference")
def conv(x: Any, w: Any, *, stride: Pair, pads: Pads) -> Any:
    """x [T, B, H, W, C], w [T, kh, kw, C, O] -> [T, B, H', W', O]."""
    xp = array_module(x)
    tasks, images, height, width = output_shape(x.shape, w.shape[1:3], stride, pads)
    y = xp.zeros((tasks, images * height * width, w.shape[-1]), dtype=xp.result_type(x, w))
    filters = w.reshape(tasks, math.prod(w.shape[1:4]), w.shape[-1])
    for part, rows, patches in _patches(xp, x, w.shape[1:3], stride, pads):
        xp.matmul(patches, filters[part], out=y[part, rows])
    return y.reshape(tasks, images, height, width, w.shape[-1])


@register("conv_data", "reference")
def conv_data(g: Any, w: Any, *, stride: Pair, pads: Pads, size: Pair) -> Any:
    """The gradient by the images: g [T, B, H', W', O], w [T, kh, kw, C, O] -> [T, B, *size, C]."""
    xp = array_module(g)
    kernel = w.shape[1:3]
    if stride == (1, 1):  # itself a convolution, with the filters turned round
        turned = xp.swapaxes(w[:, ::-1, ::-1], -1, -2)
        (top, bottom), (left, right) = [(k - 1 - a, k - 1 - b) for k, (a, b) in zip(kernel, pads, strict=True)]
        if min(top, bottom, left, right) >= 0:
            return conv(g, turned, stride=stride, pads=((top, bottom), (left, right)))
    tasks, images, height, width, outputs = g.shape
    flat = g.reshape(tasks, images * height * width, outputs)
    (top, bottom), (left, right) = pads
    outer = (size[0] + top + bottom, size[1] + left + right)
    full = xp.zeros((tasks, images, *outer, w.shape[3]), dtype=xp.result_type(g, w))
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            part = xp.matmul(flat, xp.swapaxes(w[:, i, j], -1, -2))
            full[_window(i, j, (height, width), stride)] += part.reshape(tasks, images, height, width, w.shape[3])
    return full[:, :, top : top + size[0], left : left + size[1]]


@register("conv_weight", "reference")
def conv_weight(x: Any, g: Any, *, stride: Pair, pads: Pads, kernel: Pair) -> Any:
    """The gradient by the weights: x [T, B, H, W, C], g [T, B, H', W', O] -> [T, *kernel, C, O]."""
    xp = array_module(x)
    tasks, *pixels, outputs = g.shape
    total = xp.zeros((tasks, kernel[0] * kernel[1] * x.shape[-1], outputs), dtype=xp.result_type(x, g))
    flat = g.reshape(tasks, math.prod(pixels), outputs)
    for part, rows, patches in _patches(xp, x, kernel, stride, pads):
        total[part] += xp.matmul(xp.swapaxes(patches, -1, -2), flat[part, rows])
    return total.reshape(tasks, *kernel, x.shape[-1], outputs)


def output_shape(shape: tuple[int, ...], kernel: Pair, stride: Pair, pads: Pads) -> tuple[int, int, int, int]:
    """(T, B, H', W') of images of `shape` [T, B, H, W, ...].

    >>> output_shape((1, 2, 28, 28, 1), (3, 3), (2, 2), ((0, 1), (0, 1)))
    (1, 2, 14, 14)
    """
    tasks, images, *size = shape[:4]
    height, width = [(n + sum(p) - k) // s + 1 for n, p, k, s in zip(size, pads, kernel, stride, strict=True)]
    return tasks, images, height, width


def _window(i: int, j: int, size: Pair, stride: Pair) -> tuple[Any, ...]:
    """The index that picks, for kernel position (i, j), the pixel under it in every window of [..., H, W, C]."""
    rows, columns = [slice(k, k + s * (n - 1) + 1, s) for k, n, s in zip((i, j), size, stride, strict=True)]
    return ..., rows, columns, slice(None)


def _patches(xp: Any, x: Any, kernel: Pair, stride: Pair, pads: Pads) -> Iterator[tuple[slice, slice, Any]]:
    """Yield (tasks, rows, patches [t, rows, kh * kw * C]) until all windows of x have come by; the buffer is reused."""
    tasks, images, height, width = output_shape(x.shape, kernel, stride, pads)
    channels = x.shape[-1]
    pixels, depth = height * width, kernel[0] * kernel[1] * channels
    if not tasks * images * pixels * depth:
        return
    at_once = max(1, (_PIECE if xp is np else _PIECE_ON_DEVICE) // (pixels * depth))
    step_images = min(images, at_once)
    step_tasks = max(1, min(tasks, at_once // images))
    (top, bottom), (left, right) = pads
    outer = (x.shape[2] + top + bottom, x.shape[3] + left + right)
    padded = xp.zeros((step_tasks, step_images, *outer, channels), dtype=x.dtype)
    buffer = xp.empty((step_tasks * step_images * pixels * depth,), dtype=x.dtype)
    for t in range(0, tasks, step_tasks):
        for b in range(0, images, step_images):
            piece = x[t : t + step_tasks, b : b + step_images]
            some_tasks, some_images = piece.shape[:2]
            source = padded[:some_tasks, :some_images]
            source[:, :, top : top + x.shape[2], left : left + x.shape[3]] = piece
            patches = buffer[: some_tasks * some_images * pixels * depth].reshape(
                some_tasks, some_images, height, width, *kernel, channels
            )
            for i in range(kernel[0]):
                for j in range(kernel[1]):
                    patches[..., i, j, :] = source[_window(i, j, (height, width), stride)]
            rows = slice(b * pixels, (b + some_images) * pixels)
            yield slice(t, t + some_tasks), rows, patches.reshape(some_tasks, some_images * pixels, depth)
