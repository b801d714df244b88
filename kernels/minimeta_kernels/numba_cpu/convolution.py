"""Convolution with weights per task as one register tile after another: patches are positions, never copies.

Where 3x3 kernels meet enough channels and pixels, Winograd's form of the same sums is faster (winograd.py).

Images are copied once into a frame with a border of zeros, a few at a time so that they stay in the cache, and the tile
reads its patches from there: for one output pixel, row u of the kernel is kw * C consecutive numbers of the frame.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from minimeta_kernels import launch
from minimeta_kernels.numba_cpu import winograd
from minimeta_kernels.numba_cpu.compiled import compiled, inlined
from minimeta_kernels.numba_cpu.cover import make_cover, padded_columns, positions
from minimeta_kernels.numba_cpu.tile import PACE
from minimeta_kernels.reference.convolution import Pads, Pair, output_shape
from minimeta_kernels.registry import register

_cover = make_cover("product")

#: Numbers of padded images that are worked on together: with their results they fit the second-level cache.
_CHUNK = 1 << 16

#: With fewer tasks than this, a weight gradient is summed up from several parts of each task's images.
_MANY_TASKS = 8
_PARTS = 16


class Plane(NamedTuple):
    """Where output pixel (i, j) finds its patch, and where it goes: the geometry of one convolution of stride 1.

    The frame is `frame` high and wide and holds the image from `corner` on. The patch of output (i, j), of `kernel`
    rows and columns, begins at frame row first[0] + i * step[0]; the pixel goes to row to[0] + i * to_step[0] of the
    result, there are pixels[0] rows of them; columns alike.
    """

    frame: tuple[int, ...]
    corner: tuple[int, ...]
    kernel: tuple[int, ...]
    first: tuple[int, ...]
    step: tuple[int, ...]
    pixels: tuple[int, ...]
    to: tuple[int, ...]
    to_step: tuple[int, ...]


@register("conv", "numba", launch.refuses)
def conv(x: Any, w: Any, *, stride: Pair, pads: Pads) -> Any:
    """x [T, B, H, W, C], w [T, kh, kw, C, O] -> [T, B, H', W', O]."""
    x, w = launch.contiguous(x, w)
    shape = (*output_shape(x.shape, w.shape[1:3], stride, pads), w.shape[-1])
    if _by_winograd(w.shape[1:3], stride, pads, shape[1:4], w.shape[3:]):
        return winograd.conv(x, w, pads)
    y = np.empty(shape, x.dtype)
    frame = _frame(x.shape[2:4], pads)
    corner = (pads[0][0], pads[1][0])
    plane = Plane(frame, corner, w.shape[1:3], (0, 0), stride, shape[2:4], (0, 0), (1, 1))
    _run(x, panel_of(w), y, plane)
    return y


@register("conv_data", "numba", launch.refuses)
def conv_data(g: Any, w: Any, *, stride: Pair, pads: Pads, size: Pair) -> Any:
    """The gradient by the images: g [T, B, H', W', O], w [T, kh, kw, C, O] -> [T, B, *size, C].

    Pixels whose padded coordinate leaves the same rest modulo the stride see the same weights, each stride-th one,
    turned round: for every pair of rests (one, with stride 1) this is a convolution of stride 1 over g.
    """
    g, w = launch.contiguous(g, w)
    if _by_winograd(w.shape[1:3], stride, pads, (g.shape[1], *size), w.shape[3:]):
        return winograd.conv_data(g, w, pads, size)
    gx = np.empty((*g.shape[:2], *size, w.shape[3]), g.dtype)
    for rest in np.ndindex(*stride):
        kernel = tuple(len(range(r, k, s)) for r, k, s in zip(rest, w.shape[1:3], stride, strict=True))
        axes = [
            _rest_axis(*axis)
            for axis in zip(rest, stride, kernel, w.shape[1:3], (p[0] for p in pads), size, g.shape[2:4], strict=True)
        ]
        frame, corner, first, count, to = zip(*axes, strict=True)
        plane = Plane(frame, corner, kernel, first, (1, 1), count, to, stride)
        _run(g, _turned(w, rest, stride), gx, plane)
    return gx


def panel_of(w: Any) -> Any:
    """The weights as matrices [T, kh * kw * C, O in whole vectors]."""
    panel = w.reshape(len(w), math.prod(w.shape[1:4]), w.shape[-1])
    ragged = padded_columns(w.shape[-1], w.itemsize) - w.shape[-1]
    return np.pad(panel, ((0, 0), (0, 0), (0, ragged))) if ragged else panel


def _by_winograd(
    kernel: tuple[int, ...], stride: Pair, pads: Pads, results: tuple[int, ...], channels: tuple[int, ...]
) -> bool:
    """Whether fewer products will do (winograd.py), and that saves more than their transforms cost."""
    fits = kernel == (3, 3) and stride == (1, 1) and max(*pads[0], *pads[1]) <= 2
    return fits and winograd.pays(*results, *channels)


def _rest_axis(rest: int, stride: int, taps: int, kernel: int, pad: int, size: int, given: int) -> tuple[int, ...]:
    """Along one axis: frame, corner, first, count and to of the pixels p with (p + pad) % stride == rest.

    With p + pad = rest + stride * m, output m - q meets weight rest + stride * q, for q in [0, taps).
    """
    corner = max(0, -(-kernel // stride) - 1)
    to = (rest - pad) % stride
    count = len(range(to, size, stride))
    m = (to + pad - rest) // stride
    first = corner + m - (taps - 1) if taps else 0
    return max(corner + given, first + count - 1 + max(taps, 1)), corner, first, count, to


def _turned(w: Any, rest: tuple[int, ...], stride: Pair) -> Any:
    """The weights that meet in one rest class, turned round, as a panel [T, taps * O, C in whole vectors]."""
    tasks, height, width, channels, outputs = w.shape
    taps = [range(r, k, s) for r, k, s in zip(rest, (height, width), stride, strict=True)]
    rows = len(taps[0]) * len(taps[1]) * outputs
    panel = np.empty((tasks, rows, padded_columns(channels, w.itemsize)), w.dtype)
    launch.parallel(_turn, tasks, panel.size, w, panel, rest[0], rest[1], stride[0], stride[1])
    return panel


@compiled
def _turn(
    begin: int, end: int, w: Any, panel: Any, first_row: int, first_column: int, row_step: int, column_step: int
) -> None:  # fmt: skip
    """panel[t, (u, v, o), c] = w[t, turned u, turned v, c, o], zero in the spare columns."""
    _, height, width, channels, outputs = w.shape
    for t in range(begin, end):
        k = 0
        for u in range(len(range(first_row, height, row_step)) - 1, -1, -1):
            for v in range(len(range(first_column, width, column_step)) - 1, -1, -1):
                tap = w[t, first_row + u * row_step, first_column + v * column_step]
                for o in range(outputs):
                    for c in range(channels):
                        panel[t, k, c] = tap[c, o]
                    for c in range(channels, panel.shape[2]):
                        panel[t, k, c] = 0
                    k += 1


def _frame(size: tuple[int, ...], pads: Pads) -> Pair:
    (top, bottom), (left, right) = pads
    return size[0] + top + bottom, size[1] + left + right


def _run(x: Any, panel: Any, y: Any, plane: Plane) -> None:
    """y = the convolution of x [T, B, H, W, C] with the columns of `panel` [T, K, columns], where `plane` says."""
    if not y.size:
        return
    tasks, images, channels = len(x), x.shape[1], x.shape[-1]
    at_once = max(1, min(images, _CHUNK // max(1, plane.frame[0] * plane.frame[1] * max(channels, y.shape[-1]))))
    chunks = -(-images // at_once)
    work = 2 * tasks * images * plane.pixels[0] * plane.pixels[1] * panel.shape[1] * panel.shape[2] / PACE
    launch.parallel(_convolve, tasks * chunks, work, x, panel, y, at_once, *plane)


@compiled
def _convolve(
    begin: int, end: int, x: Any, panel: Any, y: Any, at_once: int,
    frame: Any, corner: Any, kernel: Any, first: Any, step: Any, count: Any, to: Any, to_step: Any,
) -> None:  # fmt: skip
    """Items are (task, chunk of images); the sum runs over kernel rows, and columns with channels in one."""
    _, images, _, _, channels = x.shape
    _, _, height, width, outputs = y.shape
    chunks = -(-images // at_once)
    frames = np.zeros((at_once, frame[0], frame[1], channels), x.dtype)
    offsets, rows_at = positions(at_once * count[0] * count[1]), positions(at_once * count[0] * count[1])
    k = 0
    for b in range(at_once):
        for i in range(count[0]):
            for j in range(count[1]):
                row, column = first[0] + i * step[0], first[1] + j * step[1]
                offsets[k] = ((b * frame[0] + row) * frame[1] + column) * channels
                row, column = to[0] + i * to_step[0], to[1] + j * to_step[1]
                rows_at[k] = ((b * height + row) * width + column) * outputs
                k += 1
    counts = (1, kernel[0], kernel[1] * channels)
    steps = (0, frame[1] * channels, 1)
    for item in range(begin, end):
        t, b = item // chunks, item % chunks * at_once
        some = min(at_once, images - b)
        fill(frames, x, t, b, some, corner)
        _cover(frames, 0, offsets, panel, t * panel.shape[1] * panel.shape[2], panel.shape[2], y,
               (t * images + b) * height * width * outputs, rows_at, some * count[0] * count[1], outputs,
               counts, steps, False)  # fmt: skip


@inlined
def fill(frames: Any, x: Any, t: int, b: int, some: int, corner: Any) -> None:
    """Images b .. b + some of task t into the frames; their borders stay zero."""
    _, _, height, width, channels = x.shape
    for n in range(some):
        for i in range(height):
            for j in range(width):
                for c in range(channels):
                    frames[n, corner[0] + i, corner[1] + j, c] = x[t, b + n, i, j, c]


@register("conv_weight", "numba", launch.refuses)
def conv_weight(x: Any, g: Any, *, stride: Pair, pads: Pads, kernel: Pair) -> Any:
    """The gradient by the weights: x [T, B, H, W, C], g [T, B, H', W', O] -> [T, *kernel, C, O]."""
    x, g = launch.contiguous(x, g)
    if _by_winograd(kernel, stride, pads, g.shape[1:4], (x.shape[-1], g.shape[-1])):
        return winograd.conv_weight(x, g, pads)
    tasks, images, channels, outputs = len(x), x.shape[1], x.shape[-1], g.shape[-1]
    depth = math.prod(kernel) * channels
    ragged = padded_columns(outputs, g.itemsize) - outputs
    if ragged:
        g = np.pad(g, (*[(0, 0)] * 4, (0, ragged)))
    # the parts depend on shapes alone, so that the order of summation does not depend on the threads
    parts = 1 if tasks >= _MANY_TASKS else max(1, min(_PARTS, images))
    gw = np.zeros((tasks, parts, depth, outputs), g.dtype)
    if g.size and x.size:
        frame = _frame(x.shape[2:4], pads)
        at_once = max(1, _CHUNK // max(frame[0] * frame[1] * channels, math.prod(g.shape[2:])))
        work = 2 * g.size * depth / PACE
        corner = (pads[0][0], pads[1][0])
        launch.parallel(_weight, tasks * parts, work, x, g, gw, at_once, frame, corner, kernel, stride)
    return (gw[:, 0] if parts == 1 else gw.sum(axis=1)).reshape(tasks, *kernel, channels, outputs)


@compiled
def _weight(
    begin: int, end: int, x: Any, g: Any, gw: Any, at_once: int, frame: Any, corner: Any, kernel: Any, stride: Any
) -> None:
    """Items are (task, part of its images); rows are the weights' (u, v, c), the sum runs over images and pixels."""
    _, images, _, _, channels = x.shape
    _, _, height, width, columns = g.shape
    _, parts, depth, outputs = gw.shape
    frames = np.zeros((at_once, frame[0], frame[1], channels), x.dtype)
    offsets, rows_at = positions(depth), positions(depth)
    k = 0
    for u in range(kernel[0]):
        for v in range(kernel[1]):
            for c in range(channels):
                offsets[k] = (u * frame[1] + v) * channels + c
                rows_at[k] = k * outputs
                k += 1
    steps = (frame[0] * frame[1] * channels, stride[0] * frame[1] * channels, stride[1] * channels)
    for item in range(begin, end):
        t, part = item // parts, item % parts
        last = images * (part + 1) // parts
        for b in range(images * part // parts, last, at_once):
            some = min(at_once, last - b)
            fill(frames, x, t, b, some, corner)
            _cover(frames, 0, offsets, g, (t * images + b) * height * width * columns, columns, gw,
                   item * depth * outputs, rows_at, depth, outputs, (some, height, width), steps, True)  # fmt: skip
