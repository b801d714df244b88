"""ReLUs of two arrays, their sum and its max-pooling in one pass: what follows a layer with slow and fast weights."""

from __future__ import annotations

from typing import Any

import numpy as np

import minimeta_kernels
from minimeta.autodiff import Tensor, vjp
from minimeta.autodiff.op import op
from minimeta.ops.conv import max_pool2d
from minimeta.ops.elementwise import relu
from minimeta.ops.record import Draw, record


def relu_sum_max_pool2d(x1: Any, x2: Any) -> Any:
    """max_pool2d(relu(x1) + relu(x2), ceil_mode=True) of x1 and x2 [..., H, W, C], in 2 x 2 windows.

    Raises ValueError where shapes differ or are not of images.

    >>> relu_sum_max_pool2d(np.ones((5, 3, 3, 1)), -np.ones((5, 3, 3, 1))).shape
    (5, 2, 2, 1)
    """
    if x1.shape != x2.shape or x1.ndim < 3:
        raise ValueError(
            f"minimeta.relu_sum_max_pool2d: x1.shape={x1.shape}, x2.shape={x2.shape}; need the same [..., H, W, C]"
        )
    *lead, height, width, channels = x1.shape
    y = _relu_sum_pool(*(x.reshape(-1, height, width, channels) for x in (x1, x2)))
    return y.reshape(*lead, *y.shape[1:])


@op(saves="inputs")
def _relu_sum_pool(xp: Any, x1: Any, x2: Any) -> Any:
    return minimeta_kernels.call("relu_sum_pool", x1, x2)


@_relu_sum_pool.vjp()
def _(g: Any, y: Any, x1: Any, x2: Any) -> Any:
    if type(g) is not Tensor:
        return minimeta_kernels.call("relu_sum_pool_vjp", g, x1, x2)
    return vjp(_composite, x1, x2)[1](g)


def _composite(x1: Any, x2: Any) -> Any:
    """The same by ordinary operations."""
    return max_pool2d(relu(x1) + relu(x2), ceil_mode=True)


def _images(draw: Draw) -> Any:
    """No two sums above zero are near each other: sizes of 1 and a little, each one's own and the same in both."""
    shape = draw.integer(1, 2), draw.integer(1, 3), draw.integer(1, 3), draw.integer(1, 2)
    sizes = 1 + 0.01 * np.argsort(draw.array((int(np.prod(shape)),))).reshape(shape)
    return tuple(np.where(draw.array(shape) > 0, sizes, -sizes) for _ in range(2)), {}


def _reference(x1: Any, x2: Any) -> Any:
    total = np.maximum(x1, 0) + np.maximum(x2, 0)
    batch, height, width, channels = total.shape
    y = np.empty((batch, -(-height // 2), -(-width // 2), channels))
    for i in range(y.shape[1]):
        for j in range(y.shape[2]):
            y[:, i, j] = total[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].max(axis=(1, 2))
    return y


record(relu_sum_max_pool2d, _images, _reference)
