"""Convolutions and matrix products on a GPU; kernels in products.cu. Each is a derivative of the others.

Of plain matrix products cuBLAS is the better one, but CuPy lets no call of it into a CUDA graph: this is for these, and
for `recordable`, where what a graph shall record runs before.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minimeta_kernels.cuda.entries import enter, refuses
from minimeta_kernels.cuda.source import Source
from minimeta_kernels.reference.convolution import Pads, Pair, output_shape
from minimeta_kernels.reference.modules import array_module
from minimeta_kernels.registry import is_recordable, register

_TILE, _TERMS, _THREADS = 64, 16, 128
_SHARED = 2 * _TERMS * (_TILE + 1)
_SOURCE = Source(
    "products", [*(f"convolution<{{S}}, {p}>" for p in ("Forward", "ByData", "ByWeight")), "matmul<{S}>"],
    numbers=("float", "double"),
)  # fmt: skip


def conv(x: Any, w: Any, *, stride: Pair, pads: Pads) -> Any:
    """x [T, B, H, W, C], w [T, kh, kw, C, O] -> [T, B, H', W', O]."""
    found = (*output_shape(x.shape, w.shape[1:3], stride, pads), w.shape[-1])
    return _convolution("Forward", x, w, found, x.shape, w.shape, found, stride, pads)


def conv_data(g: Any, w: Any, *, stride: Pair, pads: Pads, size: Pair) -> Any:
    """The gradient by the images: g [T, B, H', W', O], w [T, kh, kw, C, O] -> [T, B, *size, C]."""
    found = (*g.shape[:2], *size, w.shape[3])
    return _convolution("ByData", g, w, found, found, w.shape, g.shape, stride, pads)


def conv_weight(x: Any, g: Any, *, stride: Pair, pads: Pads, kernel: Pair) -> Any:
    """The gradient by the weights: x [T, B, H, W, C], g [T, B, H', W', O] -> [T, *kernel, C, O]."""
    found = (len(x), *kernel, x.shape[-1], g.shape[-1])
    return _convolution("ByWeight", x, g, found, x.shape, found, g.shape, stride, pads)


def _convolution(
    problem: str, a: Any, b: Any, found: tuple[int, ...], x: tuple[int, ...], w: tuple[int, ...], y: tuple[int, ...],
    stride: Pair, pads: Pads,
) -> Any:  # fmt: skip
    """`found` is the result's shape among those of images x, weights w and results y."""
    rows, columns = math.prod(found[1:-1]), found[-1]
    geometry = (*x[1:], w[-1], *w[1:3], *stride, pads[0][0], pads[1][0], *y[2:4])
    return _SOURCE.run(
        f"convolution<{{S}}, {problem}>", (-(-columns // _TILE), -(-rows // _TILE), found[0]), _THREADS,
        [a, b], [found], list(map(np.int32, geometry)), _SHARED,
    )[0]  # fmt: skip


def matmul(a: Any, b: Any) -> Any:
    """a @ b, (..., M, K), (..., K, N) -> (..., M, N); leading axes broadcast. Transposed matrices are not copied."""
    (m, k), n = a.shape[-2:], b.shape[-1]
    if k != b.shape[-2]:
        raise ValueError(f"matmul: inner sizes differ: {a.shape} and {b.shape}")
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    (a, steps_of_a), (b, steps_of_b) = _laid_out(a, lead), _laid_out(b, lead)
    return _SOURCE.run(
        "matmul<{S}>", (-(-n // _TILE), -(-m // _TILE), math.prod(lead)), _THREADS, [a, b], [(*lead, m, n)],
        [*map(np.int32, (m, n, k)), *map(np.int64, (*steps_of_a, *steps_of_b))], _SHARED,
    )[0]  # fmt: skip


def _laid_out(x: Any, lead: tuple[int, ...]) -> tuple[Any, tuple[int, int, int]]:
    """The matrices, contiguous or each transposed so, and the steps from one, its rows and its columns to the next."""
    xp = array_module(x)
    one = math.prod(x.shape[:-2]) == 1
    if not one and x.shape[:-2] != lead:
        x = xp.broadcast_to(x, (*lead, *x.shape[-2:]))
    rows, columns = x.shape[-2:]
    item, turned = 0 if one else rows * columns, x.mT.flags.c_contiguous
    return xp.ascontiguousarray(x.mT if turned else x), (item, *((1, rows) if turned else (columns, 1)))


def _refuses_outside_graphs(a: Any, b: Any) -> str | None:
    import cupy

    recorded = is_recordable() or cupy.cuda.get_current_stream().is_capturing()
    return None if recorded else "is slower than cuBLAS, for CUDA graphs only"


register("matmul", "cuda", lambda a, b: refuses("cupy", (a, b)) or _refuses_outside_graphs(a, b))(matmul)
register("matmul", "shim", lambda a, b: refuses("numpy", (a, b)))(matmul)
for _function in (conv, conv_data, conv_weight):
    enter(_function.__name__, _function)
