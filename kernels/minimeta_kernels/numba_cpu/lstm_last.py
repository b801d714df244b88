"""The last state of many short sequences: a block of them goes through all steps in the first caches.

A block's state is a matrix of what a step multiplies: rows of inputs, ones for the bias, and hidden units. These are
zero before the first step, which leaves them out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minimeta_kernels import launch
from minimeta_kernels.numba_cpu.blocks import BLOCK, clear, product, put, rows, spans_of, take, tile_columns
from minimeta_kernels.numba_cpu.compiled import compiled, inlined
from minimeta_kernels.numba_cpu.elementary import tanh
from minimeta_kernels.numba_cpu.product import padded, transpose
from minimeta_kernels.numba_cpu.tile import PACE
from minimeta_kernels.registry import register

#: About what a sigmoid or tanh takes.
_FLOP = 20


@register("lstm_last", "numba", launch.refuses)
def lstm_last(x: Any, w: Any, u: Any, b: Any) -> Any:
    """x [C, N, D], w [D, 4 H], u [H, 4 H], b [4 H] -> h [N, H]; gates in the order of `lstm_cell`."""
    x, w, u, b = launch.contiguous(x, w, u, b)
    h = np.empty((x.shape[1], len(u)), x.dtype)
    spans = spans_of(x.shape[1])
    launch.parallel(_lstm_last, len(spans) - 1, _work(x, u), spans, x, _joined(w, u, b).T.copy(), h)
    return h


@register("lstm_last_vjp", "numba", launch.refuses)
def lstm_last_vjp(g: Any, x: Any, w: Any, u: Any, b: Any) -> tuple[Any, Any, Any, Any]:
    """The gradients by x, w, u and b for the cotangent of h."""
    g, x, w, u, b = launch.contiguous(g, x, w, u, b)
    weights, spans, to_x = _joined(w, u, b), spans_of(x.shape[1]), np.empty_like(x)
    sums = np.zeros((len(spans) - 1, weights.shape[1], tile_columns(len(weights), x.itemsize)), x.dtype)
    launch.parallel(
        _lstm_last_vjp, len(spans) - 1, 3 * _work(x, u), spans, g, x, weights.T.copy(), weights, to_x, sums
    )
    inputs, units = len(w), len(u)
    total = sums.sum(axis=0).T
    return to_x, total[:inputs].copy(), total[inputs + 1 : inputs + 1 + units].copy(), total[inputs].copy()


def _joined(w: Any, u: Any, b: Any) -> np.ndarray[Any, Any]:
    """The weights [D + 1 + H, 4 H] by what they multiply."""
    return np.concatenate([w, b[None], u])


def _work(x: Any, u: Any) -> float:
    """About what one pass forward takes."""
    steps, count, inputs = x.shape
    return float(steps * count * len(u) * (8 * (inputs + len(u)) / PACE + 5 * _FLOP))


@compiled
def _lstm_last(begin: Any, end: Any, spans: Any, x: Any, by_gate: Any, h: Any) -> None:
    steps, _, inputs = x.shape
    terms, units = by_gate.shape[1], h.shape[1]
    state, gates = np.zeros((terms, BLOCK), x.dtype), np.empty((4 * units, BLOCK), x.dtype)
    cell = np.empty((2, units * BLOCK), x.dtype)
    hidden, tanhs = state[inputs + 1 :], np.empty(units * BLOCK, x.dtype)
    gate_at, gates_at = rows(by_gate), rows(gates)
    for first in range(spans[begin], spans[end], BLOCK):
        last = min(first + BLOCK, spans[end])
        _begin(state, cell[0], inputs)
        for t in range(steps):
            take(x[t, first:last], state[:inputs])
            used = inputs + 1 if t == 0 else terms
            product(by_gate, 0, gate_at, state, 0, gates, 0, gates_at, used, False)
            _cell(gates.reshape(-1), cell[t % 2], cell[(t + 1) % 2], tanhs, hidden.reshape(-1))
        put(hidden, h[first:last])


@compiled
def _lstm_last_vjp(
    begin: Any, end: Any, spans: Any, g: Any, x: Any, by_gate: Any, weights: Any, to_x: Any, sums: Any
) -> None:
    steps, _, inputs = x.shape
    (terms, width), units = weights.shape, g.shape[1]
    hidden = slice(inputs + 1, terms)
    states = np.zeros((steps + 1, padded(terms, x.itemsize), BLOCK), x.dtype)
    gates = np.empty((steps, width, BLOCK), x.dtype)
    cells, tanhs = np.empty((steps + 1, units * BLOCK), x.dtype), np.empty((steps, units * BLOCK), x.dtype)
    to_state, g_cell = np.zeros((terms, BLOCK), x.dtype), np.empty(units * BLOCK, x.dtype)
    by_sequence = np.zeros((BLOCK, sums.shape[2]), x.dtype)
    gate_at, gates_at, weights_at = rows(by_gate), rows(gates[0]), rows(weights)
    state_at, inputs_at, sums_at = rows(to_state), rows(to_state[:inputs]), rows(sums[0])
    for span in range(begin, end):
        for first in range(spans[span], spans[span + 1], BLOCK):
            last = min(first + BLOCK, spans[span + 1])
            _begin(states[0], cells[0], inputs)
            for t in range(steps):
                take(x[t, first:last], states[t, :inputs])
                used, at = inputs + 1 if t == 0 else terms, t * gates[0].size
                product(by_gate, 0, gate_at, states, t * states[0].size, gates, at, gates_at, used, False)
                states[t + 1, inputs] = 1
                _cell(gates[t].reshape(-1), cells[t], cells[t + 1], tanhs[t], states[t + 1, hidden].reshape(-1))
            clear(g_cell)
            take(g[first:last], to_state[hidden])
            for t in range(steps - 1, -1, -1):
                _cell_vjp(gates[t].reshape(-1), cells[t], tanhs[t], to_state[hidden].reshape(-1), g_cell)
                transpose(states[t], by_sequence)
                at = t * gates[0].size
                product(gates, at, gates_at, by_sequence, 0, sums, span * sums[0].size, sums_at, BLOCK, True)
                needed = inputs_at if t == 0 else state_at
                product(weights, 0, weights_at, gates, at, to_state, 0, needed, width, False)
                put(to_state[:inputs], to_x[t, first:last])


@inlined
def _begin(state: Any, cell: Any, inputs: Any) -> None:
    """Before the first step; sequences that a block does not fill have zeros."""
    clear(state)
    state[inputs] = 1
    clear(cell)


@inlined
def _cell(gates: Any, old: Any, new: Any, tanhs: Any, h: Any) -> None:
    """One step of all cells; what comes in as pre-activations goes out activated. `tanhs` are the new cells'."""
    size, half = len(old), old.dtype.type(0.5)
    i, f, o, u = gates[:size], gates[size : 2 * size], gates[2 * size : 3 * size], gates[3 * size :]
    opened = gates[: 3 * size]
    for n in range(len(opened)):  # LLVM makes vectors of a loop over a whole array only
        opened[n] = half + half * tanh(half * opened[n])  # a sigmoid whose small values need no more digits than 1 has
    for n in range(len(u)):
        u[n] = tanh(u[n])
    for n in range(size):
        new[n] = f[n] * old[n] + i[n] * u[n]
    for n in range(size):
        tanhs[n] = tanh(new[n])
    for n in range(size):
        h[n] = o[n] * tanhs[n]


@inlined
def _cell_vjp(gates: Any, old: Any, q: Any, g_h: Any, g_cell: Any) -> None:
    """The step before: activated gates become gradients by their pre-activations, `g_cell` that by the old cells.

    `q` are the tanhs of the new cells.
    """
    size, one = len(old), old.dtype.type(1)
    i, f, o, u = gates[:size], gates[size : 2 * size], gates[2 * size : 3 * size], gates[3 * size :]
    for n in range(size):
        g_cell[n] += g_h[n] * o[n] * (one - q[n] * q[n])
    for n in range(size):
        o[n] *= g_h[n] * q[n] * (one - o[n])
    for n in range(size):
        opened, candidate = i[n], u[n]
        i[n] = g_cell[n] * candidate * opened * (one - opened)
        u[n] = g_cell[n] * opened * (one - candidate * candidate)
    for n in range(size):
        kept = f[n]
        f[n] = g_cell[n] * old[n] * kept * (one - kept)
        g_cell[n] *= kept
