"""Max-pooling of the sum of two ReLUs, as of layers with slow and with fast weights (Munkhdalai and Yu, 2017).

    y = the largest of relu(x1) + relu(x2) in every 2 x 2 window, the last ones cut off by the edge;   relu'(0) = 0

Of equals in a window the first is chosen, row by row.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

from minimeta_kernels.reference.modules import array_module
from minimeta_kernels.registry import register

_WINDOW = [(i, j) for i in range(2) for j in range(2)]


@register("relu_sum_pool", "reference")
def relu_sum_pool(x1: Any, x2: Any) -> Any:
    """x1, x2 [B, H, W, C] -> y [B, ceil(H / 2), ceil(W / 2), C]."""
    whole = _whole_windows(x1, x2)
    return reduce(array_module(x1).maximum, [whole[:, i::2, j::2] for i, j in _WINDOW])


@register("relu_sum_pool_vjp", "reference")
def relu_sum_pool_vjp(g: Any, x1: Any, x2: Any) -> tuple[Any, Any]:
    """The gradients by x1 and x2 for the cotangent of y."""
    y, whole = relu_sum_pool(x1, x2), _whole_windows(x1, x2)
    to_sum, left = array_module(x1).zeros_like(whole), g
    for i, j in _WINDOW:
        won = whole[:, i::2, j::2] == y
        to_sum[:, i::2, j::2] = won * left
        left = ~won * left
    to_sum = to_sum[:, : x1.shape[1], : x1.shape[2]]
    return to_sum * (x1 > 0), to_sum * (x2 > 0)


def _whole_windows(x1: Any, x2: Any) -> Any:
    """The sum, with zeros beyond the edges: none of it is smaller, and in a window they come last."""
    xp = array_module(x1)
    batch, height, width, channels = x1.shape
    whole = xp.zeros((batch, height + height % 2, width + width % 2, channels), dtype=x1.dtype)
    whole[:, :height, :width] = xp.maximum(x1, 0) + xp.maximum(x2, 0)
    return whole
