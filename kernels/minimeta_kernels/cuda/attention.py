"""Attention on a GPU, an episode's keys in shared memory (attention.cu); where they do not fit there, not by this."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from minimeta_kernels.cuda.entries import differentiable, too_large
from minimeta_kernels.cuda.source import Source, shape

_TILE, _WARPS = 16, 8
_SOURCE = Source("attention", ["attention<{S}>", "attention_vjp<{S}>"])


def attention(x: Any, y: Any, v: Any, temperature: float = 1.0, eps: float = 0.0, unit: bool = False) -> Any:
    """softmax(temperature x y^T) v, (B, Q, D), (B, S, D), (B, S, C) -> (B, Q, C)."""
    (batch, queries, dims), (_, rows, values) = shape(x), shape(v)
    return _SOURCE.run(
        "attention<{S}>", (-(-queries // _TILE), batch), 128, [x, y, v], [(batch, queries, values)],
        [*map(np.int32, (queries, rows, dims, values)), float(temperature), np.bool_(unit), float(eps)],
        _held(dims, rows, values),
    )[0]  # fmt: skip


def attention_vjp(
    g: Any, x: Any, y: Any, v: Any, temperature: float = 1.0, eps: float = 0.0, unit: bool = False
) -> tuple[Any, Any, Any]:
    """Gradients of `attention` for x, y and v."""
    (batch, queries, dims), (_, rows, values) = shape(x), shape(v)
    to_x, to_y, to_v = _SOURCE.run(
        "attention_vjp<{S}>", (batch,), 32 * _WARPS, [g, x, y, v], [shape(x), shape(y), shape(v)],
        [*map(np.int32, (queries, rows, dims, values)), float(temperature), np.bool_(unit), float(eps)],
        _held_by_vjp(dims, rows, values),
    )  # fmt: skip
    return to_x, to_y, to_v


def _held(dims: int, rows: int, values: int) -> int:
    """Numbers in shared memory: lines of queries and keys with their lengths, values, weights."""
    return (_TILE + rows) * (dims + 2) + rows * values + _TILE * rows


def _held_by_vjp(dims: int, rows: int, values: int) -> int:
    """Besides, scores, cotangents, the gradients of keys and values, and a line a warp."""
    gradients = rows * (dims + 1 + values) + _WARPS * (dims + 1)
    return _held(dims, rows, values) + _TILE * (rows + values) + gradients


def _refuses(*arrays: Any, **options: Any) -> str | None:
    x, y, v = arrays[-3:]
    held = (_held_by_vjp if len(arrays) > 3 else _held)(x.shape[2], y.shape[1], v.shape[2])
    dual = isinstance(arrays[0], tuple)
    return too_large(held * (1 + dual), x)


def _cosine(function: Any, *arrays: Any, temperature: float = 1.0, eps: float = 1e-8) -> Any:
    return function(*arrays, temperature=temperature, eps=eps, unit=True)


differentiable("attention", attention, attention_vjp, _refuses)
differentiable("cosine_attention", partial(_cosine, attention), partial(_cosine, attention_vjp), _refuses)
