"""The cell of an LSTM (Hochreiter & Schmidhuber 1997, with forget gate) behind its matrix product.

With i, f, o = sigmoid and u = tanh of the four blocks of pre-activations:

    c' = f c + i u,  h = o tanh(c')
"""

from __future__ import annotations

from typing import Any

from minimeta_kernels.reference.modules import array_module
from minimeta_kernels.registry import register


@register("lstm_cell", "reference")
def lstm_cell(gates: Any, c: Any) -> tuple[Any, Any]:
    """gates [..., 4 H] (input, forget, output, candidate), cell c [..., H] -> h, c' [..., H]."""
    i, f, o, u = _activations(gates)
    c_new = f * c + i * u
    return o * array_module(gates).tanh(c_new), c_new


@register("lstm_cell_vjp", "reference")
def lstm_cell_vjp(g_h: Any, g_c: Any, gates: Any, c: Any) -> tuple[Any, Any]:
    """The gradients by gates and c for the cotangents of h and c', either of which may be None.

    With q = tanh(c'):  c'_ += h_ o (1 - q^2), o_ = h_ q;  i_ = c'_ u, f_ = c'_ c, u_ = c'_ i, c_ = c'_ f.
    """
    xp = array_module(gates)
    g_h, g_c = (xp.zeros_like(c) if g is None else g for g in (g_h, g_c))
    i, f, o, u = _activations(gates)
    q = xp.tanh(f * c + i * u)
    g_c = g_c + g_h * o * (1 - q * q)
    blocks = (g_c * u * i * (1 - i), g_c * c * f * (1 - f), g_h * q * o * (1 - o), g_c * i * (1 - u * u))
    return xp.concatenate(blocks, axis=-1), g_c * f


def _activations(gates: Any) -> tuple[Any, Any, Any, Any]:
    """i, f, o, u [..., H]."""
    xp = array_module(gates)
    size = gates.shape[-1] // 4
    i, f, o, u = (gates[..., k * size : (k + 1) * size] for k in range(4))
    return sigmoid(i), sigmoid(f), sigmoid(o), xp.tanh(u)


def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)), with exp of negative numbers only: it does not overflow and keeps the small values exact."""
    xp = array_module(x)
    raised = xp.exp(-xp.abs(x))
    return xp.where(x < 0, raised, 1) / (1 + raised)
