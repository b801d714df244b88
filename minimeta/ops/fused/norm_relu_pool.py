"""Batch norm by batch statistics, ReLU and max-pool in one: what follows the convolution in every conv block."""

from __future__ import annotations

from typing import Any

import numpy as np

import minimeta_kernels
from minimeta.autodiff.op import op
from minimeta.ops.conv import max_pool2d
from minimeta.ops.elementwise import relu
from minimeta.ops.fused.batch_norm import composite, derive, per_task, with_statistics
from minimeta.ops.record import Draw, record
from minimeta.ops.results import Results


def batch_norm_relu_max_pool2d(
    x: Any, gamma: Any, beta: Any, eps: float = 1e-5
) -> tuple[Any, dict[str, Any]]:
    """Batch norm by each task's own statistics, ReLU, max-pool 2x2; an odd last row or column is dropped.

    x [T, B, H, W, C]; gamma and beta [C], or [T, C] per task. Returns [T, B, H // 2, W // 2, C] and the
    statistics {"mean", "var"} [T, C] (variance biased) as constants: the gradient through them is part of the result's.
    Same values as `relu(max_pool2d(batch_norm(x, ...)))`. Raises ValueError where shapes do not fit.

    >>> y, statistics = batch_norm_relu_max_pool2d(np.arange(16.0).reshape(1, 1, 4, 4, 1), np.ones(1), np.zeros(1))
    >>> y.shape, statistics["mean"]
    ((1, 1, 2, 2, 1), array([[7.5]]))
    """
    shapes = f"x.shape={x.shape}, gamma.shape={gamma.shape}, beta.shape={beta.shape}"
    fits = ((x.shape[-1],), (x.shape[0], x.shape[-1])) if x.ndim == 5 else ()
    if gamma.shape not in fits or beta.shape not in fits:
        raise ValueError(
            f"minimeta.batch_norm_relu_max_pool2d: {shapes}; need x [T, B, H, W, C], gamma and beta [C] or [T, C]"
        )
    if min(x.shape[2:4]) < 2 or not x.shape[1]:
        raise ValueError(f"minimeta.batch_norm_relu_max_pool2d: {shapes}; the images hold no window, or there are none")
    return with_statistics(norm_relu_pool_(x, *per_task((x.shape[0], x.shape[-1]), gamma, beta), eps=eps))


@op(saves="all")
def norm_relu_pool_(xp: Any, x: Any, gamma: Any, beta: Any, *, eps: float) -> Any:
    return Results(tuple(minimeta_kernels.call("norm_relu_pool", x, gamma, beta, eps=eps)))


derive(norm_relu_pool_, lambda *arrays: relu(max_pool2d(composite(*arrays))))


def _images(draw: Draw) -> Any:
    tasks, channels = draw.integer(1, 2), draw.integer(1, 2)
    x = draw.array((tasks, draw.integer(2, 3), draw.integer(2, 4), draw.integer(2, 3), channels))
    shape = draw.choice(((channels,), (tasks, channels)))
    # no value near the kink of ReLU: |x_hat| is below 6 for the largest of these images
    return (x, draw.array(shape, 0.3, 0.5), draw.array(shape, 3.0, 4.0)), {}


def _reference(x: Any, gamma: Any, beta: Any) -> Any:
    if gamma.ndim == 2:
        gamma, beta = gamma[:, None, None, None], beta[:, None, None, None]
    centred = x - x.mean((1, 2, 3), keepdims=True)
    z = gamma * centred / np.sqrt((centred**2).mean((1, 2, 3), keepdims=True) + 1e-5) + beta
    rows, columns = z.shape[2] // 2, z.shape[3] // 2
    z = z[:, :, : 2 * rows, : 2 * columns].reshape(*z.shape[:2], rows, 2, columns, 2, -1)
    return np.maximum(z.max((3, 5)), 0)


def _result(x: Any, gamma: Any, beta: Any) -> Any:
    return batch_norm_relu_max_pool2d(x, gamma, beta)[0]


_result.__name__ = "batch_norm_relu_max_pool2d"
_result.__doc__ = batch_norm_relu_max_pool2d.__doc__
record(_result, _images, _reference)
