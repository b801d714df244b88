"""Layers as pure functions of their parameters. Inputs have a leading task axis; weights may have one too.

Weights without a task axis serve all tasks; with one, every task has its own (fast weights). Statistics are per task.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minimeta import ops, tree

Params = dict[str, Any]


def uniform(rng: np.random.Generator, shape: tuple[int, ...], fan_in: int) -> np.ndarray:
    """float32 weights uniform in +-1/sqrt(fan_in), as PyTorch draws them by default."""
    bound = 1 / math.sqrt(fan_in)
    return rng.uniform(-bound, bound, shape).astype(np.float32)


def conv_block_init(rng: np.random.Generator, inputs: int, filters: int) -> Params:
    """A 3x3 convolution and its batch norm. The convolution has no bias: the norm subtracts any."""
    return {
        "w": uniform(rng, (3, 3, inputs, filters), 9 * inputs),
        "gamma": np.ones(filters, np.float32),
        "beta": np.zeros(filters, np.float32),
    }


def conv_block(params: Params, x: Any, running: Params | None = None) -> tuple[Any, Params]:
    """Convolution 3x3, batch norm, ReLU, max-pool 2x2 (floor): [T, B, H, W, C] -> [T, B, H // 2, W // 2, filters].

    `running` gives fixed statistics {"mean", "var"} [filters]; without it each task's batch is normalised by its own.
    Also returns the statistics of the batch (variance unbiased, both averaged over tasks), or `running` itself.
    """
    if running is None:
        pooled, batch = ops.conv_block(x, params["w"], params["gamma"], params["beta"])
        n = math.prod(x.shape[1:4])
        return pooled, {"mean": batch["mean"].mean(0), "var": batch["var"].mean(0) * (n / max(n - 1, 1))}
    y = ops.conv2d(x, params["w"], padding=1)
    y = ops.batch_norm(y, _per_task(params["gamma"]), _per_task(params["beta"]), running["mean"], running["var"])
    # ReLU after pooling is the same function as before it, on a quarter of the values
    return ops.relu(ops.max_pool2d(y)), running


def _per_task(weights: Any) -> Any:
    """Channel weights [C] as they are, [T, C] against [T, B, H, W, C]."""
    return weights if weights.ndim == 1 else weights.reshape(weights.shape[0], 1, 1, 1, -1)


def conv_net_init(rng: np.random.Generator, channels: int = 1, filters: int = 64, blocks: int = 4) -> Params:
    """Parameters of `conv_net`; with 4 blocks of 64 filters it is the field's Conv-4."""
    sizes = [channels] + [filters] * blocks
    return {f"conv{i + 1}": conv_block_init(rng, sizes[i], sizes[i + 1]) for i in range(blocks)}


def conv_net(params: Params, x: Any, running: Params | None = None) -> tuple[Any, Params]:
    """Conv blocks one after another, flattened: [T, B, H, W, C] -> ([T, B, D], statistics by block).

    28x28 images give D = filters with 4 blocks (28, 14, 7, 3, 1).
    """
    statistics = {}
    for name, block in params.items():
        x, statistics[name] = conv_block(block, x, None if running is None else running[name])
    return x.reshape(*x.shape[:2], -1), statistics


def running_init(params: Params) -> Params:
    """Running statistics of a `conv_net` before training: mean 0, variance 1."""
    fresh = {"mean": np.zeros_like, "var": np.ones_like}
    return {name: {key: like(block["beta"]) for key, like in fresh.items()} for name, block in params.items()}


def running_update(running: Params, statistics: Params, rate: float = 0.1) -> Params:
    """Exponential averages: (1 - rate) * running + rate * statistics."""
    averages: Params = tree.map(lambda old, new: old * (1 - rate) + new * rate, running, statistics)
    return averages
