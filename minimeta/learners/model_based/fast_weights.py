"""Weights made from gradients, for Meta Networks (Munkhdalai and Yu, 2017): two networks that see one coordinate.

Of a task by an LSTM, which takes the gradients of one chunk of the support set after another; of an example by an MLP.
All coordinates share them; those of convolutions and of dense layers have their own. Gradients are constants.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from minimeta import layers, ops
from minimeta.autodiff import grad, stop_gradient
from minimeta.learners.base import Params
from minimeta.learners.coordinates import flat, layered, log_and_sign

KINDS = ("conv", "dense")  # of layers, which have generators of their own
P = 7.0  # of log_and_sign
#: Generators' last weights are drawn so much smaller than others. All coordinates have one sign or the other in common,
#: so that fast weights as large as slow ones would add up, and scores begin in the thousands.
SMALL = 0.01


def gradients(net: Params, names: tuple[str, ...], losses: Callable[[Params], Any], ys: Any) -> Params:
    """The gradient of each example's loss by the named layers, [T, S, ...] and a constant.

    `losses` gives them all [T, S], from weights [T S, ...] of which each example has its own.
    """
    net = stop_gradient(net)
    own = {name: ops.broadcast_to(net[name], (ys.size, *net[name].shape)) for name in names}
    found = grad(lambda weights: losses({**net, **weights}).sum())(own)
    return {name: g.reshape(*ys.shape, *g.shape[1:]) for name, g in found.items()}


def task_init(rng: np.random.Generator, hidden: int) -> Params:
    """LSTMs of `hidden` units."""
    bias = np.repeat(np.array([0, 1, 0, 0], np.float32), hidden)  # at first the cell forgets little
    return {
        kind: {
            "w": normal(rng, 2, 4 * hidden), "u": normal(rng, hidden, 4 * hidden), "b": bias,
            "out": _dense_init(rng, hidden, 1, SMALL),
        } for kind in KINDS
    }  # fmt: skip


def example_init(rng: np.random.Generator, hidden: int) -> Params:
    """MLPs of two layers of `hidden` units."""
    return {
        kind: {
            "dense1": _dense_init(rng, 2, hidden), "dense2": _dense_init(rng, hidden, hidden),
            "out": _dense_init(rng, hidden, 1, SMALL),
        } for kind in KINDS
    }  # fmt: skip


def of_task(generators: Params, gradients: Params, chunks: int) -> Params:
    """Fast weights by layer [T, ...], from gradients [T, S, ...] of examples: a step sees the mean of a chunk."""
    shots = next(iter(gradients.values())).shape[1]
    chunks = min(chunks, shots)
    size, longer = divmod(shots, chunks)  # the first ones have one more
    parts = [slice(*ends) for ends in pairwise(i * size + min(i, longer) for i in range(chunks + 1))]
    steps = [{name: g[:, part].mean(axis=1) for name, g in gradients.items()} for part in parts]
    fast: Params = {}
    for kind, names in _kinds(gradients):
        of_kind = [{name: step[name] for name in names} for step in steps]
        fast |= layered(_lstm(generators[kind], [_seen(step) for step in of_kind]), of_kind[0])
    return fast


def of_example(generators: Params, gradients: Params) -> Params:
    """Fast weights by layer [T, S, ...], from gradients [T, S, ...] of examples."""
    fast: Params = {}
    for kind, names in _kinds(gradients):
        part = {name: gradients[name].reshape(-1, *gradients[name].shape[2:]) for name in names}
        fast |= layered(_mlp(generators[kind], _seen(part)), part)
    return {name: w.reshape(gradients[name].shape) for name, w in fast.items()}


def _kinds(weights: Params) -> Iterator[tuple[str, list[str]]]:
    """The names of the layers of each kind."""
    for kind in KINDS:
        yield kind, [name for name in weights if name.startswith(kind) or (kind == "dense" and name == "head")]


def _seen(gradients: Params) -> Any:
    """Gradients [T, ...] as generators see them, a coordinate a row: [T, P, 2]."""
    return log_and_sign(flat(gradients), P)


def _lstm(weights: Params, steps: list[Any]) -> Any:
    """One number a coordinate [T, P], from what it sees in each step, [T, P, 2]."""
    rows = ops.stack([x.reshape(-1, 2) for x in steps])
    hidden = ops.lstm_last(rows, weights["w"], weights["u"], weights["b"])
    return layers.linear(weights["out"], hidden).reshape(steps[0].shape[:-1])


def _mlp(weights: Params, x: Any) -> Any:
    """One number a coordinate [T, P], from what it sees [T, P, 2]."""
    arrays = [layer[name] for layer in weights.values() for name in ("w", "b")]
    return ops.mlp(x.reshape(-1, 2), *arrays).reshape(x.shape[:-1])


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """float32 weights of deviation 1 / sqrt(fan_in), as Chainer draws them (LeCun et al., 1998)."""
    return (rng.standard_normal(shape) / math.sqrt(math.prod(shape[:-1]))).astype(np.float32)


def _dense_init(rng: np.random.Generator, inputs: int, outputs: int, scale: float = 1.0) -> Params:
    return {"w": normal(rng, inputs, outputs) * np.float32(scale), "b": np.zeros(outputs, np.float32)}
