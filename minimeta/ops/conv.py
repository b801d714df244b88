"""Convolution and pooling of channels-last images [..., H, W, C], with one set of weights or one per task."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minimeta.autodiff.op import nondifferentiable, op
from minimeta.ops.fused.convolution import Pads, Pair, conv
from minimeta.ops.record import Draw, record
from minimeta.ops.shape import pad, reshape


def conv2d(x: Any, w: Any, stride: int | Pair = 1, padding: str | int | Pads = "VALID") -> Any:
    """Cross-correlate images with filters.

    x: [B, H, W, C] or with a task axis [T, B, H, W, C]; w: [kh, kw, C, O] for all, or [T, kh, kw, C, O], one per task.
    Returns [..., H', W', O]. `padding`: "VALID" (none), "SAME" as TensorFlow pads (H' = ceil(H / stride), an odd row or
    column goes to the bottom or right), one number for all sides, or ((top, bottom), (left, right)).
    Raises ValueError where shapes do not fit.

    >>> conv2d(np.ones((1, 5, 5, 2)), np.ones((3, 3, 2, 4)), padding="SAME").shape
    (1, 5, 5, 4)
    """
    _check_shapes(x, w)
    strides = (stride, stride) if isinstance(stride, int) else tuple(stride)
    if len(strides) != 2 or min(strides) < 1:
        raise ValueError(f"minimeta.conv2d: stride={stride!r}; give one number or (vertical, horizontal), 1 or more")
    *lead, height, width, channels = x.shape
    pads = explicit_padding(padding, (height, width), w.shape[-4:-2], strides)
    for name, size, kernel, sides in zip(("height", "width"), (height, width), w.shape[-4:-2], pads, strict=True):
        if kernel > size + sum(sides):
            raise ValueError(
                f"minimeta.conv2d: the kernel is larger than the padded image: {name} {kernel} > {size}+{sum(sides)}; "
                f"x.shape={x.shape}, w.shape={w.shape}"
            )
    if w.ndim == 4:  # one set of weights: all images are one task's
        x, w = reshape(x, (1, math.prod(lead), height, width, channels)), reshape(w, (1, *w.shape))
    y = conv(x, w, stride=strides, pads=pads)
    return reshape(y, (*lead, *y.shape[2:]))


def _check_shapes(x: Any, w: Any) -> None:
    shapes = f"x.shape={x.shape}, w.shape={w.shape}"
    if x.ndim not in (4, 5) or w.ndim not in (4, 5):
        raise ValueError(f"minimeta.conv2d: needs x [(T,) B, H, W, C] and w [(T,) kh, kw, C, O]; {shapes}")
    if x.shape[-1] != w.shape[-2]:
        raise ValueError(f"minimeta.conv2d: channels differ; {shapes}; need x.shape[-1] == w.shape[-2]")
    if w.ndim == 5 and (x.ndim != 5 or x.shape[0] != w.shape[0]):
        raise ValueError(f"minimeta.conv2d: weights per task need as many tasks in x; {shapes}; need x [T, B, H, W, C]")


def explicit_padding(padding: str | int | Pads, size: Pair, kernel: Pair, stride: Pair) -> Pads:
    """Padding as ((top, bottom), (left, right)).

    >>> explicit_padding("SAME", (28, 28), (3, 3), (2, 2))
    ((0, 1), (0, 1))
    """
    if padding == "VALID":
        return (0, 0), (0, 0)
    if padding == "SAME":
        totals = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(size, kernel, stride, strict=True)]
        (top, bottom), (left, right) = [(total // 2, total - total // 2) for total in totals]
        return (top, bottom), (left, right)
    sides = ((padding, padding), (padding, padding)) if isinstance(padding, int) else padding
    try:
        (top, bottom), (left, right) = sides  # type: ignore
        if min(top, bottom, left, right) >= 0:
            return (int(top), int(bottom)), (int(left), int(right))
    except (TypeError, ValueError):  # not of that form: told below
        pass
    raise ValueError(
        f"minimeta.conv2d: padding={padding!r}; give 'VALID', 'SAME', a number or ((top, bottom), (left, right)), "
        "none of them negative"
    )


def _window(i: int, j: int, size: Pair, stride: Pair) -> tuple[Any, ...]:
    """The index that picks, for kernel position (i, j), the pixel under it in every window of [..., H, W, C]."""
    rows, columns = [slice(k, k + s * (n - 1) + 1, s) for k, n, s in zip((i, j), size, stride, strict=True)]
    return ..., rows, columns, slice(None)


def max_pool2d(x: Any, size: int = 2, stride: int | None = None, ceil_mode: bool = False) -> Any:
    """The largest value of every `size` x `size` window of [..., H, W, C]; of equals, the first row by row is chosen.

    `stride` is `size` by default. Windows reaching over the edge are dropped, or with `ceil_mode` kept and cut off.
    Raises ValueError where the image holds no window, or a size or stride is below 1.

    >>> max_pool2d(np.arange(9.0).reshape(1, 3, 3, 1)).ravel(), max_pool2d(np.ones((1, 3, 3, 1)), ceil_mode=True).shape
    (array([4.]), (1, 2, 2, 1))
    """
    stride = size if stride is None else stride
    _check_windows("max_pool2d", x.shape, size, stride, ceil_mode)
    if ceil_mode:
        x = _reach_over_edge(x, size, stride)
    return _max_pool(x, size=size, stride=stride)


def avg_pool2d(x: Any, size: int = 2, stride: int | None = None) -> Any:
    """The mean of every `size` x `size` window of [..., H, W, C]; windows reaching over the edge are dropped.

    Arguments and errors as `max_pool2d`.

    >>> avg_pool2d(np.arange(4.0).reshape(1, 2, 2, 1)).ravel()
    array([1.5])
    """
    stride = size if stride is None else stride
    _check_windows("avg_pool2d", x.shape, size, stride)
    return _gather(x, size=size, stride=stride, weights=None) * (1 / size**2)


def _check_windows(name: str, shape: tuple[int, ...], size: int, stride: int, ceil_mode: bool = False) -> None:
    given = f"x.shape={shape}, size={size}, stride={stride}"
    if len(shape) < 3 or size < 1 or stride < 1:
        raise ValueError(f"minimeta.{name}: needs x [..., H, W, C] and size and stride of 1 or more; {given}")
    if any((-(-(n - size) // stride) if ceil_mode else (n - size) // stride) < 0 for n in shape[-3:-1]):
        raise ValueError(f"minimeta.{name}: the image holds no {size} x {size} window; {given}")


def _reach_over_edge(x: Any, size: int, stride: int) -> Any:
    """Pad with the lowest number at the bottom and right so that the last window, begun inside the image, is whole."""
    missing = [max(0, -(-(n - size) // stride) * stride + size - n) for n in x.shape[-3:-1]]
    # a window that would begin outside the image is not counted
    missing = [m if m < size else 0 for m in missing]
    if not any(missing):
        return x
    lead = [(0, 0)] * (x.ndim - 3)
    return pad(x, (*lead, (0, missing[0]), (0, missing[1]), (0, 0)), float(np.finfo(str(x.dtype)).min))


def _positions(shape: tuple[int, ...], size: int, stride: int) -> list[tuple[Any, ...]]:
    """One index per position in the window, picking that pixel of every window."""
    height, width = [(n - size) // stride + 1 for n in shape[-3:-1]]
    return [_window(i, j, (height, width), (stride, stride)) for i in range(size) for j in range(size)]


@op(saves="all")
def _max_pool(xp: Any, x: Any, *, size: int, stride: int) -> Any:
    first, *rest = _positions(x.shape, size, stride)
    y = xp.asarray(x[first], copy=True)
    for index in rest:
        xp.maximum(y, x[index], out=y)
    return y


@_max_pool.vjp(0)
def _(g: Any, y: Any, x: Any, size: int, stride: int) -> Any:
    chosen = _first_largest(x, y, size=size, stride=stride)
    return _scatter(g, size=size, stride=stride, weights=chosen, shape=tuple(x.shape))


@nondifferentiable
def _first_largest(xp: Any, x: Any, y: Any, *, size: int, stride: int) -> list[Any]:
    """For each position in the window a mask of the windows whose value comes from there."""
    masks: list[Any] = []
    taken = None
    for index in _positions(x.shape, size, stride):
        mask = x[index] == y
        if taken is None:
            taken = mask.copy()
        else:
            mask &= ~taken
            taken |= mask
        masks.append(mask)
    return masks


# Pooling with fixed choices is linear: `_gather` picks or sums pixels, `_scatter` sends them back: each other's rules.


@op(saves="none")
def _gather(xp: Any, x: Any, *, size: int, stride: int, weights: list[Any] | None) -> Any:
    total = None
    for k, index in enumerate(_positions(x.shape, size, stride)):
        term = x[index] if weights is None else x[index] * weights[k]
        total = term.copy() if total is None else xp.add(total, term, out=total)
    return total


@_gather.vjp(0)
def _(g: Any, y: Any, x: Any, size: int, stride: int, weights: Any) -> Any:
    return _scatter(g, size=size, stride=stride, weights=weights, shape=tuple(x.shape))


@op(saves="none")
def _scatter(xp: Any, g: Any, *, size: int, stride: int, weights: Any, shape: tuple[int, ...]) -> Any:
    x = xp.zeros(shape, dtype=g.dtype)
    for k, index in enumerate(_positions(shape, size, stride)):
        term = g if weights is None else g * weights[k]
        if stride >= size:  # windows do not overlap
            x[index] = term
        else:
            x[index] += term
    return x


@_scatter.vjp(0)
def _(v: Any, y: Any, g: Any, size: int, stride: int, weights: Any, shape: Any) -> Any:
    return _gather(v, size=size, stride=stride, weights=weights)


def _conv_case(draw: Draw) -> Any:
    tasks, channels, outputs = draw.integer(1, 2), draw.integer(1, 2), draw.integer(1, 2)
    kernel = (draw.integer(1, 3), draw.integer(1, 3))
    shared = draw.choice((True, False))
    x = draw.array((tasks, draw.integer(0, 2), draw.integer(3, 5), draw.integer(3, 5), channels))
    w = draw.array((*kernel, channels, outputs) if shared else (tasks, *kernel, channels, outputs))
    padding = draw.choice(("VALID", "SAME", 1, ((0, 1), (2, 0))))
    return (x, w), {"stride": draw.choice((1, 2, (1, 2))), "padding": padding}


def _conv_reference(x: Any, w: Any, stride: Any, padding: Any) -> Any:
    """The definition, one window at a time."""
    stride = (stride, stride) if isinstance(stride, int) else stride
    w = np.broadcast_to(w, (len(x), *w.shape[-4:]))
    pads = explicit_padding(padding, x.shape[2:4], w.shape[1:3], stride)
    x = np.pad(x, ((0, 0), (0, 0), *pads, (0, 0)))
    height, width = [(n - k) // s + 1 for n, k, s in zip(x.shape[2:4], w.shape[1:3], stride, strict=True)]
    y = np.zeros((*x.shape[:2], height, width, w.shape[-1]))
    for i in range(height):
        for j in range(width):
            a, b = i * stride[0], j * stride[1]
            window = x[:, :, a : a + w.shape[1], b : b + w.shape[2]]
            y[:, :, i, j] = np.einsum("tbijc,tijco->tbo", window, w)
    return y


def _pool_case(draw: Draw) -> Any:
    x = draw.array((draw.integer(0, 2), draw.integer(3, 5), draw.integer(3, 5), draw.integer(1, 2)))
    return (x,), {"size": draw.choice((2, 3)), "stride": draw.choice((None, 1, 2))}


def _max_pool_case(draw: Draw) -> Any:
    args, options = _pool_case(draw)
    return args, {**options, "ceil_mode": draw.choice((False, True))}


def _pool_reference(fold: Any) -> Any:
    def pool(x: Any, size: int, stride: int | None, ceil_mode: bool = False) -> Any:
        stride = stride or size
        rows, columns = [
            [a for a in range(0, n, stride) if a + size <= n or (ceil_mode and a - stride + size < n)]
            for n in x.shape[1:3]
        ]
        windows = [[x[:, a : a + size, b : b + size] for b in columns] for a in rows]
        return np.stack([np.stack([fold(w, axis=(1, 2)) for w in row], 1) for row in windows], 1)

    return pool


record(conv2d, _conv_case, _conv_reference)
record(max_pool2d, _max_pool_case, _pool_reference(np.max))
record(avg_pool2d, _pool_case, _pool_reference(np.mean))
