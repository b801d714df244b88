"""Batch norm by each task's own statistics: x_hat, its sums, and its derivatives, for what is fused with it.

With x_hat = (x - mean) r, r = 1 / sqrt(var + eps), statistics over all axes but the tasks' and the channels':

    q(t) = t - mean(t) - x_hat mean(t x_hat)
    vjp     gx = gamma r q(g),  g_gamma = sum(g x_hat),  g_beta = sum(g)
    vjp2, cotangents U, Ga, Be of these:  xd = r q(U),  rd = -r^2 mean(U x_hat)
            gg = Ga x_hat + gamma xd + Be,  g_gamma = sum(g xd),  g_beta = 0
            gx = (Ga r + gamma rd) q(g) - gamma r (xd mean(g x_hat) + x_hat mean(g xd))
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from minimeta_kernels.reference.modules import array_module


def statistics(x: Any) -> tuple[Any, Any]:
    """Mean and (biased) variance [T, C] of x [T, ..., C]."""
    xp, axes = array_module(x), _inner(x)
    return xp.mean(x, axis=axes), xp.var(x, axis=axes)


def wide(channels: Any, ndim: int) -> Any:
    """[T, C] against [T, ..., C] of `ndim` axes."""
    return channels[(slice(None), *(None,) * (ndim - 2))]


def _inner(x: Any) -> tuple[int, ...]:
    return tuple(range(1, x.ndim - 1))


class Norm:
    """Batch norm of x [T, ..., C] by statistics [T, C], and its derivatives."""

    def __init__(self, x: Any, mean: Any, var: Any, gamma: Any, beta: Any, eps: float) -> None:
        self.xp = array_module(x)
        self.x, self.axes = x, _inner(x)
        self.mean, self.gamma, self.beta = (wide(a, x.ndim) for a in (mean, gamma, beta))
        self.r = wide(1 / self.xp.sqrt(var + eps), x.ndim)

    @cached_property
    def x_hat(self) -> Any:
        return (self.x - self.mean) * self.r

    def of(self, values: Any) -> Any:
        """The normalised of x, or of a choice of its pixels."""
        return (values - self.mean) * (self.r * self.gamma) + self.beta

    def vjp(self, g: Any) -> tuple[Any, Any, Any]:
        """The gradients of x, gamma and beta."""
        return self.gamma * self.r * self._q(g), self._sum(g * self.x_hat), self._sum(g)

    def vjp2(self, cotangents: tuple[Any, Any, Any], g: Any) -> tuple[Any, Any, Any]:
        """The gradients of g, x and gamma for cotangents of the three gradients."""
        r, x_hat, gamma = self.r, self.x_hat, self.gamma
        u, *others = cotangents
        u_gamma, u_beta = (wide(a, u.ndim) for a in others)
        x_dot = r * self._q(u)
        r_dot = -r * r * self._average(u * x_hat)
        gx = (u_gamma * r + gamma * r_dot) * self._q(g) - gamma * r * (
            x_dot * self._average(g * x_hat) + x_hat * self._average(g * x_dot)
        )
        return u_gamma * x_hat + gamma * x_dot + u_beta, gx, self._sum(g * x_dot)

    def _sum(self, t: Any) -> Any:
        return self.xp.sum(t, axis=self.axes)

    def _average(self, t: Any) -> Any:
        return self.xp.mean(t, axis=self.axes, keepdims=True)

    def _q(self, t: Any) -> Any:
        return t - self._average(t) - self.x_hat * self._average(t * self.x_hat)
