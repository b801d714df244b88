"""Batch norm by each task's own statistics, then ReLU, then max-pool 2x2, as one operation with two derivatives.

max(relu(z)) = relu(max z), so one number per window decides: `top`, the input that won it. Its window gets the gradient
at the first pixel that equals it, if the pool's value is positive; with the choice fixed, all that is left is the
derivative of batch norm, with x_hat = (x - mean) r, r = 1 / sqrt(var + eps), and N pixels per task:

    q(t) = t - mean(t) - x_hat mean(t x_hat)
    vjp     gx = gamma r q(g),  g_gamma = sum(g x_hat),  g_beta = sum(g)
    vjp2, cotangents U, Ga, Be of these:  xd = r q(U),  rd = -r^2 mean(U x_hat)
            gg = Ga x_hat + gamma xd + Be,  g_gamma = sum(g xd),  g_beta = 0
            gx = (Ga r + gamma rd) q(g) - gamma r (xd mean(g x_hat) + x_hat mean(g xd))
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

from minimeta_kernels.reference.modules import array_module
from minimeta_kernels.registry import register

_PIXELS = (1, 2, 3)


class NormReluPool(NamedTuple):
    """The result, and what its derivatives are made from: the winners' inputs, mean and (biased) variance per task."""

    pooled: Any
    top: Any
    mean: Any
    var: Any


@register("norm_relu_pool", "reference")
def norm_relu_pool(x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5) -> NormReluPool:
    """x [T, B, H, W, C], gamma and beta [T, C] -> [T, B, H // 2, W // 2, C], statistics [T, C]."""
    xp = array_module(x)
    mean, var = xp.mean(x, axis=_PIXELS), xp.var(x, axis=_PIXELS)
    scale = gamma / xp.sqrt(var + eps)
    pooled = top = None
    for window in _windows(x.shape):
        z = (x[window] - _wide(mean)) * _wide(scale) + _wide(beta)
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
    norm = _Norm(x, mean, var, eps)
    g = _unpool(g, top, norm, gamma, beta)
    return _wide(gamma) * norm.r * norm.q(g), norm.sum(g * norm.x_hat), norm.sum(g)


@register("norm_relu_pool_vjp2", "reference")
def norm_relu_pool_vjp2(
    cotangents: tuple[Any, Any, Any], g: Any, top: Any, mean: Any, var: Any, x: Any, gamma: Any, beta: Any, *,
    eps: float = 1e-5,
) -> tuple[Any, Any, Any]:  # fmt: skip
    """The gradients of g, x and gamma (that of beta is zero) for cotangents of the three gradients."""
    norm = _Norm(x, mean, var, eps)
    r, x_hat, gamma_ = norm.r, norm.x_hat, _wide(gamma)
    dense = _unpool(g, top, norm, gamma, beta)
    u, u_gamma, u_beta = cotangents[0], _wide(cotangents[1]), _wide(cotangents[2])
    x_dot = r * norm.q(u)
    r_dot = -r * r * norm.average(u * x_hat)
    gg = _pool(u_gamma * x_hat + gamma_ * x_dot + u_beta, top, norm, gamma, beta)
    gx = (u_gamma * r + gamma_ * r_dot) * norm.q(dense) - gamma_ * r * (
        x_dot * norm.average(dense * x_hat) + x_hat * norm.average(dense * x_dot)
    )
    return gg, gx, norm.sum(dense * x_dot)


class _Norm:
    """x_hat, r and the sums of batch norm, per task and channel."""

    def __init__(self, x: Any, mean: Any, var: Any, eps: float) -> None:
        self.xp = array_module(x)
        self.x, self.mean = x, _wide(mean)
        self.r = _wide(1 / self.xp.sqrt(var + eps))
        self.x_hat = (x - self.mean) * self.r

    def sum(self, t: Any) -> Any:
        return self.xp.sum(t, axis=_PIXELS)

    def average(self, t: Any) -> Any:
        return self.xp.mean(t, axis=_PIXELS, keepdims=True)

    def q(self, t: Any) -> Any:
        return t - self.average(t) - self.x_hat * self.average(t * self.x_hat)


def _wide(channels: Any) -> Any:
    """[T, C] against [T, B, H, W, C]."""
    return channels[:, None, None, None, :]


def _windows(shape: tuple[int, ...]) -> list[tuple[Any, ...]]:
    """One index per position in a window, picking that pixel of every window; what is left over belongs to none."""
    ends = [n // 2 * 2 for n in shape[2:4]]
    return [
        (slice(None), slice(None), slice(a, ends[0], 2), slice(b, ends[1], 2))
        for a, b in itertools.product(range(2), repeat=2)
    ]


def _alive(top: Any, norm: _Norm, gamma: Any, beta: Any) -> Any:
    """Where the pool's value is positive."""
    return (top - norm.mean) * (norm.r * _wide(gamma)) + _wide(beta) > 0


def _unpool(g: Any, top: Any, norm: _Norm, gamma: Any, beta: Any) -> Any:
    """g at the winning pixels, zero elsewhere."""
    xp = norm.xp
    full = xp.zeros_like(norm.x)
    left = xp.where(_alive(top, norm, gamma, beta), g, 0)
    for window in _windows(norm.x.shape):
        won = norm.x[window] == top
        full[window] = xp.where(won, left, 0)
        left = xp.where(won, 0, left)  # of equals the first
    return full


def _pool(t: Any, top: Any, norm: _Norm, gamma: Any, beta: Any) -> Any:
    """t of the winning pixels: the transpose of `_unpool`."""
    xp = norm.xp
    chosen = xp.zeros_like(top)
    open_ = _alive(top, norm, gamma, beta)
    for window in _windows(norm.x.shape):
        won = open_ & (norm.x[window] == top)
        chosen = xp.where(won, t[window], chosen)
        open_ = open_ & ~won
    return chosen
