"""A perceptron with two hidden layers: a block of examples goes through all layers, and back, in the first caches.

The values of a layer are rows of a matrix, with ones behind them for the bias of the next.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minimeta_kernels import launch
from minimeta_kernels.numba_cpu.blocks import BLOCK, product, put, rows, spans_of, take, tile_columns
from minimeta_kernels.numba_cpu.compiled import compiled, inlined
from minimeta_kernels.numba_cpu.product import padded, transpose
from minimeta_kernels.numba_cpu.tile import PACE
from minimeta_kernels.registry import register


@register("mlp", "numba", launch.refuses)
def mlp(x: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any) -> Any:
    """x [N, D], w1 [D, H1], b1 [H1], w2 [H1, H2], b2 [H2], w3 [H2, O], b3 [O] -> y [N, O]."""
    x, *arrays = launch.contiguous(x, w1, b1, w2, b2, w3, b3)
    layers, spans = _joined(arrays), spans_of(len(x))
    y = np.empty((len(x), len(b3)), x.dtype)
    launch.parallel(_mlp, len(spans) - 1, _work(x, layers), spans, x, *(w.T.copy() for w in layers), y)
    return y


@register("mlp_vjp", "numba", launch.refuses)
def mlp_vjp(g: Any, x: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any) -> tuple[Any, ...]:
    """The gradients by x and all weights for the cotangent of y."""
    g, x, *arrays = launch.contiguous(g, x, w1, b1, w2, b2, w3, b3)
    layers, spans, to_x = _joined(arrays), spans_of(len(x)), np.empty_like(x)
    sums = [np.zeros((len(spans) - 1, w.shape[1], tile_columns(len(w), w.itemsize)), w.dtype) for w in layers]
    launch.parallel(
        _mlp_vjp, len(spans) - 1, 3 * _work(x, layers), spans, g, x, *(w.T.copy() for w in layers[:2]), *layers,
        to_x, *sums,
    )  # fmt: skip
    found = [to_x]
    for w, partial in zip(layers, sums, strict=True):
        total = partial.sum(axis=0).T
        found += [total[: len(w) - 1].copy(), total[len(w) - 1].copy()]
    return tuple(found)


def _joined(arrays: list[Any]) -> list[np.ndarray[Any, Any]]:
    """The weights of each layer, and behind them the bias, [terms + 1, units]."""
    return [np.concatenate([w, b[None]]) for w, b in zip(arrays[::2], arrays[1::2], strict=True)]


def _work(x: Any, layers: list[Any]) -> float:
    """About what one pass forward takes."""
    return float(len(x) * sum(2 * w.size / PACE + w.shape[1] for w in layers))


@compiled
def _mlp(begin: Any, end: Any, spans: Any, x: Any, first_by: Any, second_by: Any, third_by: Any, y: Any) -> None:
    (units1, terms1), (units2, terms2), (outputs, terms3) = first_by.shape, second_by.shape, third_by.shape
    below, h1, h2 = _layer(terms1, x), _layer(terms2, x), _layer(terms3, x)
    z1, z2 = np.empty((units1, BLOCK), x.dtype), np.empty((units2, BLOCK), x.dtype)
    out = np.empty((outputs, BLOCK), x.dtype)
    first_at, second_at, third_at = rows(first_by), rows(second_by), rows(third_by)
    z1_at, z2_at, out_at = rows(z1), rows(z2), rows(out)
    for start in range(spans[begin], spans[end], BLOCK):
        stop = min(start + BLOCK, spans[end])
        take(x[start:stop], below[: terms1 - 1])
        product(first_by, 0, first_at, below, 0, z1, 0, z1_at, terms1, False)
        _relu(z1, h1)
        product(second_by, 0, second_at, h1, 0, z2, 0, z2_at, terms2, False)
        _relu(z2, h2)
        product(third_by, 0, third_at, h2, 0, out, 0, out_at, terms3, False)
        put(out, y[start:stop])


@compiled
def _mlp_vjp(
    begin: Any, end: Any, spans: Any, g: Any, x: Any, first_by: Any, second_by: Any,
    first: Any, second: Any, third: Any, to_x: Any, to_first: Any, to_second: Any, to_third: Any,
) -> None:  # fmt: skip
    (terms1, units1), (terms2, units2), (terms3, outputs) = first.shape, second.shape, third.shape
    below, h1, h2 = _layer(terms1, x), _layer(terms2, x), _layer(terms3, x)
    z1, z2 = np.empty((units1, BLOCK), x.dtype), np.empty((units2, BLOCK), x.dtype)
    to_z1, to_z2 = np.empty_like(z1), np.empty_like(z2)
    to_out, to_below = np.empty((outputs, BLOCK), x.dtype), np.empty((terms1 - 1, BLOCK), x.dtype)
    z1_at, z2_at, out_at, below_at = rows(z1), rows(z2), rows(to_out), rows(to_below)
    first_by_at, second_by_at = rows(first_by), rows(second_by)
    first_at, second_at, third_at = rows(first), rows(second), rows(third)
    to_first_at, to_second_at, to_third_at = rows(to_first[0]), rows(to_second[0]), rows(to_third[0])
    by_below = np.zeros((BLOCK, to_first.shape[2]), x.dtype)
    by_h1, by_h2 = np.zeros((BLOCK, to_second.shape[2]), x.dtype), np.zeros((BLOCK, to_third.shape[2]), x.dtype)
    for span in range(begin, end):
        for start in range(spans[span], spans[span + 1], BLOCK):
            stop = min(start + BLOCK, spans[span + 1])
            take(x[start:stop], below[: terms1 - 1])
            product(first_by, 0, first_by_at, below, 0, z1, 0, z1_at, terms1, False)
            _relu(z1, h1)
            product(second_by, 0, second_by_at, h1, 0, z2, 0, z2_at, terms2, False)
            _relu(z2, h2)
            take(g[start:stop], to_out)
            transpose(h2, by_h2)
            product(to_out, 0, out_at, by_h2, 0, to_third, span * to_third[0].size, to_third_at, BLOCK, True)
            product(third, 0, third_at, to_out, 0, z2, 0, z2_at, outputs, False)
            _relu_vjp(h2, z2, to_z2)
            transpose(h1, by_h1)
            product(to_z2, 0, z2_at, by_h1, 0, to_second, span * to_second[0].size, to_second_at, BLOCK, True)
            product(second, 0, second_at, to_z2, 0, z1, 0, z1_at, units2, False)
            _relu_vjp(h1, z1, to_z1)
            transpose(below, by_below)
            product(to_z1, 0, z1_at, by_below, 0, to_first, span * to_first[0].size, to_first_at, BLOCK, True)
            product(first, 0, first_at, to_z1, 0, to_below, 0, below_at, units1, False)
            put(to_below, to_x[start:stop])


@inlined
def _layer(terms: Any, like: Any) -> Any:
    """Room for what a layer multiplies, the last term ones, and rows of zeros up to whole vectors to transpose."""
    found = np.zeros((padded(terms, like.itemsize), BLOCK), like.dtype)
    found[terms - 1] = 1
    return found


# Not in place, or LLVM makes stores under a mask of the selections, at which some processors are slow.


@inlined
def _relu(z: Any, h: Any) -> None:
    for i in range(len(z)):
        for n in range(BLOCK):
            h[i, n] = 0 if z[i, n] < 0 else z[i, n]  # NaN stays


@inlined
def _relu_vjp(h: Any, g: Any, out: Any) -> None:
    """The gradient before a ReLU, from what came out of it."""
    for i in range(len(g)):
        for n in range(BLOCK):
            out[i, n] = g[i, n] if h[i, n] > 0 else 0
