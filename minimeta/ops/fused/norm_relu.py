"""Batch norm by batch statistics and ReLU in one: what follows a strided convolution or a linear layer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import minimeta_kernels
from minimeta.autodiff.op import op
from minimeta.ops.elementwise import relu
from minimeta.ops.fused.batch_norm import composite, derive, per_task, with_statistics
from minimeta.ops.record import Draw, record
from minimeta.ops.results import Results
from minimeta.ops.shape import reshape


def batch_norm_relu(x: Any, gamma: Any, beta: Any, eps: float = 1e-5) -> tuple[Any, dict[str, Any]]:
    """Batch norm by each task's own statistics, then ReLU.

    x [T, ..., C] with one axis or more between tasks and channels, over which the statistics go; gamma and beta [C], or
    [T, C] per task. Returns an array like x and the statistics {"mean", "var"} [T, C] (variance biased) as constants:
    the gradient through them is part of the result's. Raises ValueError where shapes do not fit.

    >>> y, statistics = batch_norm_relu(np.array([[[0.0], [2.0]]]), np.ones(1), np.zeros(1), eps=0.0)
    >>> y.ravel(), statistics["mean"]
    (array([0., 1.]), array([[1.]]))
    """
    shapes = f"x.shape={x.shape}, gamma.shape={gamma.shape}, beta.shape={beta.shape}"
    fits = ((x.shape[-1],), (x.shape[0], x.shape[-1])) if x.ndim >= 3 else ()
    if gamma.shape not in fits or beta.shape not in fits:
        raise ValueError(f"minimeta.batch_norm_relu: {shapes}; need x [T, ..., C], gamma and beta [C] or [T, C]")
    tasks, *inner, channels = x.shape
    values = math.prod(inner)
    if not values:
        raise ValueError(f"minimeta.batch_norm_relu: {shapes}; the tasks hold no values to take statistics of")
    flat = reshape(x, (tasks, values, channels))
    y, statistics = with_statistics(norm_relu_(flat, *per_task((tasks, channels), gamma, beta), eps=eps))
    return reshape(y, x.shape), statistics


@op(saves="all")
def norm_relu_(xp: Any, x: Any, gamma: Any, beta: Any, *, eps: float) -> Any:
    return Results(tuple(minimeta_kernels.call("norm_relu", x, gamma, beta, eps=eps)))


derive(norm_relu_, lambda *arrays: relu(composite(*arrays)))


def _tasks(draw: Draw) -> Any:
    tasks, channels = draw.integer(1, 2), draw.integer(1, 2)
    x = draw.array((tasks, *draw.choice(((5,), (2, 3), (2, 1, 3))), channels))
    shape = draw.choice(((channels,), (tasks, channels)))
    # channels of either sign, and no value near the kink of ReLU: |x_hat| is below 2.5 for six values
    shift = draw.array(shape, 3.0, 4.0) * draw.choice((-1.0, 1.0, 1.0, 1.0))
    return (x, draw.array(shape, 0.3, 0.5), shift), {}


def _reference(x: Any, gamma: Any, beta: Any) -> Any:
    axes = tuple(range(1, x.ndim - 1))
    if gamma.ndim == 2:
        gamma, beta = np.expand_dims(gamma, axes), np.expand_dims(beta, axes)
    centred = x - x.mean(axes, keepdims=True)
    return np.maximum(gamma * centred / np.sqrt((centred**2).mean(axes, keepdims=True) + 1e-5) + beta, 0)


def _result(x: Any, gamma: Any, beta: Any) -> Any:
    return batch_norm_relu(x, gamma, beta)[0]


_result.__name__, _result.__doc__ = batch_norm_relu.__name__, batch_norm_relu.__doc__
record(_result, _tasks, _reference)
