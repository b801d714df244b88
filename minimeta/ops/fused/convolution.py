"""The three operations of convolution, each other's derivatives, on kernels.

<g, conv(x, w)> = <conv_data(g, w), x> = <conv_weight(x, g), w>: so any order comes for free.
"""

from __future__ import annotations

from typing import Any

import minimeta_kernels
from minimeta.autodiff.op import op

Pair = tuple[int, int]
Pads = tuple[Pair, Pair]  # ((top, bottom), (left, right))


@op()
def conv(xp: Any, x: Any, w: Any, *, stride: Pair, pads: Pads) -> Any:
    """x [T, B, H, W, C], w [T, kh, kw, C, O] -> [T, B, H', W', O]."""
    return minimeta_kernels.call("conv", x, w, stride=stride, pads=pads)


@op()
def conv_data(xp: Any, g: Any, w: Any, *, stride: Pair, pads: Pads, size: Pair) -> Any:
    """The gradient of `conv` by its images: g [T, B, H', W', O], w [T, kh, kw, C, O] -> [T, B, *size, C]."""
    return minimeta_kernels.call("conv_data", g, w, stride=stride, pads=pads, size=size)


@op()
def conv_weight(xp: Any, x: Any, g: Any, *, stride: Pair, pads: Pads, kernel: Pair) -> Any:
    """The gradient of `conv` by its weights: x [T, B, H, W, C], g [T, B, H', W', O] -> [T, *kernel, C, O]."""
    return minimeta_kernels.call("conv_weight", x, g, stride=stride, pads=pads, kernel=kernel)


@conv.vjp(0)
def _(g: Any, y: Any, x: Any, w: Any, stride: Pair, pads: Pads) -> Any:
    return conv_data(g, w, stride=stride, pads=pads, size=tuple(x.shape[2:4]))


@conv.vjp(1)
def _(g: Any, y: Any, x: Any, w: Any, stride: Pair, pads: Pads) -> Any:
    return conv_weight(x, g, stride=stride, pads=pads, kernel=tuple(w.shape[1:3]))


@conv_data.vjp(0)
def _(v: Any, y: Any, g: Any, w: Any, stride: Pair, pads: Pads, size: Pair) -> Any:
    return conv(v, w, stride=stride, pads=pads)


@conv_data.vjp(1)
def _(v: Any, y: Any, g: Any, w: Any, stride: Pair, pads: Pads, size: Pair) -> Any:
    return conv_weight(v, g, stride=stride, pads=pads, kernel=tuple(w.shape[1:3]))


@conv_weight.vjp(0)
def _(v: Any, y: Any, x: Any, g: Any, stride: Pair, pads: Pads, kernel: Pair) -> Any:
    return conv_data(g, v, stride=stride, pads=pads, size=tuple(x.shape[2:4]))


@conv_weight.vjp(1)
def _(v: Any, y: Any, x: Any, g: Any, stride: Pair, pads: Pads, kernel: Pair) -> Any:
    return conv(x, v, stride=stride, pads=pads)
