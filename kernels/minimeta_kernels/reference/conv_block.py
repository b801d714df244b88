"""The first block of a convolutional network: 3x3 convolution, batch norm by task, ReLU, max-pool 2x2.

The images are constants here, as the inputs of a network are, so there is no gradient by them; and since they have few
channels, making the convolution again costs less than keeping its result, which is much larger than the images. Both
parts are kernels in their own right, taken from whoever has them for these arrays.
"""

from __future__ import annotations

from typing import Any

from minimeta_kernels.reference.modules import array_module
from minimeta_kernels.reference.norm_relu_pool import NormReluPool
from minimeta_kernels.registry import call, register

_SAME = {"stride": (1, 1), "pads": ((1, 1), (1, 1))}


@register("conv_block", "reference")
def conv_block(x: Any, w: Any, gamma: Any, beta: Any, *, eps: float = 1e-5) -> NormReluPool:
    """x [T, B, H, W, C], w [T or 1, 3, 3, C, O], gamma and beta [T, O] -> [T, B, H // 2, W // 2, O], statistics."""
    found: NormReluPool = call("norm_relu_pool", _conv(x, w), gamma, beta, eps=eps)
    return found


@register("conv_block_vjp", "reference")
def conv_block_vjp(
    g: Any, top: Any, mean: Any, var: Any, x: Any, w: Any, gamma: Any, beta: Any, *, eps: float = 1e-5
) -> tuple[Any, Any, Any]:
    """The gradients of w, gamma and beta."""
    gy, g_gamma, g_beta = call("norm_relu_pool_vjp", g, top, mean, var, _conv(x, w), gamma, beta, eps=eps)
    gw = call("conv_weight", x, gy, kernel=(3, 3), **_SAME)
    return (gw if len(w) == len(x) else array_module(w).sum(gw, axis=0, keepdims=True)), g_gamma, g_beta


def _conv(x: Any, w: Any) -> Any:
    return call("conv", x, array_module(w).broadcast_to(w, (len(x), *w.shape[1:])), **_SAME)
