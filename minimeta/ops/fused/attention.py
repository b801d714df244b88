"""Attention: values read by the similarity of queries and keys."""

from __future__ import annotations

from typing import Any

import numpy as np

import minimeta_kernels
from minimeta.autodiff.op import Operation, op
from minimeta.ops.fused.derivatives import derive
from minimeta.ops.fused.matmul import matmul
from minimeta.ops.fused.pairwise import as_batch, check_pairs, unit
from minimeta.ops.nn import softmax
from minimeta.ops.record import Draw, record
from minimeta.ops.shape import reshape, swapaxes


def attention(x: Any, y: Any, v: Any, temperature: float = 1.0) -> Any:
    """softmax(temperature x y^T) v: queries x [..., Q, D], keys y [..., S, D], values v [..., S, C] -> [..., Q, C].

    Raises ValueError where shapes do not fit, or there is no key.

    >>> attention(np.array([[9.0, 0.0]]), np.eye(2), np.array([[1.0], [2.0]]), temperature=9.0)
    array([[1.]])
    """
    return _of_sets(attention_, x, y, v, temperature=temperature)


def cosine_attention(x: Any, y: Any, v: Any, temperature: float = 1.0, eps: float = 1e-8) -> Any:
    """softmax(temperature cosine(x, y)) v (Vinyals et al., 2016, equation 1); shapes as `attention`, eps as `cosine`.

    >>> cosine_attention(np.array([[3.0, 0.0]]), np.eye(2), np.eye(2)).round(3)
    array([[0.731, 0.269]])
    """
    return _of_sets(cosine_attention_, x, y, v, temperature=temperature, eps=eps)


def _of_sets(operation: Operation, x: Any, y: Any, v: Any, **options: Any) -> Any:
    name = operation.op.name
    check_pairs(name, x, y)
    if v.ndim != y.ndim or v.shape[:-1] != y.shape[:-1] or not v.shape[-2]:
        raise ValueError(
            f"minimeta.{name}: y.shape={y.shape}, v.shape={v.shape}; need one value per key, and at least one key"
        )
    result = operation(*as_batch(x, y, v), **options)
    return result if x.ndim == 3 else reshape(result, (*x.shape[:-1], v.shape[-1]))


@op()
def attention_(xp: Any, x: Any, y: Any, v: Any, *, temperature: float) -> Any:
    return minimeta_kernels.call("attention", x, y, v, temperature=temperature)


@op()
def cosine_attention_(xp: Any, x: Any, y: Any, v: Any, *, temperature: float, eps: float) -> Any:
    return minimeta_kernels.call("cosine_attention", x, y, v, temperature=temperature, eps=eps)


def _composite(x: Any, y: Any, v: Any, temperature: float) -> Any:
    return matmul(softmax(matmul(x, swapaxes(y, -1, -2)) * temperature), v)


derive(attention_, _composite)
derive(cosine_attention_, lambda x, y, v, temperature, eps: _composite(unit(x, eps), unit(y, eps), v, temperature))


def _three_sets(draw: Draw) -> Any:
    lead, d, keys = draw.shape(max_dims=2), draw.integer(1, 3), draw.integer(1, 3)
    x = draw.array((*lead, draw.integer(0, 3), d), 0.5, 2.0)
    y = draw.array((*lead, keys, d), -2.0, -0.5)
    v = draw.array((*lead, keys, draw.integer(0, 2)))
    return (x, y, v), {"temperature": draw.choice((0.5, 1.0, 3.0))}


def _reference(x: Any, y: Any, v: Any, temperature: float) -> Any:
    weights = np.exp(temperature * np.einsum("...qd,...sd->...qs", x, y))
    return np.einsum("...qs,...sc->...qc", weights / weights.sum(-1, keepdims=True), v)


def _cosine_reference(x: Any, y: Any, v: Any, temperature: float) -> Any:
    x, y = (a / np.sqrt((a * a).sum(-1, keepdims=True)) for a in (x, y))
    return _reference(x, y, v, temperature)


record(attention, _three_sets, _reference)
record(cosine_attention, _three_sets, _cosine_reference)
