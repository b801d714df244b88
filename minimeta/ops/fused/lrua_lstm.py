"""A memory-augmented network's sequence (Santoro et al., 2016): an LSTM, a memory, and what was read comes back.

B episodes, T steps, H units, a memory of N rows of width W, R heads. The equations and what is kept of every step stand
in `minimeta_kernels/reference/lrua_lstm.py`; those of the memory in `lrua`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import minimeta_kernels
from minimeta import backend
from minimeta.autodiff import Tensor, vjp
from minimeta.autodiff.op import op
from minimeta.autodiff.primitives import concatenate
from minimeta.ops.elementwise import sigmoid, tanh
from minimeta.ops.fused.derivatives import fill
from minimeta.ops.fused.lrua import (
    LruaState,
    _constants,
    _joined,
    _reference_read,
    _reference_write,
    _state,
    lrua_read,
    lrua_write,
)
from minimeta.ops.fused.lstm import lstm_gates
from minimeta.ops.fused.matmul import matmul
from minimeta.ops.record import Draw, record
from minimeta.ops.results import Results, part
from minimeta.ops.shape import reshape, stack

#: Where the usage after the last step and the chosen rows stand among the kernel's results.
_USAGE, _LEAST_USED = 7, 12


class LruaLstmState(NamedTuple):
    """What goes from one step to the next."""

    hidden: Any  # [B, H]
    cell: Any  # [B, H]
    reads: Any  # [B, R, W], what the step before read
    memory: Any  # [B, N, W]
    weights: Any  # [B, R, N], the read weights
    usage: Any  # [B, N], a constant


def lrua_lstm(
    state: LruaLstmState, gates: Any, recurrent: Any, heads: Any, bias: Any,
    decay: float = 0.95, shared: bool = True, eps: float = 1e-6,
) -> tuple[Any, Any, LruaLstmState]:  # fmt: skip
    """T steps: hidden states [B, T, H], reads [B, T, R, W] and the state after the last step.

    gates [B, T, 4H] is what the inputs from outside contribute to the cell's pre-activations, bias included. In each
    step (h, c) = lstm_gates(gates + [reads h] @ recurrent, c) with the reads and h of the step before and recurrent
    [RW + H, 4H]; h @ heads + bias, heads [H, K], are pre-activations of keys (tanh), adds (tanh) and gates (sigmoid)
    for `lrua_step`, whose options `decay`, `shared` and `eps` are. K is 2RW + R, or RW + R where keys are adds too.
    Raises ValueError where shapes do not fit or there are fewer rows than heads.

    >>> state = LruaLstmState(*map(np.zeros, ((1, 3), (1, 3), (1, 1, 2), (1, 4, 2), (1, 1, 4), (1, 4))))
    >>> hidden, reads, state = lrua_lstm(state, np.ones((1, 5, 12)), np.ones((5, 12)), np.ones((3, 5)), np.zeros(5))
    >>> hidden.shape, reads.shape, state.memory.shape
    ((1, 5, 3), (1, 5, 1, 2), (1, 4, 2))
    """
    _check(state, gates, recurrent, heads, bias)
    results = lrua_lstm_(*state, gates, recurrent, heads, bias, decay=decay, shared=shared, eps=eps)
    after = [part(results, i) for i in range(2, _USAGE)]
    return part(results, 0), part(results, 1), LruaLstmState._make((*after, _constants(results)[_USAGE]))


def _check(state: LruaLstmState, gates: Any, recurrent: Any, heads: Any, bias: Any) -> None:
    hidden, _, reads, memory, _, _ = state
    for name, array, form in (
        ("hidden", hidden, "[B, H]"), ("reads", reads, "[B, R, W]"), ("memory", memory, "[B, N, W]"),
        ("gates", gates, "[B, T, 4H]"), ("heads", heads, "[H, K]"),
    ):  # fmt: skip
        if array.ndim != form.count(",") + 1:
            raise ValueError(f"minimeta.lrua_lstm: {name}.shape={array.shape}; need {form}")
    (batch, units), (_, count, width), rows, steps = hidden.shape, reads.shape, memory.shape[1], gates.shape[1]
    if not (steps and units and width and 1 <= count <= rows):
        raise ValueError(
            f"minimeta.lrua_lstm: {steps} steps, {units} units, {count} heads and {rows} rows of width {width}; "
            "need one of each or more, and a row for every head"
        )
    size, emitted = count * width, heads.shape[1]
    if emitted not in (2 * size + count, size + count):
        raise ValueError(
            f"minimeta.lrua_lstm: heads.shape={heads.shape} with {count} heads of width {width}; need [H, K] with "
            f"K = {2 * size + count} for keys, adds and gates or K = {size + count} for keys and gates"
        )
    wanted = LruaLstmState(
        (batch, units), (batch, units), (batch, count, width), (batch, rows, width), (batch, count, rows), (batch, rows)
    )._asdict()
    wanted |= {"gates": (batch, steps, 4 * units), "recurrent": (size + units, 4 * units)}
    wanted |= {"heads": (units, emitted), "bias": (emitted,)}
    found = state._asdict() | {"gates": gates, "recurrent": recurrent, "heads": heads, "bias": bias}
    for name, shape in wanted.items():
        if found[name].shape != shape:
            raise ValueError(
                f"minimeta.lrua_lstm: {name}.shape={found[name].shape} with hidden.shape={hidden.shape}, "
                f"reads.shape={reads.shape}, memory.shape={memory.shape}; need {name} {shape}"
            )


@op(saves="all")
def lrua_lstm_(
    xp: Any, hidden: Any, cell: Any, reads: Any, memory: Any, weights: Any, usage: Any,
    gates: Any, recurrent: Any, heads: Any, bias: Any, *, decay: float, shared: bool, eps: float,
) -> Any:  # fmt: skip
    arrays = hidden, cell, reads, memory, weights, usage, gates, recurrent, heads, bias
    return Results(tuple(minimeta_kernels.call("lrua_lstm", *arrays, decay=decay, shared=shared, eps=eps)))


@lrua_lstm_.vjp()
def _(
    g: Any, y: Any, hidden: Any, cell: Any, reads: Any, memory: Any, weights: Any, usage: Any,
    gates: Any, recurrent: Any, heads: Any, bias: Any, decay: float, shared: bool, eps: float,
) -> Any:  # fmt: skip
    kept, cotangents = _constants(y), [part(g, i) for i in range(_USAGE)]
    if type(g) is not Tensor:
        trajectory = recurrent, heads, *kept[_USAGE + 1 :]
        found = minimeta_kernels.call("lrua_lstm_vjp", *cotangents, *trajectory, shared=shared, eps=eps)
    else:
        def sequence(*arrays: Any) -> Any:
            return _sequence(kept[_LEAST_USED], shared, eps, *arrays)

        pull = vjp(sequence, hidden, cell, reads, memory, weights, gates, recurrent, heads, bias)[1]
        found = pull(fill(cotangents, kept[:_USAGE]))
    return *found[:5], None, *found[5:]


# The same by ordinary operations, with the rows chosen already.


def _sequence(
    least_used: Any, shared: bool, eps: float,
    hidden: Any, cell: Any, reads: Any, memory: Any, weights: Any, gates: Any, recurrent: Any, heads: Any, bias: Any,
) -> tuple[Any, ...]:  # fmt: skip
    shape, count, rows = reads.shape, reads.shape[1], memory.shape[1]
    size = count * shape[2]
    hiddens, all_reads = [], []
    for t in range(gates.shape[1]):
        inputs = concatenate([reshape(reads, (shape[0], size)), hidden], axis=-1)
        hidden, cell = lstm_gates(gates[:, t] + matmul(inputs, recurrent), cell)
        emitted = matmul(hidden, heads) + bias
        vectors = tanh(emitted[:, :-count])
        keys, adds = reshape(vectors[:, :size], shape), reshape(vectors[:, -size:], shape)
        state = LruaState(memory, weights, _usage(least_used[:, t], rows, memory.dtype))
        memory, _, _ = lrua_write(state, adds, sigmoid(emitted[:, -count:]), shared)
        reads, weights = lrua_read(memory, keys, eps)
        hiddens.append(hidden)
        all_reads.append(reads)
    return stack(hiddens, axis=1), stack(all_reads, axis=1), hidden, cell, reads, memory, weights


def _usage(least_used: Any, rows: int, dtype: Any) -> Any:
    """A usage that chooses these rows in this order."""
    xp = backend.namespace(least_used)
    chosen = xp.astype(least_used[..., None] == xp.arange(rows), str(dtype))
    return xp.sum(chosen * xp.arange(-least_used.shape[1], 0, dtype=chosen.dtype)[:, None], axis=1)


def _arguments(draw: Draw) -> Any:
    """Usage is well apart, and keys and memory are positive: see the arguments of `lrua`."""
    batch, steps, units = draw.integer(1, 2), draw.integer(1, 2), draw.integer(1, 2)
    count, width = draw.integer(1, 2), draw.integer(1, 2)
    rows, size = draw.integer(count, 3), count * width
    emitted = draw.choice((2, 1)) * size + count
    state = (
        draw.array((batch, units), -1, 1), draw.array((batch, units)), draw.array((batch, count, width)),
        draw.array((batch, rows, width), 0.5, 2), draw.array((batch, count, rows), 0, 1),
    )  # fmt: skip
    gates, recurrent = draw.array((batch, steps, 4 * units)), draw.array((size + units, 4 * units), -0.5, 0.5)
    heads, bias = draw.array((units, emitted), -0.2, 0.2), draw.array((emitted,), 1, 2)
    usage = np.argsort(draw.array((batch, rows))) * 10.0
    return (*state, gates, recurrent, heads, bias), {"usage": usage, "shared": draw.choice((True, False))}


def _record(
    hidden: Any, cell: Any, reads: Any, memory: Any, weights: Any, gates: Any, recurrent: Any, heads: Any, bias: Any,
    usage: Any, shared: bool,
) -> Any:  # fmt: skip
    state = LruaLstmState(hidden, cell, reads, *_state(memory, weights, usage))
    hiddens, all_reads, state = lrua_lstm(state, gates, recurrent, heads, bias, shared=shared)
    return _joined(hiddens, all_reads, *state[:5])


def _reference(
    hidden: Any, cell: Any, reads: Any, memory: Any, weights: Any, gates: Any, recurrent: Any, heads: Any, bias: Any,
    usage: Any, shared: bool,
) -> Any:  # fmt: skip
    """Episode by episode."""
    episodes = zip(hidden, cell, reads, memory, weights, gates, usage, strict=True)
    found = [_reference_episode(recurrent, heads, bias, shared, *episode) for episode in episodes]
    return np.concatenate([np.stack(arrays).ravel() for arrays in zip(*found, strict=True)])


def _reference_episode(
    recurrent: Any, heads: Any, bias: Any, shared: bool,
    hidden: Any, cell: Any, reads: Any, memory: Any, weights: Any, gates: Any, usage: Any,
) -> tuple[Any, ...]:  # fmt: skip
    count, width = reads.shape
    hiddens, all_reads = [], []
    for x in gates:
        *opened, candidate = np.split(x + reads.ravel() @ recurrent[: reads.size] + hidden @ recurrent[reads.size :], 4)
        i, f, o = (1 / (1 + np.exp(-a)) for a in opened)
        cell = f * cell + i * np.tanh(candidate)
        hidden = o * np.tanh(cell)
        emitted = hidden @ heads + bias
        keys, *others = np.tanh(emitted[:-count]).reshape(-1, count, width)
        adds = others[0] if others else keys
        memory, written, _ = _reference_write(memory, weights, adds, 1 / (1 + np.exp(-emitted[-count:])), usage, shared)
        reads, weights = _reference_read(memory, keys)
        usage = 0.95 * usage + written.sum(0) + weights.sum(0)
        hiddens.append(hidden)
        all_reads.append(reads)
    return np.stack(hiddens), np.stack(all_reads), hidden, cell, reads, memory, weights


_record.__name__, _record.__doc__ = lrua_lstm.__name__, lrua_lstm.__doc__
record(_record, _arguments, _reference)
