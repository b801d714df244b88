"""An LSTM read to its end, over many short sequences at once: nothing is kept of the steps but the last state."""

from __future__ import annotations

from typing import Any

import numpy as np

import minimeta_kernels
from minimeta.autodiff import Tensor, vjp
from minimeta.autodiff.op import op
from minimeta.ops.fused.lstm import lstm_cell
from minimeta.ops.record import Draw, record


def lstm_last(x: Any, w: Any, u: Any, b: Any) -> Any:
    """The last hidden states [N, H] of N sequences x [C, N, D], from zero states on.

    w [D, 4H], u [H, 4H] and b [4H] are those of `lstm_cell`. Memory is a sequence's inputs and its result, whatever C:
    the gradient goes through the steps again. Raises ValueError where shapes do not fit.

    >>> lstm_last(np.ones((5, 1000, 2)), np.ones((2, 12)), np.ones((3, 12)), np.zeros(12)).shape
    (1000, 3)
    """
    size = u.shape[0] if u.ndim == 2 else 0
    if x.ndim != 3 or not x.shape[0] or not size or (w.shape, u.shape, b.shape) != (
        (x.shape[2], 4 * size), (size, 4 * size), (4 * size,)
    ):  # fmt: skip
        raise ValueError(
            f"minimeta.lstm_last: x.shape={x.shape}, w.shape={w.shape}, u.shape={u.shape}, b.shape={b.shape}; "
            "need x [C, N, D] with a step or more, w [D, 4H], u [H, 4H] and b [4H]"
        )
    return _lstm_last(x, w, u, b)


@op(saves="inputs")
def _lstm_last(xp: Any, x: Any, w: Any, u: Any, b: Any) -> Any:
    return minimeta_kernels.call("lstm_last", x, w, u, b)


@_lstm_last.vjp()
def _(g: Any, y: Any, x: Any, w: Any, u: Any, b: Any) -> Any:
    if type(g) is not Tensor:
        return minimeta_kernels.call("lstm_last_vjp", g, x, w, u, b)
    return vjp(_composite, x, w, u, b)[1](g)


def _composite(x: Any, w: Any, u: Any, b: Any) -> Any:
    """The same by ordinary operations."""
    h = c = (x[0] @ w)[:, : u.shape[0]] * 0
    for t in range(x.shape[0]):
        h, c = lstm_cell(x[t], h, c, w, u, b)
    return h


def _sequences(draw: Draw) -> Any:
    steps, n, d, h = draw.integer(1, 3), draw.integer(0, 2), draw.integer(1, 2), draw.integer(1, 2)
    return tuple(draw.array(s) for s in ((steps, n, d), (d, 4 * h), (h, 4 * h), (4 * h,))), {}


def _reference(x: Any, w: Any, u: Any, b: Any) -> Any:
    h = c = np.zeros((x.shape[1], len(u)))
    for inputs in x:
        i, f, o, z = np.split(inputs @ w + h @ u + b, 4, axis=-1)
        i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
        c = f * c + i * np.tanh(z)
        h = o * np.tanh(c)
    return h


record(lstm_last, _sequences, _reference)
