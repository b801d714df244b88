"""LSTM parameters {"w", "u", "b"} for both libraries, which order the gate blocks differently."""

from __future__ import annotations

from typing import Any

import numpy as np

from minimeta import layers, tree


def init(rng: np.random.Generator, inputs: int, units: int) -> layers.Params:
    shapes = {"w": (inputs, 4 * units), "u": (units, 4 * units), "b": (4 * units,)}
    return {name: layers.uniform(rng, shape, units) for name, shape in shapes.items()}


def swap_gates(params: Any) -> Any:
    """From minimeta's order of blocks (input, forget, output, candidate) to PyTorch's, or back: the last two change."""
    return tree.map(lambda leaf: np.concatenate([np.split(leaf, 4, -1)[i] for i in (0, 1, 3, 2)], -1), params)
