"""Weights and gradients as rows of coordinates, for networks that look at one at a time (Andrychowicz et al., 2016)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minimeta import ops, tree
from minimeta.learners.base import Params


def log_and_sign(x: Any, p: float = 10.0) -> Any:
    """Numbers of any magnitude as two in about -1..1: x [...] -> [..., 2].

    (log|x| / p, sign x) where |x| >= e^-p, else (-1, e^p x): continuous. Raises ValueError unless p > 0.

    >>> log_and_sign(np.array([1.0, -1e-3, 0.0])).round(2).tolist()
    [[0.0, 1.0], [-0.69, -1.0], [-1.0, 0.0]]
    """
    if not p > 0:
        raise ValueError(f"log_and_sign: p={p}; need p > 0")
    size = ops.log(ops.maximum(ops.abs(x), math.exp(-p))) / p
    return ops.stack([size, ops.clip(x * math.exp(p), -1, 1)], axis=-1)


def flat(weights: Params) -> Any:
    """The arrays [T, ...] of all layers, joined: [T, P].

    >>> flat({"w": np.ones((2, 3, 4)), "b": np.ones((2, 4))}).shape
    (2, 16)
    """
    return ops.concatenate([leaf.reshape(len(leaf), -1) for leaf in tree.leaves(weights)], axis=1)


def layered(theta: Any, like: Params) -> Params:
    """theta [T, P] cut into arrays [T, ...] as those of `like`, whatever its T: the opposite of `flat`."""
    shapes = [leaf.shape[1:] for leaf in tree.leaves(like)]
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    parts = zip(ops.split(theta, ends[:-1].tolist(), axis=1), shapes, strict=True)
    weights: Params = tree.unflatten(like, [part.reshape(len(theta), *shape) for part, shape in parts])
    return weights
