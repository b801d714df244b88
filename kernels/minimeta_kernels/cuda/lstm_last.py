"""An LSTM read to its end on a GPU, all steps in one launch; kernels in lstm_last.cu.

The gradient's steps are in shared memory, all at once; where they do not fit, another implementation is taken.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from minimeta_kernels.cuda.entries import enter, too_large
from minimeta_kernels.cuda.source import Source

_LANES, _WARPS = 32, 4
_LINE = _LANES + 1
#: What the gradients by weights are summed of: the same on any GPU, some blocks to each multiprocessor.
_LARGEST_GRID = 512
_SOURCE = Source("lstm_last", ["lstm_last<{S}>", "lstm_last_vjp<{S}>"], numbers=("float", "double"))


def lstm_last(x: Any, w: Any, u: Any, b: Any) -> Any:
    """x [C, N, D], w [D, 4 H], u [H, 4 H], b [4 H] -> h [N, H]; gates in the order of `lstm_cell`."""
    return _run("lstm_last", _groups(x.shape[1]), [x, w, u, b], [(x.shape[1], len(u))])[0]


def lstm_last_vjp(g: Any, x: Any, w: Any, u: Any, b: Any) -> tuple[Any, ...]:
    """The gradients by x, w, u and b for the cotangent of h."""
    inputs, units, blocks = len(w), len(u), min(_groups(x.shape[1]), _LARGEST_GRID)
    shapes = [x.shape, (blocks, inputs + units + 1, 4 * units)]
    to_x, sums = _run("lstm_last_vjp", blocks, [g, x, w, u, b], shapes)
    total = sums.sum(axis=0)
    return to_x, total[:inputs], total[inputs:-1], total[-1]


def _groups(count: int) -> int:
    return -(-count // _LANES)


def _run(name: str, blocks: int, inputs: list[Any], shapes: list[Any]) -> list[Any]:
    (steps, count, dims), units = inputs[-4].shape, len(inputs[-2])
    return _SOURCE.run(
        f"{name}<{{S}}>", (blocks,), _LANES * _WARPS, inputs, shapes,
        [np.int64(count), *map(np.int32, (steps, dims, units))], _held(name, steps, dims, units),
    )  # fmt: skip


def _held(name: str, steps: int, inputs: int, units: int) -> int:
    """Numbers in shared memory: weights and slots; of the gradient, what is pulled, and that of the weights."""
    rows, backwards = inputs + units + 1, name.endswith("vjp")
    weights, slots = 4 * units * rows, (steps if backwards else 2) * (rows + units) * _LINE
    return weights + slots + backwards * (weights + 6 * units * _LINE)


def _refuses(name: str, *arrays: Any) -> str | None:
    x, _, u, _ = arrays[-4:]
    return too_large(_held(name, x.shape[0], x.shape[2], len(u)), x)


for _function in (lstm_last, lstm_last_vjp):
    enter(_function.__name__, _function, partial(_refuses, _function.__name__))
