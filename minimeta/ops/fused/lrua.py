"""Memory with least recently used access (Santoro et al., 2016): one step, its two halves, a whole sequence.

B episodes, a memory of N rows of width W each, R heads. The R least used rows are chosen by (usage, index) and
returned; the choice is a constant, and usage, which serves for nothing else, carries no gradient.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import minimeta_kernels
from minimeta import backend
from minimeta.autodiff import Tensor, vjp
from minimeta.autodiff.op import op
from minimeta.autodiff.primitives import concatenate
from minimeta.ops.elementwise import sqrt, square
from minimeta.ops.fused.derivatives import fill
from minimeta.ops.fused.matmul import matmul
from minimeta.ops.nn import softmax
from minimeta.ops.record import Draw, record
from minimeta.ops.reduce import sum
from minimeta.ops.results import Results, part
from minimeta.ops.shape import expand_dims, reshape, stack, swapaxes


class LruaState(NamedTuple):
    """What goes from one step to the next."""

    memory: Any  # [B, N, W]
    weights: Any  # [B, R, N], the read weights
    usage: Any  # [B, N], a constant


def lrua(
    state: LruaState, keys: Any, adds: Any, gates: Any, decay: float = 0.95, shared: bool = True, eps: float = 1e-6
) -> tuple[Any, LruaState, Any]:
    """T steps of reading and writing: keys and adds [B, T, R, W], gates [B, T, R] in (0, 1).

    Returns the reads [B, T, R, W], the state after the last step and the least used rows of every step, int64
    [B, T, R]. In each step: head r writes its add with gate * (its read weights before) + (1 - gate) * (one at the R
    least used rows if `shared`, at the r-th of them if not), after the least used row of all has been erased; then it
    reads with weights softmax(k.m / sqrt(|k|^2 |m|^2 + eps)); usage decays, and grows by all weights.
    Raises ValueError where shapes do not fit or there are fewer rows than heads.

    >>> state = LruaState(np.zeros((1, 3, 2)), np.zeros((1, 1, 3)), np.array([[0.5, 0.0, 0.0]]))
    >>> adds = np.array([[[[1.0, 0.0]], [[0.0, 1.0]]]])
    >>> reads, state, rows = lrua(state, adds, adds, np.zeros((1, 2, 1)))
    >>> rows.ravel(), state.memory[0, 1:]
    (array([1, 2]), array([[1., 0.],
                           [0., 1.]]))
    """
    _check("lrua", state, keys, adds, gates, steps=1)
    results = lrua_(*state, keys, adds, gates, decay=decay, shared=shared, eps=eps)
    usage, least_used = _constants(results)[3:5]
    return part(results, 0), LruaState(part(results, 1), part(results, 2), usage), least_used


def lrua_step(
    state: LruaState, keys: Any, adds: Any, gates: Any, decay: float = 0.95, shared: bool = True, eps: float = 1e-6
) -> tuple[Any, LruaState, Any]:
    """One step of `lrua`, for controllers that are fed what was read: keys and adds [B, R, W], gates [B, R].

    Returns the reads [B, R, W], the next state and the least used rows [B, R].
    """
    _check("lrua_step", state, keys, adds, gates, steps=0)
    keys, adds, gates = (expand_dims(a, 1) for a in (keys, adds, gates))
    reads, state, least_used = lrua(state, keys, adds, gates, decay, shared, eps)
    return reads[:, 0], state, least_used[:, 0]


def lrua_read(memory: Any, keys: Any, eps: float = 1e-6) -> tuple[Any, Any]:
    """The reading half of a step: memory [B, N, W], keys [B, R, W] -> reads [B, R, W] and read weights [B, R, N].

    >>> reads, weights = lrua_read(np.eye(2)[None], np.array([[[9.0, 0.0]]]))
    >>> weights.round(3)
    array([[[0.731, 0.269]]])
    """
    _check_sizes("lrua_read", memory=memory, keys=keys)
    results = lrua_read_(memory, keys, eps=eps)
    return part(results, 0), part(results, 1)


def lrua_write(
    state: LruaState, adds: Any, gates: Any, shared: bool = True
) -> tuple[Any, Any, Any]:
    """The writing half of a step: adds [B, R, W], gates [B, R] -> memory, write weights [B, R, N], least used [B, R].

    >>> state = LruaState(np.ones((1, 2, 1)), np.zeros((1, 1, 2)), np.array([[0.0, 1.0]]))
    >>> lrua_write(state, np.full((1, 1, 1), 5.0), np.zeros((1, 1)))[0].ravel()
    array([5., 1.])
    """
    _check("lrua_write", state, adds, adds, gates, steps=0)
    results = lrua_write_(*state, adds, gates, shared=shared)
    return part(results, 0), part(results, 1), _constants(results)[2]


def _check(name: str, state: LruaState, keys: Any, adds: Any, gates: Any, steps: int) -> None:
    memory, weights, usage = state
    _check_sizes(name, memory=memory, weights=weights, usage=usage, keys=keys, adds=adds, gates=gates)
    lead = keys.shape[: 1 + steps]
    batch, rows, width = memory.shape
    heads = keys.shape[-2] if keys.ndim > 1 else 0
    wanted = {
        "weights": (weights, (batch, heads, rows)), "usage": (usage, (batch, rows)),
        "keys": (keys, (*lead, heads, width)), "adds": (adds, keys.shape), "gates": (gates, keys.shape[:-1]),
    }  # fmt: skip
    for argument, (array, shape) in wanted.items():
        if array.shape != shape or lead[:1] != (batch,):
            raise ValueError(
                f"minimeta.{name}: {argument}.shape={array.shape} with memory.shape={memory.shape}, "
                f"keys.shape={keys.shape}; need {argument} {shape}"
            )
    if not 1 <= heads <= rows:
        raise ValueError(f"minimeta.{name}: {heads} heads and {rows} rows; need a row for every head, and a head")


def _check_sizes(name: str, **arrays: Any) -> None:
    memory = arrays["memory"]
    if memory.ndim != 3 or not memory.shape[1]:
        raise ValueError(f"minimeta.{name}: memory.shape={memory.shape}; need [B, N, W] with N of 1 or more")
    keys = arrays["keys"]
    if keys.ndim < 3 or keys.shape[0] != memory.shape[0] or keys.shape[-1] != memory.shape[2]:
        raise ValueError(
            f"minimeta.{name}: memory.shape={memory.shape}, keys.shape={keys.shape}; need equal B and W"
        )


def _constants(results: Any) -> tuple[Any, ...]:
    """The arrays of a result, without their node."""
    return results.data.arrays if type(results) is Tensor else results.arrays  # type: ignore[no-any-return]


@op(saves="all")
def lrua_(
    xp: Any, memory: Any, weights: Any, usage: Any, keys: Any, adds: Any, gates: Any, *,
    decay: float, shared: bool, eps: float,
) -> Any:  # fmt: skip
    return Results(
        minimeta_kernels.call(
            "lrua", memory, weights, usage, keys, adds, gates, decay=decay, shared=shared, eps=eps
        )
    )


@lrua_.vjp()
def _(
    g: Any, y: Any, memory: Any, weights: Any, usage: Any, keys: Any, adds: Any, gates: Any,
    decay: float, shared: bool, eps: float,
) -> Any:  # fmt: skip
    least_used, *trajectory = _constants(y)[4:]
    cotangents, arrays = [part(g, i) for i in range(3)], (memory, weights, keys, adds, gates)
    if type(g) is not Tensor:
        found = minimeta_kernels.call(
            "lrua_vjp", *cotangents, *arrays, least_used, *trajectory, shared=shared, eps=eps
        )
    else:
        def sequence(memory: Any, weights: Any, keys: Any, adds: Any, gates: Any) -> Any:
            return _sequence(memory, weights, keys, adds, gates, least_used, shared, eps)

        pull = vjp(sequence, *arrays)[1]
        found = pull(fill(cotangents, (keys, memory, weights)))
    g_memory, g_weights, g_keys, g_adds, g_gates = found
    return g_memory, g_weights, None, g_keys, g_adds, g_gates


@op(saves="inputs")
def lrua_read_(xp: Any, memory: Any, keys: Any, *, eps: float) -> Any:
    return Results(minimeta_kernels.call("lrua_read", memory, keys, eps=eps))


@lrua_read_.vjp()
def _(g: Any, y: Any, memory: Any, keys: Any, eps: float) -> Any:
    cotangents = part(g, 0), part(g, 1)
    if type(g) is not Tensor:
        return minimeta_kernels.call("lrua_read_vjp", *cotangents, memory, keys, eps=eps)
    (reads, weights), pull = vjp(lambda memory, keys: _read(memory, keys, eps), memory, keys)
    return pull(fill(cotangents, (reads, weights)))


@op(saves="all")
def lrua_write_(xp: Any, memory: Any, weights: Any, usage: Any, adds: Any, gates: Any, *, shared: bool) -> Any:
    return Results(minimeta_kernels.call("lrua_write", memory, weights, usage, adds, gates, shared=shared))


@lrua_write_.vjp()
def _(g: Any, y: Any, memory: Any, weights: Any, usage: Any, adds: Any, gates: Any, shared: bool) -> Any:
    least_used = _constants(y)[2]
    cotangents = part(g, 0), part(g, 1)
    if type(g) is not Tensor:
        found = minimeta_kernels.call("lrua_write_vjp", *cotangents, weights, adds, gates, least_used, shared=shared)
    else:
        def write(memory: Any, weights: Any, adds: Any, gates: Any) -> Any:
            return _write(memory, weights, adds, gates, least_used, shared)

        pull = vjp(write, memory, weights, adds, gates)[1]
        found = pull(fill(cotangents, (memory, weights)))
    g_memory, g_weights, g_adds, g_gates = found
    return g_memory, g_weights, None, g_adds, g_gates


# The same by ordinary operations, with the rows chosen already.


def _sequence(
    memory: Any, weights: Any, keys: Any, adds: Any, gates: Any, least_used: Any, shared: bool, eps: float
) -> tuple[Any, Any, Any]:
    reads = []
    for t in range(keys.shape[1]):
        memory, _ = _write(memory, weights, adds[:, t], gates[:, t], least_used[:, t], shared)
        read, weights = _read(memory, keys[:, t], eps)
        reads.append(read)
    return stack(reads, axis=1), memory, weights


def _read(memory: Any, keys: Any, eps: float) -> tuple[Any, Any]:
    lengths = expand_dims(sum(square(keys), axis=-1), -1) * expand_dims(sum(square(memory), axis=-1), -2)
    weights = softmax(matmul(keys, swapaxes(memory, -1, -2)) / sqrt(lengths + eps))
    return matmul(weights, memory), weights


def _write(memory: Any, weights: Any, adds: Any, gates: Any, least_used: Any, shared: bool) -> tuple[Any, Any]:
    xp = backend.namespace(least_used)
    rows = xp.arange(memory.shape[1])
    chosen = xp.astype(least_used[..., None] == rows, str(memory.dtype))
    targets = xp.broadcast_to(xp.sum(chosen, axis=1, keepdims=True), chosen.shape) if shared else chosen
    gates = expand_dims(gates, -1)
    write_weights = gates * weights + (1 - gates) * targets
    kept = memory * (1 - chosen[:, 0, :, None])
    return kept + matmul(swapaxes(write_weights, -1, -2), adds), write_weights


def _arguments(draw: Draw, *steps: int) -> Any:
    """memory, weights, keys, adds, gates; and usage, no two alike, so that small changes do not choose other rows.

    All positive: the cosine turns round within eps of a zero vector, too fast for finite differences.
    """
    batch, heads, width = draw.integer(1, 2), draw.integer(1, 2), draw.integer(1, 2)
    rows = draw.integer(heads, 3)
    usage = np.argsort(draw.array((batch, rows))) * 10.0
    vectors = (batch, *steps, heads, width)
    arrays = draw.array((batch, rows, width), 0.5, 2), draw.array((batch, heads, rows), 0, 1)
    options = {"usage": usage, "shared": draw.choice((True, False))}
    keys, adds = draw.array(vectors, 0.5, 2), draw.array(vectors, 0.5, 2)
    return (*arrays, keys, adds, draw.array(vectors[:-1], 0.1, 0.9)), options


def _state(memory: Any, weights: Any, usage: Any) -> LruaState:
    """With usage brought to the module and dtype of the memory."""
    like = memory.data if type(memory) is Tensor else memory
    return LruaState(memory, weights, backend.namespace(like).asarray(usage, dtype=like.dtype))


def _joined(*results: Any) -> Any:
    return concatenate([reshape(r, (-1,)) for r in results])


def _record_sequence(memory: Any, weights: Any, keys: Any, adds: Any, gates: Any, usage: Any, shared: bool) -> Any:
    reads, state, _ = lrua(_state(memory, weights, usage), keys, adds, gates, shared=shared)
    return _joined(reads, *state[:2])


def _record_step(memory: Any, weights: Any, keys: Any, adds: Any, gates: Any, usage: Any, shared: bool) -> Any:
    reads, state, _ = lrua_step(_state(memory, weights, usage), keys, adds, gates, shared=shared)
    return _joined(reads, *state[:2])


def _record_read(memory: Any, keys: Any) -> Any:
    return _joined(*lrua_read(memory, keys))


def _record_write(memory: Any, weights: Any, adds: Any, gates: Any, usage: Any, shared: bool) -> Any:
    return _joined(*lrua_write(_state(memory, weights, usage), adds, gates, shared=shared)[:2])


def _reference(memory: Any, weights: Any, keys: Any, adds: Any, gates: Any, usage: Any, shared: bool) -> Any:
    """Episode by episode, head by head."""
    reads = np.zeros_like(keys)
    memory, weights, usage = memory.copy(), weights.copy(), usage.copy()
    for b, t in np.ndindex(keys.shape[:2]):
        memory[b], written, _ = _reference_write(memory[b], weights[b], adds[b, t], gates[b, t], usage[b], shared)
        reads[b, t], weights[b] = _reference_read(memory[b], keys[b, t])
        usage[b] = 0.95 * usage[b] + written.sum(0) + weights[b].sum(0)
    return np.concatenate([reads.ravel(), memory.ravel(), weights.ravel()])


def _reference_write(memory: Any, weights: Any, adds: Any, gates: Any, usage: Any, shared: bool) -> Any:
    least = np.argsort(usage, kind="stable")[: len(adds)]
    memory, written = memory.copy(), gates[:, None] * weights
    memory[least[0]] = 0
    for r, gate in enumerate(gates):
        written[r, least if shared else least[r]] += 1 - gate
        memory += np.outer(written[r], adds[r])
    return memory, written, least


def _reference_read(memory: Any, keys: Any) -> Any:
    cosines = keys @ memory.T / np.sqrt(np.outer((keys**2).sum(-1), (memory**2).sum(-1)) + 1e-6)
    weights = np.exp(cosines) / np.exp(cosines).sum(-1, keepdims=True)
    return weights @ memory, weights


def _one_step(memory: Any, weights: Any, keys: Any, adds: Any, gates: Any, **options: Any) -> Any:
    return _reference(memory, weights, keys[:, None], adds[:, None], gates[:, None], **options)


def _one_read(memory: Any, keys: Any) -> Any:
    pairs = [_reference_read(m, k) for m, k in zip(memory, keys, strict=True)]
    return np.concatenate([np.stack(found).ravel() for found in zip(*pairs, strict=True)])


def _one_write(memory: Any, weights: Any, adds: Any, gates: Any, usage: Any, shared: bool) -> Any:
    found = [_reference_write(*state, shared) for state in zip(memory, weights, adds, gates, usage, strict=True)]
    return np.concatenate([np.stack([f[i] for f in found]).ravel() for i in range(2)])


def _read_arguments(draw: Draw) -> Any:
    (memory, _, keys, _, _), _ = _arguments(draw)
    return (memory, keys), {}


def _write_arguments(draw: Draw) -> Any:
    (memory, weights, _, adds, gates), options = _arguments(draw)
    return (memory, weights, adds, gates), options


for _operation, _wrapper, _cases, _truth in (
    (lrua, _record_sequence, lambda draw: _arguments(draw, draw.integer(1, 2)), _reference),
    (lrua_step, _record_step, _arguments, _one_step),
    (lrua_read, _record_read, _read_arguments, _one_read),
    (lrua_write, _record_write, _write_arguments, _one_write),
):
    _wrapper.__name__, _wrapper.__doc__ = _operation.__name__, _operation.__doc__
    record(_wrapper, _cases, _truth)
