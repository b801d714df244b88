"""Few-shot classification of 28x28 images: episodes of noise, and Conv-4 with 64 filters for PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np

from minimeta.data.episodes import Episode


def forward_flop(filters: int = 64) -> int:
    """Of conv4 on one 28x28x1 image; a multiply-add counts 2."""
    return 2 * 9 * filters * (28**2 + filters * (14**2 + 7**2 + 3**2))


def episode(tasks: int, way: int, queries: int, dtype: Any) -> Episode:
    """1-shot tasks with `queries` per class. What images show does not change the time: these show noise."""
    rng = np.random.default_rng(0)
    xs, xq = (rng.random((tasks, n, 28, 28, 1), np.float32).astype(dtype) for n in (way, way * queries))
    labels = np.arange(way)
    return Episode(xs, np.tile(labels, (tasks, 1)), xq, np.tile(labels.repeat(queries), (tasks, 1)), way)


def torch_features(params: list[Any], x: Any, eps: float = 1e-5) -> Any:
    """conv4 on [B, 1, 28, 28] -> [B, 64], from filters, scale and shift of each block, by the batch's statistics."""
    from torch.nn import functional

    for w, gamma, beta in zip(*[iter(params)] * 3, strict=True):
        x = functional.batch_norm(functional.conv2d(x, w, padding=1), None, None, gamma, beta, training=True, eps=eps)
        x = functional.max_pool2d(functional.relu(x), 2)
    return x.flatten(1)


def torch_features_for_vmap(params: list[Any], x: Any, eps: float = 1e-5) -> Any:
    """The same with scale and shift apart: under vmap, PyTorch 2.13's second derivative by them together is wrong."""
    from torch.nn import functional

    for w, gamma, beta in zip(*[iter(params)] * 3, strict=True):
        x = functional.batch_norm(functional.conv2d(x, w, padding=1), None, None, training=True, eps=eps)
        x = functional.max_pool2d(functional.relu(x * gamma[:, None, None] + beta[:, None, None]), 2)
    return x.flatten(1)
