"""Max-pooling of the sum of two ReLUs on a GPU; kernels in relu_sum_pool.cu."""

from __future__ import annotations

from typing import Any

import numpy as np

from minimeta_kernels.cuda.entries import enter
from minimeta_kernels.cuda.source import Source

_SOURCE = Source("relu_sum_pool", ["relu_sum_pool<{S}>", "relu_sum_pool_vjp<{S}>"], numbers=("float", "double"))


def relu_sum_pool(x1: Any, x2: Any) -> Any:
    """x1, x2 [B, H, W, C] -> y [B, ceil(H / 2), ceil(W / 2), C]."""
    batch, height, width, channels = x1.shape
    return _run("relu_sum_pool<{S}>", x1.shape, [x1, x2], [(batch, -(-height // 2), -(-width // 2), channels)])[0]


def relu_sum_pool_vjp(g: Any, x1: Any, x2: Any) -> tuple[Any, ...]:
    """The gradients by x1 and x2 for the cotangent of y."""
    return tuple(_run("relu_sum_pool_vjp<{S}>", x1.shape, [g, x1, x2], [x1.shape, x2.shape]))


def _run(template: str, images: tuple[int, ...], inputs: list[Any], shapes: list[tuple[int, ...]]) -> list[Any]:
    batch, *size = images
    return _SOURCE.run(template, (batch * -(-size[0] // 2),), 128, inputs, shapes, list(map(np.int32, size)))


enter("relu_sum_pool", relu_sum_pool)
enter("relu_sum_pool_vjp", relu_sum_pool_vjp)
