"""The networks that are adapted: from images [T, B, H, W, C], or numbers [T, B, 1], to scores [T, B, outputs].

    "strided"       four convolutions of stride 2 with batch norm and ReLU, then the mean over the map: MAML's
    "strided-flat"  the same with the map flattened: Reptile's
    "conv4"         four convolutions with batch norm, ReLU and pooling: the field's Conv-4
    "dense"         layers of 256, 128, 64 and 64 units with batch norm and ReLU: MAML's without convolutions
    "regressor"     two layers of 40 units with ReLU: MAML's for sinusoids, of one number; it has no batch norm

Batch norm is by batch statistics of each task, in training and test, with TensorFlow's eps; in "strided" and "dense" it
learns only a shift, as MAML's. Convolutions have no bias: the batch norm after them subtracts any.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from minimeta import layers, ops
from minimeta.learners.base import Params

EPS = 1e-3  # TensorFlow's, and Ravi and Larochelle's
BLOCKS = 4
DENSE, REGRESSOR = (256, 128, 64, 64), (40, 40)
CONVOLUTIONAL = ("strided", "strided-flat", "conv4")
ARCHITECTURES = (*CONVOLUTIONAL, "dense", "regressor")


@dataclass(frozen=True)
class Network:
    """One of ARCHITECTURES for images of `size` x `size` pixels and `channels` channels; `filters` per convolution.

    Parameters are by layer, the last one "head"; each array may have a task axis. Raises ValueError for a size of which
    pooling leaves nothing.

    >>> network = Network("strided", size=28, channels=1, filters=64, outputs=5)
    >>> params = network.init(np.random.default_rng(0))
    >>> network(params, np.zeros((2, 3, 28, 28, 1), np.float32))[0].shape
    (2, 3, 5)
    """

    architecture: str
    size: int
    channels: int
    filters: int
    outputs: int

    def __post_init__(self) -> None:
        if not self.features:
            raise ValueError(f"{self.architecture}: poolings leave nothing of {self.size} x {self.size} pixels")

    @property
    def features(self) -> int:
        """The number of inputs of the head."""
        if self.architecture == "conv4":
            return layers.conv_net_size(self.size, self.channels, self.filters, BLOCKS)
        if self.architecture == "strided-flat":
            side = -(-self.size // 2**BLOCKS)  # SAME padding rounds up
            return side**2 * self.filters
        return {"strided": self.filters, "dense": DENSE[-1], "regressor": REGRESSOR[-1]}[self.architecture]

    def init(self, rng: np.random.Generator) -> Params:
        """Parameters as the papers' code draws them."""
        if self.architecture in CONVOLUTIONAL:
            sizes = [self.channels, *[self.filters] * BLOCKS]
            net = {f"conv{i}": self._convolution(rng, *pair) for i, pair in enumerate(pairwise(sizes), 1)}
        elif self.architecture == "dense":
            sizes = [self.size**2 * self.channels, *DENSE]
            net = {
                f"dense{i}": {"w": _truncated_normal(rng, pair), "beta": np.zeros(pair[1], np.float32)}
                for i, pair in enumerate(pairwise(sizes), 1)
            }
        else:
            net = {f"dense{i}": _small(rng, *pair) for i, pair in enumerate(pairwise([1, *REGRESSOR]), 1)}
        return {**net, "head": self._head(rng)}

    def _convolution(self, rng: np.random.Generator, inputs: int, outputs: int) -> Params:
        if self.architecture == "conv4":
            return layers.conv_block_init(rng, inputs, outputs)
        layer = {"w": _glorot(rng, (3, 3, inputs, outputs), 9 * inputs, 9 * outputs)}
        if self.architecture == "strided-flat":
            layer["gamma"] = np.ones(outputs, np.float32)
        return {**layer, "beta": np.zeros(outputs, np.float32)}

    def _head(self, rng: np.random.Generator) -> Params:
        sizes = (self.features, self.outputs)
        if self.architecture == "conv4":
            return layers.linear_init(rng, *sizes)
        if self.architecture == "strided":
            w = rng.standard_normal(sizes, np.float32)  # deviation 1, not 0.01
        elif self.architecture == "strided-flat":
            w = _glorot(rng, sizes, *sizes)
        else:
            return _small(rng, *sizes)
        return {"w": w, "b": np.zeros(self.outputs, np.float32)}

    def __call__(self, params: Params, x: Any, statistics: Params | None = None) -> tuple[Any, Params]:
        """Scores, and by layer the statistics that its batch norm used: those given, or the batch's."""
        x = x if self.architecture in CONVOLUTIONAL else x.reshape(*x.shape[:2], -1)
        if self.architecture == "regressor":
            return ops.mlp(x, *(layer[key] for layer in params.values() for key in ("w", "b"))), {}
        found = {}
        for name, layer in params.items():
            if name != "head":
                x, found[name] = self._norm_layer(layer, x, None if statistics is None else statistics[name])
        x = ops.mean(x, axis=(2, 3)) if self.architecture == "strided" else x.reshape(*x.shape[:2], -1)
        return layers.linear(params["head"], x), found

    def _norm_layer(self, layer: Params, x: Any, statistics: Params | None) -> tuple[Any, Params]:
        if self.architecture == "conv4":
            return layers.conv_block(layer, x, statistics, eps=EPS)
        if self.architecture in CONVOLUTIONAL:
            return layers.conv_block(layer, x, statistics, stride=2, padding="SAME", pool=False, eps=EPS)
        return layers.norm_block(layer, x @ layer["w"], statistics, pool=False, eps=EPS)


def _glorot(rng: np.random.Generator, shape: tuple[int, ...], fan_in: int, fan_out: int) -> np.ndarray:
    """Uniform with variance 2 / (fan_in + fan_out) (Glorot and Bengio, 2010)."""
    bound = np.sqrt(6 / (fan_in + fan_out))
    return rng.uniform(-bound, bound, shape).astype(np.float32)


def _small(rng: np.random.Generator, inputs: int, outputs: int) -> Params:
    return {"w": _truncated_normal(rng, (inputs, outputs)), "b": np.zeros(outputs, np.float32)}


def _truncated_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Normal with deviation 0.01, drawn again where it is farther out than two of them."""
    values = rng.standard_normal(shape)
    while (far := np.abs(values) > 2).any():
        values[far] = rng.standard_normal(far.sum())
    return (0.01 * values).astype(np.float32)
