"""Where an LSTM is after reading a sequence, many sequences at once (Hochreiter & Schmidhuber 1997).

    h_t, c_t = cell(x_t w + h_t-1 u + b, c_t-1),  h_0 = c_0 = 0;   the result is h_C

Nothing else is kept: the derivative goes through all steps again. So it takes little memory where sequences are short
and many, and the LSTM is small, as one that reads the gradients of all coordinates of a network.
"""

from __future__ import annotations

from typing import Any

from minimeta_kernels.reference.modules import array_module
from minimeta_kernels.registry import call, register


@register("lstm_last", "reference")
def lstm_last(x: Any, w: Any, u: Any, b: Any) -> Any:
    """x [C, N, D], w [D, 4 H], u [H, 4 H], b [4 H] -> h [N, H]; gates in the order of `lstm_cell`."""
    return _walk(x, w, u, b)[1][-1]


@register("lstm_last_vjp", "reference")
def lstm_last_vjp(g: Any, x: Any, w: Any, u: Any, b: Any) -> tuple[Any, Any, Any, Any]:
    """The gradients by x, w, u and b for the cotangent of h."""
    xp = array_module(x)
    gates, hidden, cells = _walk(x, w, u, b)
    to_x, to_w, to_u, to_b = (xp.zeros_like(a) for a in (x, w, u, b))
    g_c = xp.zeros_like(cells[0])
    for t in range(len(x) - 1, -1, -1):
        to_gates, g_c = call("lstm_cell_vjp", g, g_c, gates[t], cells[t])
        to_x[t] = to_gates @ w.T
        to_w += x[t].T @ to_gates
        to_u += hidden[t].T @ to_gates
        to_b += to_gates.sum(axis=0)
        g = to_gates @ u.T
    return to_x, to_w, to_u, to_b


def _walk(x: Any, w: Any, u: Any, b: Any) -> tuple[list[Any], list[Any], list[Any]]:
    """The pre-activations of all steps, and hidden states and cells before and after each."""
    zero = array_module(x).zeros((x.shape[1], u.shape[0]), dtype=x.dtype)
    gates, hidden, cells = [], [zero], [zero]
    for inputs in x:
        gates.append(inputs @ w + hidden[-1] @ u + b)
        h, c = call("lstm_cell", gates[-1], cells[-1])
        hidden.append(h)
        cells.append(c)
    return gates, hidden, cells
