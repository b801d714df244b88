"""The network for sinusoids and its optimizers in plain NumPy: one task, gradients by hand, no code of the package.

Imported as `from tests.learners import plain_regressor`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minimeta import tree
from minimeta.data import Episode

REGRESSOR = {"way": 0, "architecture": "regressor", "batch_norm": "none"}


def episode(rng: np.random.Generator, tasks: int, shot: int, query: int = 3) -> Episode:
    """Random numbers to random numbers."""
    return Episode(*(rng.standard_normal((tasks, count, 1)) for count in (shot, shot, query, query)), 0)


def gradient(net: Any, x: np.ndarray, y: np.ndarray) -> Any:
    """Of the mean squared error of points [B, 1], backwards through the layers."""
    inputs, slopes = [x], []
    for name in ("dense1", "dense2"):
        z = inputs[-1] @ net[name]["w"] + net[name]["b"]
        inputs.append(np.maximum(z, 0))
        slopes.append(z > 0)
    error = 2 * (inputs[-1] @ net["head"]["w"] + net["head"]["b"] - y) / len(x)
    found = {}
    for name in ("head", "dense2", "dense1"):
        found[name] = {"w": inputs.pop().T @ error, "b": error.sum(0)}
        error = error @ net[name]["w"].T * (slopes.pop() if slopes else 1)
    return {name: found[name] for name in net}


def sgd(net: Any, grads: Any, lr: float) -> Any:
    return tree.map(lambda w, g: w - lr * g, net, grads)


def adam(net: Any, grads: Any, lr: float, step: int, square: Any) -> tuple[Any, Any]:
    """Step number `step`, from 1, without momentum: the weights and the second moments after it."""
    square = tree.map(lambda s, g: 0.999 * s + 0.001 * g**2, square, grads)
    unbiased = tree.map(lambda s: s / (1 - 0.999**step), square)
    return tree.map(lambda w, g, s: w - lr * g / (np.sqrt(s) + 1e-8), net, grads, unbiased), square
