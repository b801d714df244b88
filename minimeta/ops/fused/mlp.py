"""A small perceptron on many examples, as one that looks at all coordinates of a network's gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

import minimeta_kernels
from minimeta.autodiff import Tensor, vjp
from minimeta.autodiff.op import op
from minimeta.ops.elementwise import relu
from minimeta.ops.fused.matmul import matmul
from minimeta.ops.record import Draw, record


def mlp(x: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any) -> Any:
    """relu(relu(x w1 + b1) w2 + b2) w3 + b3: x [N, D] -> [N, O].

    w1 [D, H1], b1 [H1], w2 [H1, H2], b2 [H2], w3 [H2, O], b3 [O]. The hidden layers are not kept: the gradient makes
    them again. Raises ValueError where shapes do not fit.

    >>> weights = np.ones((2, 3)), np.zeros(3), np.ones((3, 4)), np.zeros(4), np.ones((4, 1)), np.zeros(1)
    >>> mlp(np.ones((1000, 2)), *weights).shape
    (1000, 1)
    """
    sizes = [x.shape[-1]] if x.ndim == 2 else [0]
    fits = x.ndim == 2
    for w, b in ((w1, b1), (w2, b2), (w3, b3)):
        fits = fits and w.ndim == 2 and min(w.shape) > 0 and w.shape[0] == sizes[-1] and b.shape == w.shape[1:]
        sizes.append(w.shape[-1])
    if not fits:
        weights = ", ".join(str(a.shape) for a in (w1, b1, w2, b2, w3, b3))
        raise ValueError(
            f"minimeta.mlp: x.shape={x.shape}, weights and biases {weights}; need x [N, D] and "
            "[D, H1], [H1], [H1, H2], [H2], [H2, O], [O]"
        )
    return _mlp(x, w1, b1, w2, b2, w3, b3)


@op(saves="inputs")
def _mlp(xp: Any, x: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any) -> Any:
    return minimeta_kernels.call("mlp", x, w1, b1, w2, b2, w3, b3)


@_mlp.vjp()
def _(g: Any, y: Any, *arrays: Any) -> Any:
    if type(g) is not Tensor:
        return minimeta_kernels.call("mlp_vjp", g, *arrays)
    return vjp(_composite, *arrays)[1](g)


def _composite(x: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any) -> Any:
    """The same by ordinary operations."""
    return matmul(relu(matmul(relu(matmul(x, w1) + b1), w2) + b2), w3) + b3


def _layers(draw: Draw) -> Any:
    """No hidden unit is near the kink of its ReLU: each is on or off for all examples."""
    n, d, h1, h2, o = draw.integer(0, 3), draw.integer(1, 2), draw.integer(1, 3), draw.integer(1, 3), draw.integer(1, 2)
    signs1, signs2 = (np.array([draw.choice((1.0, -1.0)) for _ in range(h)]) for h in (h1, h2))
    return (
        draw.array((n, d), -0.5, 0.5), draw.array((d, h1), -0.5, 0.5), draw.array((h1,), 1.5, 2) * signs1,
        draw.array((h1, h2), -0.2, 0.2), draw.array((h2,), 2.5, 3) * signs2, draw.array((h2, o)), draw.array((o,)),
    ), {}  # fmt: skip


def _reference(x: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any) -> Any:
    return np.maximum(np.maximum(x @ w1 + b1, 0) @ w2 + b2, 0) @ w3 + b3


record(mlp, _layers, _reference)
