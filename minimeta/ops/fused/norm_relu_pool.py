"""Batch norm by batch statistics, ReLU and max-pool in one: what follows the convolution in every conv block."""

from __future__ import annotations

from typing import Any

import numpy as np

import minimeta_kernels
from minimeta.autodiff import Tensor, vjp
from minimeta.autodiff.op import op
from minimeta.autodiff.primitives import broadcast_to
from minimeta.ops.conv import max_pool2d
from minimeta.ops.elementwise import relu
from minimeta.ops.fused.derivatives import fill
from minimeta.ops.nn import batch_norm
from minimeta.ops.record import Draw, record
from minimeta.ops.reduce import mean, var
from minimeta.ops.results import Results, part
from minimeta.ops.shape import reshape


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
    per_task = (x.shape[0], x.shape[-1])
    gamma, beta = (p if p.ndim == 2 else broadcast_to(p, shape=per_task) for p in (gamma, beta))
    results = _norm_relu_pool(x, gamma, beta, eps=eps)
    held = results.data if type(results) is Tensor else results
    return part(results, 0), {"mean": held.arrays[2], "var": held.arrays[3]}


def _composite(x: Any, gamma: Any, beta: Any, eps: float) -> Any:
    """The same by ordinary operations; gamma and beta [T, C]."""
    gamma, beta = (reshape(p, (p.shape[0], 1, 1, 1, p.shape[1])) for p in (gamma, beta))
    axes = (1, 2, 3)
    y = batch_norm(x, gamma, beta, mean(x, axes, keepdims=True), var(x, axes, keepdims=True), eps=eps)
    return relu(max_pool2d(y))


@op(saves="all")
def _norm_relu_pool(xp: Any, x: Any, gamma: Any, beta: Any, *, eps: float) -> Any:
    return Results(tuple(minimeta_kernels.call("norm_relu_pool", x, gamma, beta, eps=eps)))


@_norm_relu_pool.vjp()
def _(g: Any, y: Any, x: Any, gamma: Any, beta: Any, eps: float) -> Any:
    _, *saved = (y.data if type(y) is Tensor else y).arrays  # functions of x, but the kernels see to that themselves
    arrays = (part(g, 0), *saved, x, gamma, beta)
    if type(g) is not Tensor:
        return minimeta_kernels.call("norm_relu_pool_vjp", *arrays, eps=eps)
    gradients = _norm_relu_pool_vjp(*arrays, eps=eps)
    return tuple(part(gradients, i) for i in range(3))


@op()
def _norm_relu_pool_vjp(
    xp: Any, g: Any, top: Any, mean: Any, var: Any, x: Any, gamma: Any, beta: Any, *, eps: float
) -> Any:
    return Results(minimeta_kernels.call("norm_relu_pool_vjp", g, top, mean, var, x, gamma, beta, eps=eps))


@_norm_relu_pool_vjp.vjp()
def _(
    v: Any, y: Any, g: Any, top: Any, mean: Any, var: Any, x: Any, gamma: Any, beta: Any, eps: float
) -> Any:
    cotangents = fill([part(v, i) for i in range(3)], (x, gamma, beta))
    if type(v) is not Tensor:
        arrays = (g, top, mean, var, x, gamma, beta)
        gg, gx, ggamma = minimeta_kernels.call("norm_relu_pool_vjp2", cotangents, *arrays, eps=eps)
        return gg, None, None, None, gx, ggamma, None

    def plain(g: Any, *arrays: Any) -> tuple[Any, ...]:
        return vjp(lambda x, gamma, beta: _composite(x, gamma, beta, eps), *arrays)[1](g)

    gg, gx, ggamma, gbeta = vjp(plain, g, x, gamma, beta)[1](cotangents)
    return gg, None, None, None, gx, ggamma, gbeta


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
