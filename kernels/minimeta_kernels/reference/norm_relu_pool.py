"""Batch norm by each task's own statistics, then ReLU, then max-pool 2x2, as one operation with two derivatives.

max(relu(z)) = relu(max z), so one number per window decides: `top`, the input that won it. Its window gets the gradient
at the first pixel that equals it, if the pool's value is positive; with the choice fixed, all that is left is the
derivative of batch norm: reference/batch_norm.py.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

from minimeta_kernels.reference.batch_norm import Norm, statistics
from minimeta_kernels.registry import register


class NormReluPool(NamedTuple):
    """The result, and what its derivatives are made from: the winners' inputs, mean and (biased) variance per task."""

    pooled: Any
    top: Any
    mean: Any
    var: Any


@register("norm_relu_pool", "reference")
def norm_relu_pool(x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5) -> NormReluPool:
    """x [T, B, H, W, C], gamma and beta [T, C] -> [T, B, H // 2, W // 2, C], statistics [T, C]."""
    mean, var = statistics(x)
    norm = Norm(x, mean, var, gamma, beta, eps)
    xp = norm.xp
    pooled = top = None
    for window in _windows(x.shape):
        z = norm.of(x[window])
        if pooled is None:
            pooled, top = z, x[window]
        else:
            pooled, top = xp.maximum(pooled, z), xp.where(z > pooled, x[window], top)
    return NormReluPool(xp.maximum(pooled, 0), xp.asarray(top, copy=True), mean, var)


@register("norm_relu_pool_vjp", "reference")
def norm_relu_pool_vjp(
    g: Any, top: Any, mean: Any, var: Any, x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5
) -> tuple[Any, Any, Any]:
    """The gradients of x, gamma and beta."""
    norm = Norm(x, mean, var, gamma, beta, eps)
    return norm.vjp(_unpool(g, top, norm))


@register("norm_relu_pool_vjp2", "reference")
def norm_relu_pool_vjp2(
    cotangents: tuple[Any, Any, Any], g: Any, top: Any, mean: Any, var: Any, x: Any, gamma: Any, beta: Any, *,
    eps: float = 1e-5,
) -> tuple[Any, Any, Any]:  # fmt: skip
    """The gradients of g, x and gamma (that of beta is zero) for cotangents of the three gradients."""
    norm = Norm(x, mean, var, gamma, beta, eps)
    gg, gx, g_gamma = norm.vjp2(cotangents, _unpool(g, top, norm))
    return _pool(gg, top, norm), gx, g_gamma


def _windows(shape: tuple[int, ...]) -> list[tuple[Any, ...]]:
    """One index per position in a window, picking that pixel of every window; what is left over belongs to none."""
    ends = [n // 2 * 2 for n in shape[2:4]]
    return [
        (slice(None), slice(None), slice(a, ends[0], 2), slice(b, ends[1], 2))
        for a, b in itertools.product(range(2), repeat=2)
    ]


def _unpool(g: Any, top: Any, norm: Norm) -> Any:
    """g at the winning pixels, zero elsewhere."""
    xp = norm.xp
    full = xp.zeros_like(norm.x)
    left = xp.where(norm.of(top) > 0, g, 0)
    for window in _windows(norm.x.shape):
        won = norm.x[window] == top
        full[window] = xp.where(won, left, 0)
        left = xp.where(won, 0, left)  # of equals the first
    return full


def _pool(t: Any, top: Any, norm: Norm) -> Any:
    """t of the winning pixels: the transpose of `_unpool`."""
    xp = norm.xp
    chosen = xp.zeros_like(top)
    open_ = norm.of(top) > 0
    for window in _windows(norm.x.shape):
        won = open_ & (norm.x[window] == top)
        chosen = xp.where(won, t[window], chosen)
        open_ = open_ & ~won
    return chosen
