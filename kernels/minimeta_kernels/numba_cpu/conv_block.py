"""The first block of a convolutional network, image by image: its convolution is made anew in every pass, never kept.

One image's convolution, [H, W, O], stays in the second-level cache; written out for all images it would be the largest
array of the whole network, and reading and writing it the slowest part. What is kept is a quarter of that.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minimeta_kernels import launch
from minimeta_kernels.numba_cpu import windows
from minimeta_kernels.numba_cpu.compiled import compiled, inlined
from minimeta_kernels.numba_cpu.convolution import fill, panel_of
from minimeta_kernels.numba_cpu.cover import VECTOR_BYTES, make_cover, positions
from minimeta_kernels.numba_cpu.norm_relu_pool import first_sums, merge, merged, parts_of, rate
from minimeta_kernels.numba_cpu.vector import ahead, data
from minimeta_kernels.numba_cpu.windows import add_deviations, sums_like
from minimeta_kernels.reference.norm_relu_pool import NormReluPool
from minimeta_kernels.registry import register

_cover = make_cover("product")
_normalise_image, _spread_image = windows.normalise, windows.spread


@register("conv_block", "numba", launch.refuses)
def conv_block(x: Any, w: Any, gamma: Any, beta: Any, *, eps: float = 1e-5) -> NormReluPool:
    """x [T, B, H, W, C], w [T or 1, 3, 3, C, O], gamma and beta [T, O] -> [T, B, H // 2, W // 2, O], statistics."""
    x, w, gamma, beta = launch.contiguous(x, w, gamma, beta)
    (tasks, images, height, width, _), outputs = x.shape, w.shape[-1]
    panel, parts = panel_of(w), parts_of(x)
    work = 2 * x.size * 9 * outputs
    moments = np.zeros((tasks, parts, 2, outputs), x.dtype)
    launch.parallel(_moments, tasks * parts, work, x, panel, moments)
    mean, var = merged(moments, images, height * width)
    of = np.stack([mean, gamma * rate(var, eps), beta], axis=1)
    pooled, top = (np.empty((tasks, images, height // 2, width // 2, outputs), x.dtype) for _ in range(2))
    launch.parallel(_normalise, tasks * parts, work, x, panel, of, pooled, top, parts)
    return NormReluPool(pooled, top, mean, var)


@register("conv_block_vjp", "numba", launch.refuses)
def conv_block_vjp(
    g: Any, top: Any, mean: Any, var: Any, x: Any, w: Any, gamma: Any, beta: Any, *, eps: float = 1e-5
) -> tuple[Any, Any, Any]:
    """The gradients of w, gamma and beta."""
    g, top, mean, var, x, w, gamma, beta = launch.contiguous(g, top, mean, var, x, w, gamma, beta)
    of, g_gamma, g_beta = first_sums(g, top, mean, var, gamma, beta, eps, x[:1, ..., :1].size)
    parts, outputs = parts_of(x), w.shape[-1]
    gw = np.zeros((len(x), parts, 9 * x.shape[-1], outputs), x.dtype)
    launch.parallel(_weight, len(x) * parts, 4 * x.size * 9 * outputs, x, panel_of(w), of, g, gw)
    gw = gw.sum(axis=1 if len(w) == len(x) else (0, 1))
    return gw.reshape(w.shape), g_gamma, g_beta


@inlined
def _scratch(x: Any, outputs: int) -> Any:
    """A frame for one image, room for its convolution, and the positions that lead from one to the other."""
    _, _, height, width, channels = x.shape
    frames = np.zeros((1, height + 2, width + 2, channels), x.dtype)
    # the last row is read, as `w` of a tile, a vector past its end
    y = np.zeros((height * width + VECTOR_BYTES) * outputs, x.dtype)
    offsets, rows_at = positions(height * width), positions(height * width)
    for i in range(height):
        for j in range(width):
            offsets[i * width + j] = (i * (width + 2) + j) * channels
            rows_at[i * width + j] = (i * width + j) * outputs
    return frames, y, offsets, rows_at


@inlined
def _convolve(
    x: Any, t: int, b: int, panel: Any, frames: Any, y: Any, offsets: Any, rows_at: Any, outputs: int
) -> None:
    """y [H, W, O] = image b of task t convolved with its task's weights, or everybody's."""
    _, _, height, width, channels = x.shape
    fill(frames, x, t, b, 1, (1, 1))
    start = t % len(panel) * panel.shape[1] * panel.shape[2]
    _cover(frames, 0, offsets, panel, start, panel.shape[2], y, 0, rows_at, height * width, outputs,
           (1, 3, 3 * channels), (0, (width + 2) * channels, 1), False)  # fmt: skip


@compiled
def _moments(begin: int, end: int, x: Any, panel: Any, moments: Any) -> None:
    _, images, height, width, _ = x.shape
    _, parts, _, outputs = moments.shape
    frames, y, offsets, rows_at = _scratch(x, outputs)
    sums = sums_like(2, moments)
    for item in range(begin, end):
        t, part = item // parts, item % parts
        first = images * part // parts
        for b in range(first, images * (part + 1) // parts):
            _convolve(x, t, b, panel, frames, y, offsets, rows_at, outputs)
            sums[:] = 0
            lanes = VECTOR_BYTES // x.itemsize
            add_deviations(data(y), height * width, outputs, lanes, data(sums), sums.shape[1])
            merge(moments[t, part], sums, y[:outputs], b - first, height * width)


@compiled
def _normalise(begin: int, end: int, x: Any, panel: Any, of: Any, pooled: Any, top: Any, parts: int) -> None:
    _, images, height, width, _ = x.shape
    outputs = pooled.shape[4]
    frames, y, offsets, rows_at = _scratch(x, outputs)
    size = pooled.shape[2] * pooled.shape[3] * outputs
    for item in range(begin, end):
        t, part = item // parts, item % parts
        of_task = ahead(data(of), t * 3 * outputs)
        for b in range(images * part // parts, images * (part + 1) // parts):
            _convolve(x, t, b, panel, frames, y, offsets, rows_at, outputs)
            at = (t * images + b) * size
            _normalise_image(data(y), height, width, outputs, VECTOR_BYTES // x.itemsize, of_task,
                             ahead(data(pooled), at), ahead(data(top), at))  # fmt: skip


@compiled
def _weight(begin: int, end: int, x: Any, panel: Any, of: Any, g: Any, gw: Any) -> None:
    """gw += patches of every image times the gradient at its convolution, which is made and used up image by image."""
    _, images, height, width, channels = x.shape
    _, parts, depth, outputs = gw.shape
    frames, y, offsets, rows_at = _scratch(x, outputs)
    gy = np.zeros_like(y)
    taps, taps_at = positions(depth), positions(depth)
    for k in range(depth):
        tap, c = divmod(k, channels)
        taps[k], taps_at[k] = (tap // 3 * (width + 2) + tap % 3) * channels + c, k * outputs
    size = g.shape[2] * g.shape[3] * outputs
    for item in range(begin, end):
        t, part = item // parts, item % parts
        of_task = ahead(data(of), t * 5 * outputs)
        for b in range(images * part // parts, images * (part + 1) // parts):
            _convolve(x, t, b, panel, frames, y, offsets, rows_at, outputs)
            _spread_image(data(y), height, width, outputs, VECTOR_BYTES // x.itemsize, of_task,
                          ahead(data(g), (t * images + b) * size), data(gy))  # fmt: skip
            _cover(frames, 0, taps, gy, 0, outputs, gw, item * depth * outputs, taps_at, depth, outputs,
                   (1, height, width), (0, (width + 2) * channels, channels), True)  # fmt: skip
