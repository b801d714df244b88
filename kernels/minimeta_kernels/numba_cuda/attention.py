"""Cosine attention: one thread a query, which keeps its largest score and its sums as keys go by ("online softmax").

Equations: reference/attention.py. The gradient goes by the keys twice: first for the softmax's sums, then for its own.
"""

from __future__ import annotations

import math
from typing import Any

from minimeta_kernels.numba_cuda.launch import THREADS, compiled, cuda, device, entry, run
from minimeta_kernels.reference.modules import array_module


@compiled
def _inverse_lengths(x: Any, eps: Any, out: Any) -> None:
    # out [B, N] = 1 / sqrt(|x|^2 + eps^2), one thread a row
    n, b = cuda.grid(2)
    if n < x.shape[1]:
        squares = eps * eps
        for d in range(x.shape[2]):
            squares += x[b, n, d] * x[b, n, d]
        out[b, n] = 1 / math.sqrt(squares)


@device
def _score(x: Any, y: Any, x_scale: Any, y_scale: Any, temperature: Any) -> Any:
    total = x[0] * 0
    for d in range(x.shape[0]):
        total += x[d] * y[d]
    return temperature * x_scale * y_scale * total


@compiled
def _attend(x: Any, y: Any, v: Any, x_scale: Any, y_scale: Any, temperature: Any, out: Any, log_sum: Any) -> None:
    q, b = cuda.grid(2)
    if q < x.shape[1]:
        for c in range(v.shape[2]):
            out[b, q, c] = 0
        largest, total = -math.inf, 0.0
        for s in range(y.shape[1]):
            score = _score(x[b, q], y[b, s], x_scale[b, q], y_scale[b, s], temperature)
            if score > largest:  # what has been summed so far was relative to the largest then
                shrink = math.exp(largest - score)
                total *= shrink
                for c in range(v.shape[2]):
                    out[b, q, c] *= shrink
                largest = score
            weight = math.exp(score - largest)
            total += weight
            for c in range(v.shape[2]):
                out[b, q, c] += weight * v[b, s, c]
        for c in range(v.shape[2]):
            out[b, q, c] /= total
        log_sum[b, q] = largest + math.log(total)


@compiled
def _slopes(
    g: Any, x: Any, y: Any, v: Any, x_scale: Any, y_scale: Any, temperature: Any, out: Any, log_sum: Any,
    weights: Any, slopes: Any,
) -> None:  # fmt: skip
    # one thread a pair: its weight A, and the gradient of its score, temperature A (g . v - g . out)
    s, q, b = cuda.grid(3)
    if s < y.shape[1] and q < x.shape[1]:
        score = _score(x[b, q], y[b, s], x_scale[b, q], y_scale[b, s], temperature)
        weight, pulled = math.exp(score - log_sum[b, q]), g[b, q, 0] * 0
        for c in range(v.shape[2]):
            pulled += g[b, q, c] * (v[b, s, c] - out[b, q, c])
        weights[b, q, s] = weight
        slopes[b, q, s] = temperature * weight * pulled


@compiled
def _to_values(weights: Any, g: Any, to_v: Any) -> None:
    c, s, b = cuda.grid(3)
    if c < to_v.shape[2] and s < to_v.shape[1]:
        total = g[b, 0, c] * 0
        for q in range(g.shape[1]):
            total += weights[b, q, s] * g[b, q, c]
        to_v[b, s, c] = total


@compiled
def _to_rows(slopes: Any, x: Any, y: Any, x_scale: Any, y_scale: Any, to_x: Any) -> None:
    # one thread a row of x: the sum over s of its slopes times unit rows of y, less what lies along x itself
    q, b = cuda.grid(2)
    if q < x.shape[1]:
        along = x[b, q, 0] * 0
        for d in range(x.shape[2]):
            total = along * 0
            for s in range(y.shape[1]):
                total += slopes[b, q, s] * y_scale[b, s] * y[b, s, d]
            to_x[b, q, d] = total
            along += total * x[b, q, d] * x_scale[b, q]
        for d in range(x.shape[2]):
            to_x[b, q, d] = (to_x[b, q, d] - along * x[b, q, d] * x_scale[b, q]) * x_scale[b, q]


def _rows(x: Any) -> tuple[int, int]:
    """A grid of one thread a row."""
    return -(-x.shape[1] // THREADS), len(x)


def _scales(x: Any, eps: float) -> Any:
    scale = array_module(x).empty(x.shape[:2], x.dtype)
    run(_inverse_lengths, _rows(x), (THREADS, 1), x, x.dtype.type(eps), scale)
    return scale


def _forward(x: Any, y: Any, v: Any, temperature: float, eps: float) -> tuple[Any, ...]:
    xp = array_module(x)
    scales = _scales(x, eps), _scales(y, eps)
    out, log_sum = xp.empty((*x.shape[:2], v.shape[2]), x.dtype), xp.empty(x.shape[:2], x.dtype)
    run(_attend, _rows(x), (THREADS, 1), x, y, v, *scales, x.dtype.type(temperature), out, log_sum)
    return *scales, out, log_sum


@entry("cosine_attention")
def cosine_attention(x: Any, y: Any, v: Any, temperature: float = 1.0, eps: float = 1e-8) -> Any:
    """softmax(temperature cosine(x, y)) v, [B, Q, D], [B, S, D], [B, S, C] -> [B, Q, C]."""
    return _forward(x, y, v, temperature, eps)[2]


@entry("cosine_attention_vjp")
def cosine_attention_vjp(
    g: Any, x: Any, y: Any, v: Any, temperature: float = 1.0, eps: float = 1e-8
) -> tuple[Any, Any, Any]:
    """The gradients by x, y and v."""
    xp = array_module(x)
    x_scale, y_scale, out, log_sum = _forward(x, y, v, temperature, eps)
    weights, slopes = (xp.empty((*x.shape[:2], y.shape[1]), x.dtype) for _ in range(2))
    side = math.isqrt(THREADS)
    pairs = (-(-y.shape[1] // side), -(-x.shape[1] // side), len(x))
    scale = x.dtype.type(temperature)
    run(_slopes, pairs, (side, side, 1), g, x, y, v, x_scale, y_scale, scale, out, log_sum, weights, slopes)
    to_x, to_y, to_v = map(xp.empty_like, (x, y, v))
    run(_to_values, (-(-v.shape[2] // side), -(-y.shape[1] // side), len(x)), (side, side, 1), weights, g, to_v)
    run(_to_rows, _rows(x), (THREADS, 1), slopes, x, y, x_scale, y_scale, to_x)
    turned = xp.ascontiguousarray(xp.swapaxes(slopes, 1, 2))
    run(_to_rows, _rows(y), (THREADS, 1), turned, y, x, y_scale, x_scale, to_y)
    return to_x, to_y, to_v
