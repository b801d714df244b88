"""A small perceptron on many examples, as one that looks at all coordinates of a network's gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

import minimeta_kernels
from minimeta.autodiff.op import op
from minimeta.ops.elementwise import relu
from minimeta.ops.fused.derivatives import derive
from minimeta.ops.fused.matmul import matmul
from minimeta.ops.record import Draw, record


def mlp(x: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any) -> Any:
    """relu(relu(x w1 + b1) w2 + b2) w3 + b3: x [..., N, D] -> [..., N, O].

    w1 [D, H1], b1 [H1], w2 [H1, H2], b2 [H2], w3 [H2, O], b3 [O]; or each task has its own: a leading axis T of all of
    these and of x. The hidden layers are not kept: the gradients make them again. Raises ValueError where shapes do not
    fit.

    >>> weights = np.ones((2, 3)), np.zeros(3), np.ones((3, 4)), np.zeros(4), np.ones((4, 1)), np.zeros(1)
    >>> mlp(np.ones((1000, 2)), *weights).shape
    (1000, 1)
    >>> mlp(np.ones((25, 10, 2)), *(np.stack([w] * 25) for w in weights)).shape
    (25, 10, 1)
    """
    arrays = w1, b1, w2, b2, w3, b3
    lead = w1.shape[:-2]
    sizes = [x.shape[-1]] if x.ndim >= 2 else [0]
    fits = x.ndim >= 2 and len(lead) <= 1 and (not lead or x.shape[:-2] == lead)
    for w, b in zip(arrays[::2], arrays[1::2], strict=True):
        fits = fits and w.ndim == len(lead) + 2 and w.shape[:-2] == lead and min(w.shape) > 0
        fits = fits and w.shape[-2] == sizes[-1] and b.shape == (*lead, w.shape[-1])
        sizes.append(w.shape[-1])
    if not fits:
        raise ValueError(
            f"minimeta.mlp: x.shape={x.shape}, weights and biases {', '.join(str(a.shape) for a in arrays)}; need "
            "x [..., N, D] and [D, H1], [H1], [H1, H2], [H2], [H2, O], [O], or x [T, N, D] and a leading T of each"
        )
    if lead:
        return _task_mlp(x, *arrays)
    if x.ndim == 2:
        return _mlp(x, *arrays)
    return _mlp(x.reshape(-1, x.shape[-1]), *arrays).reshape(*x.shape[:-1], sizes[-1])


@op(saves="inputs")
def _mlp(xp: Any, x: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any) -> Any:
    return minimeta_kernels.call("mlp", x, w1, b1, w2, b2, w3, b3)


@op(saves="inputs")
def _task_mlp(xp: Any, x: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any) -> Any:
    return minimeta_kernels.call("task_mlp", x, w1, b1, w2, b2, w3, b3)


def _composite(x: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any) -> Any:
    """The same by ordinary operations."""
    return _affine(relu(_affine(relu(_affine(x, w1, b1)), w2, b2)), w3, b3)


def _affine(x: Any, w: Any, b: Any) -> Any:
    return matmul(x, w) + b.reshape((*b.shape[:-1], 1, b.shape[-1]))


for _operation, _name in ((_mlp, "mlp"), (_task_mlp, "task_mlp")):
    _operation.op.name = _name  # as the kernels are called
    derive(_operation, _composite)


def _layers(draw: Draw) -> Any:
    """No hidden unit is near the kink of its ReLU: each is on or off for all examples."""
    n, d, h1, h2, o = draw.integer(0, 3), draw.integer(1, 2), draw.integer(1, 3), draw.integer(1, 3), draw.integer(1, 2)
    t = draw.choice(((), (2,)))
    signs1, signs2 = (np.array([draw.choice((1.0, -1.0)) for _ in range(h)]) for h in (h1, h2))
    return (
        draw.array((*t, n, d), -0.5, 0.5), draw.array((*t, d, h1), -0.5, 0.5), draw.array((*t, h1), 1.5, 2) * signs1,
        draw.array((*t, h1, h2), -0.2, 0.2), draw.array((*t, h2), 2.5, 3) * signs2, draw.array((*t, h2, o)),
        draw.array((*t, o)),
    ), {}  # fmt: skip


def _reference(x: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any) -> Any:
    b1, b2, b3 = (b[..., None, :] for b in (b1, b2, b3))
    return np.maximum(np.maximum(x @ w1 + b1, 0) @ w2 + b2, 0) @ w3 + b3


record(mlp, _layers, _reference)
