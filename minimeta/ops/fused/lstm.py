"""The LSTM cell: one matrix product and one fused pass over what comes out of it."""

from __future__ import annotations

from typing import Any

import numpy as np

import minimeta_kernels
from minimeta.autodiff import Tensor, vjp
from minimeta.autodiff.op import op
from minimeta.ops.elementwise import sigmoid, tanh
from minimeta.ops.fused.derivatives import fill
from minimeta.ops.fused.matmul import matmul
from minimeta.ops.record import Draw, record
from minimeta.ops.results import Results, part
from minimeta.ops.shape import split


def lstm_cell(x: Any, h: Any, c: Any, w: Any, u: Any, b: Any) -> tuple[Any, Any]:
    """One step of a long short-term memory (Hochreiter and Schmidhuber, 1997): returns the new (h, c).

    x [..., D], h and c [..., H], w [D, 4H], u [H, 4H], b [4H], gate blocks in the order input, forget, output,
    candidate: i, f, o = sigmoid(.), u = tanh(.); c' = f c + i u; h' = o tanh(c').

    >>> h, c = lstm_cell(np.ones((1, 2)), np.zeros((1, 3)), np.zeros((1, 3)), np.ones((2, 12)), np.ones((3, 12)), 0.0)
    >>> h.shape, c.shape
    ((1, 3), (1, 3))
    """
    return lstm_gates(matmul(x, w) + matmul(h, u) + b, c)


def lstm_gates(gates: Any, c: Any) -> tuple[Any, Any]:
    """The cell of `lstm_cell` from its pre-activations [..., 4H] and c [..., H] on: the new (h, c).

    For sequences: what the inputs contribute to all steps' gates is one matrix product, made before the first step.
    Raises ValueError where shapes do not fit.

    >>> h, c = lstm_gates(np.zeros((1, 8)), np.ones((1, 2)))
    >>> c
    array([[0.5, 0.5]])
    """
    if gates.ndim != c.ndim or gates.shape != (*c.shape[:-1], 4 * c.shape[-1]):
        raise ValueError(
            f"minimeta.lstm_gates: gates.shape={gates.shape}, c.shape={c.shape}; need gates [..., 4H] and c [..., H]"
        )
    results = lstm_gates_(gates, c)
    return part(results, 0), part(results, 1)


@op()
def lstm_gates_(xp: Any, gates: Any, c: Any) -> Any:
    return Results(minimeta_kernels.call("lstm_cell", gates, c))


@lstm_gates_.vjp()
def _(g: Any, y: Any, gates: Any, c: Any) -> Any:
    cotangents = part(g, 0), part(g, 1)
    if type(g) is not Tensor:
        return minimeta_kernels.call("lstm_cell_vjp", *cotangents, gates, c)
    return vjp(_composite, gates, c)[1](fill(cotangents, (c, c)))


def _composite(gates: Any, c: Any) -> tuple[Any, Any]:
    """The same by ordinary operations."""
    input_gate, forget_gate, output_gate, candidate = split(gates, 4, axis=-1)
    c = sigmoid(forget_gate) * c + sigmoid(input_gate) * tanh(candidate)
    return sigmoid(output_gate) * tanh(c), c


def _cell(draw: Draw) -> Any:
    n, d, h = draw.integer(0, 2), draw.integer(1, 2), draw.integer(1, 2)
    return tuple(draw.array(s) for s in ((n, d), (n, h), (n, h), (d, 4 * h), (h, 4 * h), (4 * h,))), {}


def _cell_reference(x: Any, h: Any, c: Any, w: Any, u: Any, b: Any) -> Any:
    i, f, o, z = np.split(x @ w + h @ u + b, 4, axis=-1)
    s = [1 / (1 + np.exp(-gate)) for gate in (i, f, o)]
    c = s[1] * c + s[0] * np.tanh(z)
    return s[2] * np.tanh(c), c


def _gates(draw: Draw) -> Any:
    lead, h = draw.shape(max_dims=2), draw.integer(1, 2)
    return (draw.array((*lead, 4 * h)), draw.array((*lead, h))), {}


def _gates_reference(gates: Any, c: Any) -> Any:
    size = c.shape[-1]
    return _cell_reference(gates, c, c, np.eye(4 * size), np.zeros((size, 4 * size)), 0.0)


record(lstm_cell, _cell, _cell_reference)
record(lstm_gates, _gates, _gates_reference)
