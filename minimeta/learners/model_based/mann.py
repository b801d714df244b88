"""Memory-augmented network with least recently used access (Santoro et al., 2016).

Per step and head, from the controller's h_t:

    k_t = tanh(W_k h_t), a_t = tanh(W_a h_t), s_t = sigmoid(w_s . h_t)
    wlu_t-1  one at the R least used rows, by (usage, index)
    ww_t     = s_t wr_t-1 + (1 - s_t) wlu_t-1            M_t = E M_t-1 + sum ww_t a_t, E erasing the least used row
    wr_t     = softmax(cos(k_t, M_t))                    r_t = wr_t M_t
    wu_t     = decay wu_t-1 + sum wr_t + sum ww_t
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np

from minimeta import layers, ops
from minimeta.autodiff import stop_gradient
from minimeta.learners.base import Params, check_choice, check_least
from minimeta.learners.model_based.base import SequenceLearner
from minimeta.learners.model_based.controller import State

START = 1e-6  # of every number in memory: cosines want rows that are not zero
EPS = 1e-6


@final
@dataclass(frozen=True)
class MANN(SequenceLearner):
    """A memory of `rows` rows of `width` numbers, with `heads` heads that write and read.

    Variants: `write_vector` a_t is a "separate" one or, as in the paper, the "key"; a head writes to all least used
    rows or, `write_rows` "own", the j-th head to the j-th of them; `address` looks for keys in the memory "after" the
    write or "before" it, though reading what is there after it; with `feedback` False the reads do not go back into
    the controller, which the paper's equations omit and its text has.

    >>> learner = MANN(hidden=16, rows=8, width=4, heads=2)
    >>> params = learner.init(np.random.default_rng(0))
    >>> xs, ys = np.random.default_rng(1).random((1, 5, 20, 20, 1), np.float32), np.arange(5)[None]
    >>> learner.predict(params, learner.adapt(params, xs, ys, n_way=5), xs).shape
    (1, 5, 5)
    """

    rows: int = 128
    width: int = 40
    heads: int = 4
    decay: float = 0.95
    write_vector: str = "separate"
    write_rows: str = "all"
    address: str = "after"
    feedback: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "write_vector", ("separate", "key"))
        check_choice(self, "write_rows", ("all", "own"))
        check_choice(self, "address", ("after", "before"))
        check_least(self, rows=1, width=1, heads=1)
        if self.heads > self.rows:
            raise ValueError(f"MANN: heads={self.heads}, rows={self.rows}; need a row for every head")
        if not 0 <= self.decay < 1:
            raise ValueError(f"MANN: decay={self.decay}; need 0 <= decay < 1")

    @property
    def read_size(self) -> int:
        return self.heads * self.width

    @property
    def fed_back(self) -> bool:
        return self.feedback

    def memory_init(self, rng: np.random.Generator) -> Params:
        vectors = 2 if self.write_vector == "separate" else 1
        return layers.linear_init(rng, self.hidden, self.heads * (vectors * self.width + 1))

    def memory_start(self, sequences: int, xp: Any, dtype: Any) -> ops.LruaState:
        memory = xp.full((sequences, self.rows, self.width), START, dtype=dtype)
        first = ops.one_hot(xp.zeros((sequences, self.heads), dtype=int), self.rows, dtype)
        return ops.LruaState(memory, first, first[:, 0])

    def walk(self, params: Params, gates: Any, state: State) -> tuple[Any, State]:
        if self.address == "before":
            return super().walk(params, gates, state)
        if not self.feedback:
            return self._walk_apart(params, gates, state)
        if self.controller == "lstm":
            return self._walk_fused(params, gates, state)
        return super().walk(params, gates, state)

    def _walk_fused(self, params: Params, gates: Any, state: State) -> tuple[Any, State]:
        reads = state.reads.reshape(len(gates), self.heads, self.width)
        before = ops.LruaLstmState(state.hidden, state.cell, reads, *state.memory)
        hidden, reads, after = ops.lrua_lstm(
            before, gates, params["controller"]["u"], params["memory"]["w"], params["memory"]["b"],
            self.decay, self.write_rows == "all", EPS,
        )  # fmt: skip
        reads = reads.reshape(*hidden.shape[:2], -1)
        state = State(after.hidden, after.cell, reads[:, -1], ops.LruaState(after.memory, after.weights, after.usage))
        return ops.concatenate([hidden, reads], axis=-1), state

    def _walk_apart(self, params: Params, gates: Any, state: State) -> tuple[Any, State]:
        """The controller first, then the memory: it does not know what is read."""
        steps = []
        for step in ops.unstack(gates, axis=1):
            hidden, cell = self.control(params["controller"], step, state)
            state = state._replace(hidden=hidden, cell=cell)
            steps.append(hidden)
        hidden = ops.stack(steps, axis=1)
        vectors = self._vectors(params["memory"], hidden)
        reads, memory, _ = ops.lrua(state.memory, *vectors, self.decay, self.write_rows == "all", EPS)
        reads = reads.reshape(*hidden.shape[:2], -1)
        return ops.concatenate([hidden, reads], axis=-1), state._replace(reads=reads[:, -1], memory=memory)

    def access(self, weights: Params, hidden: Any, memory: ops.LruaState) -> tuple[Any, ops.LruaState]:
        keys, adds, gates = self._vectors(weights, hidden)
        shared = self.write_rows == "all"
        if self.address == "after":
            reads, memory, _ = ops.lrua_step(memory, keys, adds, gates, self.decay, shared, EPS)
        else:
            written, write_weights, _ = ops.lrua_write(memory, adds, gates, shared)
            read_weights = ops.lrua_read(memory.memory, keys, EPS)[1]
            reads = read_weights @ written
            used = stop_gradient(read_weights + write_weights).sum(axis=1)
            memory = ops.LruaState(written, read_weights, self.decay * memory.usage + used)
        return reads.reshape(len(hidden), -1), memory

    def weightings(self, weights: Params, hidden: Any, before: Any, after: Any) -> dict[str, Any]:
        _, adds, gates = self._vectors(weights, hidden)
        written = ops.lrua_write(before, adds, gates, self.write_rows == "all")[1]
        return {"write": written, "read": after.weights, "usage": after.usage[:, None]}

    def _vectors(self, weights: Params, hidden: Any) -> tuple[Any, Any, Any]:
        """Keys and write vectors [..., R, W], gates [..., R] of hidden [..., H]."""
        *vectors, gates = ops.split(layers.linear(weights, hidden), self._bounds(), axis=-1)
        vectors = [ops.tanh(v).reshape(*v.shape[:-1], self.heads, self.width) for v in vectors]
        return vectors[0], vectors[-1], ops.sigmoid(gates)

    def _bounds(self) -> list[int]:
        return [self.read_size, 2 * self.read_size] if self.write_vector == "separate" else [self.read_size]
