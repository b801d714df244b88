"""Reading values by the similarity of queries x (B, Q, D) and keys y (B, S, D): softmax(scores) v, v (B, S, C)."""

from __future__ import annotations

from typing import Any

from minimeta_kernels.reference.modules import array_module
from minimeta_kernels.reference.pairwise import curve, project, transposed, unit
from minimeta_kernels.registry import register


@register("attention", "reference")
def attention(x: Any, y: Any, v: Any, temperature: float = 1.0) -> Any:
    """softmax(temperature x y^T) v, (B, Q, D), (B, S, D), (B, S, C) -> (B, Q, C)."""
    return _weights(x, y, temperature) @ v


@register("attention_vjp", "reference")
def attention_vjp(g: Any, x: Any, y: Any, v: Any, temperature: float = 1.0) -> tuple[Any, Any, Any]:
    """Gradients of `attention` for x, y and v."""
    weights = _weights(x, y, temperature)
    scores = temperature * _softmax_vjp(weights, g @ transposed(v))
    return scores @ y, transposed(scores) @ x, transposed(weights) @ g


@register("attention_vjp2", "reference")
def attention_vjp2(
    cotangents: tuple[Any, Any, Any], g: Any, x: Any, y: Any, v: Any, temperature: float = 1.0
) -> tuple[Any, Any, Any, Any]:
    """Gradients of `attention_vjp` for g, x, y and v."""
    of_g, scores, moved, moved_weights = _second_order(cotangents, g, x, y, v, temperature)
    u, w, _ = cotangents
    of_x = moved @ y + scores @ w
    of_y = transposed(moved) @ x + transposed(scores) @ u
    return of_g, of_x, of_y, transposed(moved_weights) @ g


@register("cosine_attention", "reference")
def cosine_attention(x: Any, y: Any, v: Any, temperature: float = 1.0, eps: float = 1e-8) -> Any:
    """softmax(temperature cosine(x, y)) v, (B, Q, D), (B, S, D), (B, S, C) -> (B, Q, C)."""
    return attention(unit(x, eps)[0], unit(y, eps)[0], v, temperature)


@register("cosine_attention_vjp", "reference")
def cosine_attention_vjp(
    g: Any, x: Any, y: Any, v: Any, temperature: float = 1.0, eps: float = 1e-8
) -> tuple[Any, Any, Any]:
    """Gradients of `cosine_attention` for x, y and v: those of `attention` at the unit rows, through P."""
    unit_x, unit_y = unit(x, eps), unit(y, eps)
    of_x, of_y, of_v = attention_vjp(g, unit_x[0], unit_y[0], v, temperature)
    return project(unit_x, of_x), project(unit_y, of_y), of_v


@register("cosine_attention_vjp2", "reference")
def cosine_attention_vjp2(
    cotangents: tuple[Any, Any, Any], g: Any, x: Any, y: Any, v: Any, temperature: float = 1.0, eps: float = 1e-8
) -> tuple[Any, Any, Any, Any]:
    """Gradients of `cosine_attention_vjp` for g, x, y and v: those of `attention_vjp` through P, and H."""
    unit_x, unit_y = unit(x, eps), unit(y, eps)
    u, w, z = cotangents
    along = (project(unit_x, u), project(unit_y, w), z)
    of_g, of_x, of_y, of_v = attention_vjp2(along, g, unit_x[0], unit_y[0], v, temperature)
    first_x, first_y, _ = attention_vjp(g, unit_x[0], unit_y[0], v, temperature)
    of_x = project(unit_x, of_x) + curve(unit_x, first_x, u)
    of_y = project(unit_y, of_y) + curve(unit_y, first_y, w)
    return of_g, of_x, of_y, of_v


def _weights(x: Any, y: Any, temperature: float) -> Any:
    """A = softmax(temperature x y^T) over the keys, the largest score subtracted; no weights where there is no key."""
    xp = array_module(x)
    scores = temperature * (x @ transposed(y))
    if scores.shape[-1] == 0:
        return scores
    weights = xp.exp(scores - xp.max(scores, axis=-1, keepdims=True))
    return weights / xp.sum(weights, axis=-1, keepdims=True)


def _softmax_vjp(weights: Any, g: Any) -> Any:
    """A (g - sum_j A_j g_j): the vjp of softmax, and its jvp."""
    return weights * (g - array_module(g).sum(weights * g, axis=-1, keepdims=True))


def _second_order(
    cotangents: tuple[Any, Any, Any], g: Any, x: Any, y: Any, v: Any, temperature: float
) -> tuple[Any, Any, Any, Any]:
    """Of `attention` and of the gradient for its scores: values and derivatives along the cotangents (u, w, z).

    With tangents (u, w, z) of (x, y, v) and none of g: the tangent of the result (the gradient for g), the scores'
    gradient G and its tangent, and the tangent of the weights.
    """
    # dS = temperature (u y^T + x w^T);  dA = A (dS - rowsum(A dS));  dO = dA v + A z
    # with a = g v^T, delta = rowsum(A a):  G = temperature A (a - delta)
    # dG = temperature (dA (a - delta) + A (g z^T - rowsum(dA a + A g z^T)))
    xp = array_module(x)
    u, w, z = cotangents
    weights = _weights(x, y, temperature)
    moved_weights = _softmax_vjp(weights, temperature * (u @ transposed(y) + x @ transposed(w)))
    a, moved_a = g @ transposed(v), g @ transposed(z)
    centred = a - xp.sum(weights * a, axis=-1, keepdims=True)
    moved_delta = xp.sum(moved_weights * a + weights * moved_a, axis=-1, keepdims=True)
    scores = temperature * weights * centred
    moved = temperature * (moved_weights * centred + weights * (moved_a - moved_delta))
    return moved_weights @ v + weights @ z, scores, moved, moved_weights
