"""Neural Turing Machine (Graves et al., 2014): a memory addressed by content and by location.

Per step and head, from the controller's h_t (section 3.3, equations 5 to 9):

    wc   = softmax(beta cos(k, M))                         beta = softplus
    wg   = g wc + (1 - g) w_t-1                            g = sigmoid
    ws_i = sum_j wg_i-j s_j                                circular; s = softmax over the shifts -1, 0, +1
    w_t  = ws^gamma / sum ws^gamma                         gamma = 1 + softplus
    r_t  = w_t M                                           to read
    M_t  = M_t-1 (1 - w_t e) + w_t a                       to write, e = sigmoid; erasures before additions
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, final

import numpy as np

from minimeta import layers, ops
from minimeta.learners.base import Params, check_choice, check_least
from minimeta.learners.model_based.base import SequenceLearner

START = 1e-6  # of every number in memory: cosines want rows that are not zero
EPS = 1e-16  # added to shifted weights, of which a logarithm is taken: too little to move them


class Memory(NamedTuple):
    """What goes from one step to the next."""

    memory: Any  # [B, N, M]
    read: Any  # [B, R, N], the weights of the last step
    write: Any  # [B, W, N]


@final
@dataclass(frozen=True)
class NTM(SequenceLearner):
    """A memory of `rows` rows of `width` numbers, with `reads` heads that read and `writes` that write.

    `order` "read-write" reads what was there before the step, "write-read" what is there after the write. Heads shift
    by at most `shift` rows. At first all of them are at row 0.

    >>> learner = NTM(way=0, hidden=16, rows=8, width=4)
    >>> params = learner.init(np.random.default_rng(0))
    >>> outputs, _ = learner.outputs(params, np.zeros((1, 5, 10), np.float32))
    >>> outputs.shape
    (1, 5, 9)
    """

    hidden: int = 100
    rows: int = 128
    width: int = 20
    reads: int = 1
    writes: int = 1
    shift: int = 1
    order: str = "read-write"

    #: With layers' usual weights heads look everywhere alike, and for thousands of steps nothing tells them apart.
    gain: ClassVar[float] = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "order", ("read-write", "write-read"))
        check_least(self, rows=1, width=1, reads=1, writes=1, shift=0)
        if 2 * self.shift + 1 > self.rows:
            raise ValueError(f"NTM: shift={self.shift}, rows={self.rows}; need 2 shift + 1 <= rows")

    @property
    def read_size(self) -> int:
        return self.reads * self.width

    @property
    def _address_size(self) -> int:
        """Of one head: k, beta, g, s, gamma."""
        return self.width + 2 * self.shift + 4

    def memory_init(self, rng: np.random.Generator) -> Params:
        addresses = (self.reads + self.writes) * self._address_size
        emitted = layers.linear_init(rng, self.hidden, addresses + 2 * self.writes * self.width)
        return {"w": emitted["w"] * np.float32(self.gain), "b": emitted["b"]}

    def memory_start(self, sequences: int, xp: Any, dtype: Any) -> Memory:
        memory = xp.full((sequences, self.rows, self.width), START, dtype=dtype)
        first = ops.one_hot(xp.zeros((sequences, self.reads + self.writes), dtype=int), self.rows, dtype)
        return Memory(memory, first[:, : self.reads], first[:, self.reads :])

    def access(self, weights: Params, hidden: Any, memory: Memory) -> tuple[Any, Memory]:
        emitted = layers.linear(weights, hidden)
        heads, vectors = self.reads + self.writes, self.writes * self.width
        ends = heads * self._address_size
        addresses, erase, add = ops.split(emitted, [ends, ends + vectors], axis=-1)
        addresses = addresses.reshape(len(hidden), heads, self._address_size)
        erase, add = (v.reshape(len(hidden), self.writes, self.width) for v in (ops.sigmoid(erase), add))
        if self.order == "read-write":
            before = ops.concatenate([memory.read, memory.write], axis=1)
            at = address(addresses, memory.memory, before, self.shift)
            read, written = at[:, : self.reads], at[:, self.reads :]
            reads = read @ memory.memory
            after = write(memory.memory, written, erase, add)
        else:
            written = address(addresses[:, self.reads :], memory.memory, memory.write, self.shift)
            after = write(memory.memory, written, erase, add)
            read = address(addresses[:, : self.reads], after, memory.read, self.shift)
            reads = read @ after
        return reads.reshape(len(hidden), -1), Memory(after, read, written)

    def weightings(self, weights: Params, hidden: Any, before: Any, after: Any) -> dict[str, Any]:
        return {"write": after.write, "read": after.read}


def address(emitted: Any, memory: Any, before: Any, shift: int) -> Any:
    """Where heads are [B, heads, N], from what was emitted [B, heads, M + 2 shift + 4] and where they were."""
    width = memory.shape[-1]
    key, beta, gate, shifts, gamma = ops.split(emitted, [width, width + 1, width + 2, width + 3 + 2 * shift], axis=-1)
    content = ops.softmax(ops.softplus(beta) * ops.cosine(key, memory))
    gate = ops.sigmoid(gate)
    return sharpen(rotate(gate * content + (1 - gate) * before, ops.softmax(shifts)), 1 + ops.softplus(gamma))


def rotate(weights: Any, shifts: Any) -> Any:
    """Weights [..., N] moved on round the memory, by -k..k rows with probabilities [..., 2k + 1].

    >>> rotate(np.array([1.0, 0.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0]))
    array([0., 1., 0., 0.])
    """
    reach = shifts.shape[-1] // 2
    moved = [ops.roll(weights, by, axis=-1) for by in range(-reach, reach + 1)]
    return (ops.stack(moved, axis=-1) @ shifts[..., None])[..., 0]


def sharpen(weights: Any, gamma: Any) -> Any:
    """weights^gamma / sum weights^gamma, weights [..., N] >= 0 and gamma [..., 1] >= 1: sums to 1 and has no 0^gamma.

    >>> sharpen(np.array([0.5, 0.25, 0.25]), np.array([2.0])).round(2)
    array([0.67, 0.17, 0.17])
    """
    return ops.softmax(gamma * ops.log(weights + EPS))


def write(memory: Any, weights: Any, erase: Any, add: Any) -> Any:
    """Memory [B, N, M] after heads with weights [B, W, N] have erased and then added vectors [B, W, M].

    >>> write(np.ones((1, 2, 1)), np.array([[[0.0, 1.0]]]), np.ones((1, 1, 1)), np.full((1, 1, 1), 5.0)).ravel()
    array([1., 5.])
    """
    for head in range(weights.shape[1]):  # erasures of several heads multiply (section 3.2)
        memory = memory * (1 - weights[:, head, :, None] * erase[:, head, None, :])
    return memory + ops.swapaxes(weights, -1, -2) @ add
