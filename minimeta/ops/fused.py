"""Operations with a fast path of their own, and a plain composite as their oracle in tests."""

from __future__ import annotations

from typing import Any

from minimeta.autodiff.op import op
from minimeta.ops.linalg import matmul
from minimeta.ops.record import Draw, record
from minimeta.ops.reduce import sum
from minimeta.ops.shape import expand_dims, swapaxes


@op()
def sqeuclidean(xp: Any, x: Any, y: Any) -> Any:
    """Squared Euclidean distances of all pairs: x [..., Q, D], y [..., S, D] -> [..., Q, S], never negative.

    By |x|^2 + |y|^2 - 2 x.y about the mean of y: without centring, points far from the origin lose all digits.
    """
    if x.ndim < 2 or x.ndim != y.ndim or x.shape[:-2] != y.shape[:-2] or x.shape[-1] != y.shape[-1]:
        raise ValueError("need x [..., Q, D] and y [..., S, D] with equal D and leading axes")
    centre = xp.mean(y, axis=-2, keepdims=True) if y.shape[-2] else xp.asarray(0, dtype=y.dtype)
    x, y = x - centre, y - centre
    squares = xp.sum(x * x, axis=-1)[..., :, None] + xp.sum(y * y, axis=-1)[..., None, :]
    return xp.maximum(squares - 2 * xp.matmul(x, xp.swapaxes(y, -1, -2)), 0)


@sqeuclidean.vjp(0)
def _(g: Any, d: Any, x: Any, y: Any) -> Any:
    return (expand_dims(sum(g, axis=-1), -1) * x - matmul(g, y)) * 2


@sqeuclidean.vjp(1)
def _(g: Any, d: Any, x: Any, y: Any) -> Any:
    return (expand_dims(sum(g, axis=-2), -1) * y - matmul(swapaxes(g, -1, -2), x)) * 2


def _two_sets(draw: Draw) -> Any:
    lead, d = draw.shape(max_dims=1), draw.integer(1, 3)
    return tuple(draw.array((*lead, draw.integer(0, 3), d)) for _ in range(2)), {}


record(sqeuclidean, _two_sets, lambda x, y: ((x[..., :, None, :] - y[..., None, :, :]) ** 2).sum(-1))
