"""Layers as pure functions of their parameters. Inputs have a leading task axis; weights may have one too.

Weights without a task axis serve all tasks; with one, every task has its own (fast weights). Statistics are per task.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minimeta import ops, tree
from minimeta.autodiff import stop_gradient

Params = dict[str, Any]

EPS = 1e-5  # of batch norm, added to the variance


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


def conv_block(
    params: Params, x: Any, statistics: Params | None = None, *,
    stride: int | tuple[int, int] = 1, padding: int | str = 1, pool: bool = True, eps: float = EPS,
) -> tuple[Any, Params]:  # fmt: skip
    """Convolution 3x3, batch norm, ReLU and with `pool` max-pool 2x2 (floor): [T, B, H, W, C] -> [T, B, h, w, filters].

    Stride and padding are those of `ops.conv2d`; the norm has scale 1 where `params` have no "gamma". `statistics` to
    normalise by are {"mean", "var"} [filters], or [T, filters] per task; without them each task's batch is normalised
    by its own. Also returns the statistics: those given, or the batch's [T, filters], variance unbiased.
    """
    if statistics is not None:
        scale, shift = _affine(params, statistics, eps)
        # convolution is linear: scaling its few weights scales its many results
        maps = ops.conv2d(x, params["w"] * _against(scale, 5), stride, padding)
        return _relu_pool(maps, _against(shift, 5), pool), statistics
    if padding == 1 and pool and stride in (1, (1, 1)):
        pooled, batch = ops.conv_block(x, params["w"], _gamma(params), params["beta"], eps)
        return pooled, _unbiased(batch, math.prod(x.shape[1:4]))
    return norm_block(params, ops.conv2d(x, params["w"], stride, padding), pool=pool, eps=eps)


def norm_block(
    params: Params, maps: Any, statistics: Params | None = None, *, pool: bool = True, eps: float = EPS
) -> tuple[Any, Params]:
    """What follows the convolution in a `conv_block`, on its result [T, B, H, W, C] or, unpooled, any [T, ..., C]."""
    if statistics is not None:
        scale, shift = (_against(a, maps.ndim) for a in _affine(params, statistics, eps))
        return _relu_pool(maps * scale, shift, pool), statistics
    norm = ops.batch_norm_relu_max_pool2d if pool else ops.batch_norm_relu
    y, batch = norm(maps, _gamma(params), params["beta"], eps)
    return y, _unbiased(batch, math.prod(maps.shape[1:-1]))


def _gamma(params: Params) -> Any:
    """The scale of a batch norm: 1 where it learns only a shift."""
    beta = params["beta"]
    return params["gamma"] if "gamma" in params else stop_gradient(beta) * 0 + 1


def _affine(params: Params, statistics: Params, eps: float) -> tuple[Any, Any]:
    """Batch norm by given statistics as a factor and a term per channel."""
    scale = _gamma(params) / ops.sqrt(statistics["var"] + eps)
    return scale, params["beta"] - statistics["mean"] * scale


def _relu_pool(maps: Any, shift: Any, pool: bool) -> Any:
    # the maximum of a window stays it under shift and ReLU, which then have a quarter of the values to treat
    return ops.relu((ops.max_pool2d(maps) if pool else maps) + shift)


def _unbiased(batch: Params, values: int) -> Params:
    return {"mean": batch["mean"], "var": batch["var"] * (values / max(values - 1, 1))}


def _against(channels: Any, ndim: int) -> Any:
    """[C] as it is, [T, C] against [T, ..., C] of `ndim` axes."""
    return channels if channels.ndim < 2 else channels.reshape(channels.shape[0], *(1,) * (ndim - 2), -1)


def conv_net_init(rng: np.random.Generator, channels: int = 1, filters: int = 64, blocks: int = 4) -> Params:
    """Parameters of `conv_net`; with 4 blocks of 64 filters it is the field's Conv-4."""
    sizes = [channels] + [filters] * blocks
    return {f"conv{i + 1}": conv_block_init(rng, sizes[i], sizes[i + 1]) for i in range(blocks)}


def conv_net(params: Params, x: Any, statistics: Params | None = None) -> tuple[Any, Params]:
    """Conv blocks one after another, flattened: [T, B, H, W, C] -> ([T, B, D], statistics by block).

    28x28 images give D = filters with 4 blocks (28, 14, 7, 3, 1). `statistics` by block as for `conv_block`.
    """
    found = {}
    for name, block in params.items():
        x, found[name] = conv_block(block, x, None if statistics is None else statistics[name])
    return x.reshape(*x.shape[:2], -1), found


def conv_net_size(size: int, channels: int = 1, filters: int = 64, blocks: int = 4) -> int:
    """The number D of features that `conv_net` makes of an image of `size` x `size` pixels.

    >>> conv_net_size(28), conv_net_size(84), conv_net_size(28, blocks=0)
    (64, 1600, 784)
    """
    return (size >> blocks) ** 2 * (filters if blocks else channels)


def linear_init(rng: np.random.Generator, inputs: int, outputs: int) -> Params:
    """Weights [inputs, outputs] and biases [outputs] of x @ w + b."""
    return {"w": uniform(rng, (inputs, outputs), inputs), "b": uniform(rng, (outputs,), inputs)}


def linear(params: Params, x: Any) -> Any:
    """x @ w + b on the last axis: [..., inputs] -> [..., outputs].

    Each task may have its own: x [T, B, inputs], w [T, inputs, outputs], b [T, outputs].
    """
    return x @ params["w"] + _against(params["b"], x.ndim)


def running_init(params: Params) -> Params:
    """Running statistics before training, of each layer in `params` that has a batch norm: mean 0, variance 1."""
    fresh = {"mean": np.zeros_like, "var": np.ones_like}
    norms = {name: layer["beta"] for name, layer in params.items() if "beta" in layer}
    return {name: {key: like(beta) for key, like in fresh.items()} for name, beta in norms.items()}


def running_update(running: Params, statistics: Params, rate: float = 0.1) -> Params:
    """Exponential averages: (1 - rate) * running + rate * statistics [T, C], the latter averaged over the tasks."""
    averages: Params = tree.map(lambda old, new: old * (1 - rate) + new.mean(0) * rate, running, statistics)
    return averages
