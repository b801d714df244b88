"""Distances and similarities of all pairs of two sets of vectors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import minimeta_kernels
from minimeta.autodiff.op import Operation, op
from minimeta.ops.elementwise import abs, sqrt, square
from minimeta.ops.fused.derivatives import derive
from minimeta.ops.fused.matmul import matmul
from minimeta.ops.record import Draw, record
from minimeta.ops.reduce import sum
from minimeta.ops.shape import expand_dims, reshape, swapaxes


def sqeuclidean(x: Any, y: Any) -> Any:
    """Squared Euclidean distances of all pairs: x [..., Q, D], y [..., S, D] -> [..., Q, S], never negative.

    Raises ValueError where shapes do not fit.

    >>> sqeuclidean(np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([[0.0, 0.0]]))
    array([[ 0.],
           [25.]])
    """
    return _of_pairs(sqeuclidean_, x, y)


def euclidean(x: Any, y: Any) -> Any:
    """Euclidean distances of all pairs, shapes as `sqeuclidean`; gradients of both orders are 0 where points coincide.

    >>> euclidean(np.array([[3.0, 4.0]]), np.array([[0.0, 0.0]]))
    array([[5.]])
    """
    return _of_pairs(euclidean_, x, y)


def l1(x: Any, y: Any) -> Any:
    """Sums of absolute differences of all pairs, shapes as `sqeuclidean`; the slope at equal coordinates is 0.

    >>> l1(np.array([[3.0, 4.0]]), np.array([[0.0, 0.0]]))
    array([[7.]])
    """
    return _of_pairs(l1_, x, y)


def cosine(x: Any, y: Any, eps: float = 1e-8) -> Any:
    """Cosines of all pairs, shapes as `sqeuclidean`, with norms sqrt(|x|^2 + eps^2): smooth, and 0 for zero vectors.

    >>> cosine(np.array([[3.0, 4.0], [0.0, 0.0]]), np.array([[2.0, 0.0]]))
    array([[0.6],
           [0. ]])
    """
    return _of_pairs(cosine_, x, y, eps=eps)


def check_pairs(name: str, x: Any, y: Any) -> None:
    """Raises ValueError unless x [..., Q, D] and y [..., S, D] can be paired."""
    if x.ndim < 2 or x.ndim != y.ndim or x.shape[:-2] != y.shape[:-2] or x.shape[-1] != y.shape[-1]:
        raise ValueError(
            f"minimeta.{name}: x.shape={x.shape}, y.shape={y.shape}; "
            "need x [..., Q, D] and y [..., S, D] with equal D and leading axes"
        )


def as_batch(*arrays: Any) -> tuple[Any, ...]:
    """Arrays [..., N, D] with their leading axes folded into one."""
    return tuple(a if a.ndim == 3 else reshape(a, (math.prod(a.shape[:-2]), *a.shape[-2:])) for a in arrays)


def _of_pairs(operation: Operation, x: Any, y: Any, **options: Any) -> Any:
    check_pairs(operation.op.name, x, y)
    result = operation(*as_batch(x, y), **options)
    return result if x.ndim == 3 else reshape(result, (*x.shape[:-1], y.shape[-2]))


@op()
def sqeuclidean_(xp: Any, x: Any, y: Any) -> Any:
    return minimeta_kernels.call("sqeuclidean", x, y)


@op()
def euclidean_(xp: Any, x: Any, y: Any) -> Any:
    return minimeta_kernels.call("euclidean", x, y)


@op()
def l1_(xp: Any, x: Any, y: Any) -> Any:
    return minimeta_kernels.call("l1", x, y)


@op()
def cosine_(xp: Any, x: Any, y: Any, *, eps: float) -> Any:
    return minimeta_kernels.call("cosine", x, y, eps=eps)


def _differences(x: Any, y: Any) -> Any:
    return expand_dims(x, -2) - expand_dims(y, -3)


def unit(x: Any, eps: float) -> Any:
    """x [..., D] divided by its smooth norm sqrt(|x|^2 + eps^2)."""
    return x / sqrt(sum(square(x), axis=-1, keepdims=True) + eps * eps)


derive(sqeuclidean_, lambda x, y: sum(square(_differences(x, y)), axis=-1))
derive(euclidean_, lambda x, y: sqrt(sum(square(_differences(x, y)), axis=-1)))
derive(l1_, lambda x, y: sum(abs(_differences(x, y)), axis=-1))
derive(cosine_, lambda x, y, eps: matmul(unit(x, eps), swapaxes(unit(y, eps), -1, -2)))


def _two_sets(draw: Draw) -> Any:
    lead, d = draw.shape(max_dims=2), draw.integer(1, 3)
    return tuple(draw.array((*lead, draw.integer(0, 3), d)) for _ in range(2)), {}


def _apart(draw: Draw) -> Any:
    """Sets that share no coordinate: differences of them have no kink nearby."""
    lead, d = draw.shape(max_dims=2), draw.integer(1, 3)
    x = draw.array((*lead, draw.integer(0, 3), d), 0.5, 2.0)
    y = draw.array((*lead, draw.integer(0, 3), d), -2.0, -0.5)
    return (x, y), {}


def _one_by_one(distance: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda x, y: distance(x[..., :, None, :], y[..., None, :, :])


def _cosine_of(x: Any, y: Any) -> Any:
    return (x * y).sum(-1) / np.sqrt((x * x).sum(-1) * (y * y).sum(-1))


record(sqeuclidean, _two_sets, _one_by_one(lambda x, y: ((x - y) ** 2).sum(-1)))
record(euclidean, _apart, _one_by_one(lambda x, y: np.sqrt(((x - y) ** 2).sum(-1))))
record(l1, _apart, _one_by_one(lambda x, y: np.abs(x - y).sum(-1)))
record(cosine, _apart, _one_by_one(_cosine_of))
