"""Distances and similarities of every row of x (B, Q, D) with every row of y (B, S, D): arrays (B, Q, S)."""

from __future__ import annotations

from typing import Any

from minimeta_kernels.reference.modules import array_module
from minimeta_kernels.registry import register


def transposed(x: Any) -> Any:
    """The matrices of a stack, transposed."""
    return array_module(x).moveaxis(x, -1, -2)


def rowdot(x: Any, y: Any) -> Any:
    """x_i . y_i as a column: (..., N, D) twice -> (..., N, 1)."""
    return array_module(x).sum(x * y, axis=-1, keepdims=True)


def _differences(x: Any, y: Any) -> Any:
    return x[..., :, None, :] - y[..., None, :, :]


@register("sqeuclidean", "reference")
def sqeuclidean(x: Any, y: Any) -> Any:
    """Squared Euclidean distances D_ij = |x_i - y_j|^2, (B, Q, D), (B, S, D) -> (B, Q, S)."""
    xp = array_module(x)
    return xp.sum(xp.square(_differences(x, y)), axis=-1)


@register("sqeuclidean_vjp", "reference")
def sqeuclidean_vjp(g: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """Gradients of `sqeuclidean` for x and y."""
    return _laplacian(g, x, y)


@register("sqeuclidean_vjp2", "reference")
def sqeuclidean_vjp2(cotangents: tuple[Any, Any], g: Any, x: Any, y: Any) -> tuple[Any, Any, Any]:
    """Gradients of `sqeuclidean_vjp` for g, x and y."""
    u, v = cotangents
    return (2 * _products_of_differences(x, y, u, v), *_laplacian(g, u, v))


def _laplacian(g: Any, u: Any, v: Any) -> tuple[Any, Any]:
    """L(G; u, v): 2 sum_j G_ij (u_i - v_j) and 2 sum_i G_ij (v_j - u_i), which is bilinear: its own second order."""
    xp = array_module(g)
    u, v = _centred(u, v)
    of_u = 2 * (xp.sum(g, axis=-1)[..., None] * u - g @ v)
    of_v = 2 * (xp.sum(g, axis=-2)[..., None] * v - transposed(g) @ u)
    return of_u, of_v


def _products_of_differences(x: Any, y: Any, u: Any, v: Any) -> Any:
    """m_ij = (x_i - y_j).(u_i - v_j)."""
    (x, y), (u, v) = _centred(x, y), _centred(u, v)
    return rowdot(x, u) + transposed(rowdot(y, v)) - x @ transposed(v) - u @ transposed(y)


def _centred(x: Any, y: Any) -> tuple[Any, Any]:
    """Both less the mean of y: differences stay the same, and expanded products of them lose no digits."""
    centre = array_module(y).sum(y, axis=-2, keepdims=True) / max(1, y.shape[-2])
    return x - centre, y - centre


@register("euclidean", "reference")
def euclidean(x: Any, y: Any) -> Any:
    """Euclidean distances d_ij = |x_i - y_j|, (B, Q, D), (B, S, D) -> (B, Q, S)."""
    return array_module(x).sqrt(sqeuclidean(x, y))


@register("euclidean_vjp", "reference")
def euclidean_vjp(g: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """Gradients of `euclidean` for x and y: L(G / 2d; x, y), and nothing from pairs that coincide."""
    return _laplacian(g * _reciprocal(euclidean(x, y)) / 2, x, y)


@register("euclidean_vjp2", "reference")
def euclidean_vjp2(cotangents: tuple[Any, Any], g: Any, x: Any, y: Any) -> tuple[Any, Any, Any]:
    """Gradients of `euclidean_vjp` for g, x and y; nothing from pairs that coincide."""
    # gG = m / d;  (gx, gy) = L(G / 2d; u, v) - L(G m / 2d^3; x, y)
    u, v = cotangents
    per_distance = _reciprocal(euclidean(x, y))
    of_g = _products_of_differences(x, y, u, v) * per_distance
    along = _laplacian(g * per_distance / 2, u, v)
    across = _laplacian(g * of_g * per_distance * per_distance / 2, x, y)
    return of_g, along[0] - across[0], along[1] - across[1]


def _reciprocal(d: Any) -> Any:
    """1 / d, and 0 where d is 0."""
    xp = array_module(d)
    zero = d == 0
    return xp.where(zero, xp.zeros_like(d), 1 / xp.where(zero, xp.ones_like(d), d))


@register("l1", "reference")
def l1(x: Any, y: Any) -> Any:
    """Manhattan distances sum_d |x_id - y_jd|, (B, Q, D), (B, S, D) -> (B, Q, S)."""
    xp = array_module(x)
    return xp.sum(xp.abs(_differences(x, y)), axis=-1)


@register("l1_vjp", "reference")
def l1_vjp(g: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """Gradients of `l1` for x and y, with sign(0) = 0."""
    xp = array_module(x)
    signed = g[..., None] * xp.sign(_differences(x, y))
    return xp.sum(signed, axis=-2), -xp.sum(signed, axis=-3)


@register("l1_vjp2", "reference")
def l1_vjp2(cotangents: tuple[Any, Any], g: Any, x: Any, y: Any) -> tuple[Any, Any, Any]:
    """Gradients of `l1_vjp` for g, x and y; those for x and y are zero."""
    xp = array_module(x)
    u, v = cotangents
    return xp.sum(xp.sign(_differences(x, y)) * _differences(u, v), axis=-1), xp.zeros_like(x), xp.zeros_like(y)


@register("cosine", "reference")
def cosine(x: Any, y: Any, eps: float = 1e-8) -> Any:
    """Cosine similarities with the norms sqrt(|x|^2 + eps^2), (B, Q, D), (B, S, D) -> (B, Q, S)."""
    return unit(x, eps)[0] @ transposed(unit(y, eps)[0])


@register("cosine_vjp", "reference")
def cosine_vjp(g: Any, x: Any, y: Any, eps: float = 1e-8) -> tuple[Any, Any]:
    """Gradients of `cosine` for x and y."""
    unit_x, unit_y = unit(x, eps), unit(y, eps)
    return project(unit_x, g @ unit_y[0]), project(unit_y, transposed(g) @ unit_x[0])


@register("cosine_vjp2", "reference")
def cosine_vjp2(cotangents: tuple[Any, Any], g: Any, x: Any, y: Any, eps: float = 1e-8) -> tuple[Any, Any, Any]:
    """Gradients of `cosine_vjp` for g, x and y."""
    # with u' = P_x u, v' = P_y v:
    # gG = u' y^T + x v'^T;  gx = P_x(G v') + H_x(G y, u);  gy = P_y(G^T u') + H_y(G^T x, v), x and y of unit length
    unit_x, unit_y = unit(x, eps), unit(y, eps)
    u, v = cotangents
    pu, pv = project(unit_x, u), project(unit_y, v)
    of_g = pu @ transposed(unit_y[0]) + unit_x[0] @ transposed(pv)
    of_x = project(unit_x, g @ pv) + curve(unit_x, g @ unit_y[0], u)
    of_y = project(unit_y, transposed(g) @ pu) + curve(unit_y, transposed(g) @ unit_x[0], v)
    return of_g, of_x, of_y


def unit(x: Any, eps: float) -> tuple[Any, Any]:
    """x / n and n = sqrt(|x|^2 + eps^2), smooth everywhere."""
    n = array_module(x).sqrt(rowdot(x, x) + eps**2)
    return x / n, n


def project(unit_x: tuple[Any, Any], w: Any) -> Any:
    """P_x(w) = (w - x (x.w)) / n: the derivative of x / n along w; symmetric, so its vjp too."""
    x, n = unit_x
    return (w - x * rowdot(x, w)) / n


def curve(unit_x: tuple[Any, Any], g: Any, u: Any) -> Any:
    """H_x(g, u) = -((x.g) u + (x.u) g + (u.g - 3 (x.g)(x.u)) x) / n^2: the derivative of P_x(g) in x along u."""
    x, n = unit_x
    a, b = rowdot(x, g), rowdot(x, u)
    return -(a * u + b * g + (rowdot(u, g) - 3 * a * b) * x) / n**2
