"""A controller with a memory beside it, run over sequences (Graves et al., 2014; Santoro et al., 2016).

h_t, c_t = LSTM([x_t; r_t-1], h_t-1, c_t-1)        or, feed-forward, h_t = tanh(W [x_t; r_t-1] + b)
r_t, M_t = access(h_t, M_t-1)
o_t      = W_o [h_t; r_t] + b_o
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import numpy as np

from minimeta import backend, layers, ops
from minimeta.learners.base import Params

CONTROLLERS = ("lstm", "feed-forward")


class State(NamedTuple):
    """What goes from one time step to the next; arrays have a leading axis of sequences."""

    hidden: Any  # h [B, H]
    cell: Any  # c [B, H], None without an LSTM
    reads: Any  # r [B, read_size]
    memory: Any


@dataclass(frozen=True)
class MemoryNetwork(ABC):
    """`controller` is "lstm" or "feed-forward", with `hidden` units; subclasses say what memory it has."""

    controller: str = "lstm"
    hidden: int = 200

    #: By how much the first weights of the controller are larger than layers' usually are.
    gain: ClassVar[float] = 1.0

    @property
    @abstractmethod
    def read_size(self) -> int:
        """How many numbers are read at a time."""

    @property
    def fed_back(self) -> bool:
        """Whether what was read goes into the controller's next step."""
        return True

    @abstractmethod
    def memory_init(self, rng: np.random.Generator) -> Params:
        """The weights of what reads and writes."""

    @abstractmethod
    def memory_start(self, sequences: int, xp: Any, dtype: Any) -> Any:
        """The memory before the first step, of so many sequences, as arrays of module `xp`."""

    @abstractmethod
    def access(self, weights: Params, hidden: Any, memory: Any) -> tuple[Any, Any]:
        """One step of reading and writing by hidden [B, H]: what was read [B, read_size], and the memory after it."""

    def weightings(self, weights: Params, hidden: Any, before: Any, after: Any) -> dict[str, Any]:
        """Where a step read and wrote, by name [B, heads, rows], from the memory before and after; for pictures."""
        return {}

    def network_init(self, rng: np.random.Generator, inputs: int, outputs: int) -> Params:
        """Parameters for so many numbers in and out at a time."""
        lstm = self.controller == "lstm"
        before = self.read_size * self.fed_back + self.hidden * lstm
        both = layers.linear_init(rng, inputs + before, self.hidden * (4 if lstm else 1))
        weights, bias = both["w"] * np.float32(self.gain), both["b"] * 0
        if lstm:  # at first the cell forgets little
            bias[self.hidden : 2 * self.hidden] = 1
        return {
            "controller": {"w": weights[:inputs], "u": weights[inputs:], "b": bias},
            "memory": self.memory_init(rng),
            "out": layers.linear_init(rng, self.hidden + self.read_size, outputs),
        }

    def start(self, inputs: Any) -> State:
        """The state before the first step of sequences inputs [B, L, D]."""
        xp = backend.namespace(inputs)
        hidden, reads = (xp.zeros((len(inputs), size), dtype=inputs.dtype) for size in (self.hidden, self.read_size))
        cell = hidden if self.controller == "lstm" else None
        return State(hidden, cell, reads, self.memory_start(len(inputs), xp, inputs.dtype))

    def outputs(self, params: Params, inputs: Any, state: State | None = None) -> tuple[Any, State]:
        """The outputs [B, L, outputs] of sequences inputs [B, L, D], begun at `state`, and the state after them."""
        gates = self._from_outside(params, inputs)
        features, state = self.walk(params, gates, self.start(inputs) if state is None else state)
        return layers.linear(params["out"], features), state

    def _from_outside(self, params: Params, inputs: Any) -> Any:
        """The inputs' part in the controller: it does not wait for the steps, so it is one product for all of them."""
        return inputs @ params["controller"]["w"] + params["controller"]["b"]

    def walk(self, params: Params, gates: Any, state: State) -> tuple[Any, State]:
        """All steps, from the inputs' part in the controller [B, L, G]: [h; r] [B, L, H + read_size], and the state."""
        features = []
        for after in self._states(params, gates, state):
            features.append(_features(after))
        return ops.stack(features, axis=1), after

    def trace(self, params: Params, inputs: Any) -> tuple[Any, dict[str, Any]]:
        """As `outputs`, and the weights [B, L, heads, rows] of all steps by name, see `weightings`."""
        start = self.start(inputs)
        states = list(self._states(params, self._from_outside(params, inputs), start))
        frames = [
            self.weightings(params["memory"], after.hidden, before.memory, after.memory)
            for before, after in pairwise([start, *states])
        ]
        weights = {name: ops.stack([frame[name] for frame in frames], axis=1) for name in frames[0]}
        return layers.linear(params["out"], ops.stack(list(map(_features, states)), axis=1)), weights

    def _states(self, params: Params, gates: Any, state: State) -> Iterator[State]:
        """The state after each step."""
        for step in ops.unstack(gates, axis=1):
            state = self.step(params, step, state)
            yield state

    def step(self, params: Params, gates: Any, state: State) -> State:
        """One step, from the input's part in the controller [B, G]."""
        hidden, cell = self.control(params["controller"], gates, state)
        return State(hidden, cell, *self.access(params["memory"], hidden, state.memory))

    def control(self, controller: Params, gates: Any, state: State) -> tuple[Any, Any]:
        """The controller's part of a step: h and c."""
        before = [state.reads] * self.fed_back + [state.hidden] * (self.controller == "lstm")
        if before:
            gates = gates + ops.concatenate(before, axis=-1) @ controller["u"]
        return ops.lstm_gates(gates, state.cell) if self.controller == "lstm" else (ops.tanh(gates), None)


def _features(state: State) -> Any:
    """What outputs are made of: [h; r]."""
    return ops.concatenate([state.hidden, state.reads], axis=-1)
