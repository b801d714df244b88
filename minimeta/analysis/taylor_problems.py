"""The tasks of the Taylor study: one wave or one few-way classification each, in mini-batches, and a net to learn it.

Everything is float64, and the nets are smooth by default: see `minimeta.analysis.taylor` for what a kink would spoil.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np

from minimeta import backend, layers, ops, sources, tree
from minimeta.evaluation import Episodes, OnDevice
from minimeta.learners.base import Params

Loss = Callable[[Params], Any]

#: "relu" has kinks, and is there to see what they do.
ACTIVATIONS: dict[str, Callable[[Any], Any]] = {"tanh": ops.tanh, "softplus": ops.softplus, "relu": ops.relu}

POINTS = 10  # of a wave in a mini-batch
WAY = 5  # classes of a drawings task; a mini-batch has one drawing of each
HIDDEN = 40
FILTERS = 16


@dataclass(frozen=True)
class Problem:
    """Tasks of `batches` mini-batches each, and `network(params, x)`, which starts on every task from `params`.

    >>> waves = problem("sinusoid", batches=2)
    >>> [float(loss(waves.start(tasks=3))) > 0 for loss in waves.losses(first=0, tasks=3)]
    [True, True]
    """

    params: Params
    network: Callable[[Params, Any], Any]
    episodes: Episodes
    batches: int

    def start(self, tasks: int) -> Params:
        """The parameters once per task, [T, ...]: the gradient by them is that of every task."""
        return tree.map(lambda w: ops.repeat(w[None], tasks, axis=0), self.params)

    def losses(self, first: int, tasks: int) -> list[Loss]:
        """Of tasks number first .. first+tasks-1: the loss on each mini-batch, a mean over examples summed over tasks.

        They take parameters with a task axis and treat every task apart.
        """
        xs, ys, _, _, way = self.episodes.batch(first, tasks)
        measure = ops.cross_entropy if way else ops.mse

        def loss_on(j: int) -> Loss:
            # examples lie class by class, as many of each as there are mini-batches or a multiple of that
            x, y = xs[:, j :: self.batches].astype(np.float64), ys[:, j :: self.batches]
            return lambda params: measure(self.network(params, x), y) * tasks

        return [loss_on(j) for j in range(self.batches)]


def problem(
    data: str, batches: int, *, activation: str = "tanh", seed: int = 0,
    data_dir: str | PathLike[str] | None = None, device: str = "numpy",
) -> Problem:  # fmt: skip
    """Training tasks of `data`, a data set or folder of `minimeta.sources`; the seed draws tasks and parameters.

    Their arrays are on `device`, "numpy" or "cupy".

    Waves go to a 1-40-40-1 net; drawings, 5 classes and one drawing of each per mini-batch, to three strided
    convolutions with batch norm by the mini-batch's statistics, and a linear layer. Raises ValueError for an unknown
    activation or data set, DataError where the data cannot supply so many mini-batches.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"unknown activation {activation!r}; choose from {', '.join(ACTIVATIONS)}")
    sources.check(data)
    way, size, (init, forward) = (0, POINTS, MLP) if data == "sinusoid" else (WAY, 1, CONV_NET)
    # a sampler deals out queries too, one at least; they are not needed here
    episodes = sources.source(data, "train", way, size * batches, 1, seed=seed, data_dir=data_dir).episodes
    params = tree.map(lambda w: w.astype(np.float64), init(np.random.default_rng(seed)))
    params, episodes = backend.to_device(params, device), OnDevice(episodes, device)
    return Problem(params, lambda params, x: forward(params, x, ACTIVATIONS[activation]), episodes, batches)


def _mlp_init(rng: np.random.Generator) -> Params:
    sizes = (1, HIDDEN, HIDDEN, 1)
    return {f"linear{i + 1}": layers.linear_init(rng, sizes[i], sizes[i + 1]) for i in range(3)}


def _mlp(params: Params, x: Any, activation: Callable[[Any], Any]) -> Any:
    *hidden, last = params.values()
    for layer in hidden:
        x = activation(layers.linear(layer, x))
    return layers.linear(last, x)


def _conv_net_init(rng: np.random.Generator) -> Params:
    convs = {f"conv{i + 1}": layers.conv_block_init(rng, FILTERS if i else 1, FILTERS) for i in range(3)}
    return {**convs, "linear": layers.linear_init(rng, 4 * 4 * FILTERS, WAY)}  # 28 -> 14 -> 7 -> 4


def _conv_net(params: Params, x: Any, activation: Callable[[Any], Any]) -> Any:
    *convs, last = params.values()
    for layer in convs:
        maps = ops.conv2d(x, layer["w"], stride=2, padding="SAME")
        mean, var = (statistic(maps, axis=(1, 2, 3), keepdims=True) for statistic in (ops.mean, ops.var))
        gamma, beta = (layer[name][:, None, None, None] for name in ("gamma", "beta"))
        x = activation(ops.batch_norm(maps, gamma, beta, mean, var, eps=layers.EPS))
    return layers.linear(last, x.reshape(*x.shape[:2], -1))


MLP, CONV_NET = (_mlp_init, _mlp), (_conv_net_init, _conv_net)
