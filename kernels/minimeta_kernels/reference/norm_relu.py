"""Batch norm by each task's own statistics, then ReLU, as one operation with two derivatives.

ReLU lets through where it is positive; with that fixed, what is left is batch norm: reference/batch_norm.py.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from minimeta_kernels.reference.batch_norm import Norm, statistics
from minimeta_kernels.registry import register


class NormRelu(NamedTuple):
    """The result, and what its derivatives are made from besides: mean and (biased) variance per task."""

    y: Any
    mean: Any
    var: Any


@register("norm_relu", "reference")
def norm_relu(x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5) -> NormRelu:
    """x [T, M, C] with M >= 1, gamma and beta [T, C] -> [T, M, C], statistics [T, C]."""
    mean, var = statistics(x)
    norm = Norm(x, mean, var, gamma, beta, eps)
    return NormRelu(norm.xp.maximum(norm.of(x), 0), mean, var)


@register("norm_relu_vjp", "reference")
def norm_relu_vjp(
    g: Any, mean: Any, var: Any, x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5
) -> tuple[Any, Any, Any]:
    """The gradients of x, gamma and beta."""
    norm = Norm(x, mean, var, gamma, beta, eps)
    return norm.vjp(_alive(norm, g))


@register("norm_relu_vjp2", "reference")
def norm_relu_vjp2(
    cotangents: tuple[Any, Any, Any], g: Any, mean: Any, var: Any, x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5
) -> tuple[Any, Any, Any]:
    """The gradients of g, x and gamma (that of beta is zero) for cotangents of the three gradients."""
    norm = Norm(x, mean, var, gamma, beta, eps)
    gg, gx, g_gamma = norm.vjp2(cotangents, _alive(norm, g))
    return _alive(norm, gg), gx, g_gamma


def _alive(norm: Norm, t: Any) -> Any:
    """t where the result is positive, zero elsewhere."""
    return norm.xp.where(norm.of(norm.x) > 0, t, 0)
