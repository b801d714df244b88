"""An episode as a sequence (Santoro et al., 2016): examples come with the label of the one before.

At time t the network gets [x_t; y_t-1], y_0 = 0, and is to say y_t: it has to keep what it saw until the label comes,
and to find it again. Its weights stay as they are while it does; what is learned of a task is in the state. Queries are
the next step, each from a copy of the state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from minimeta import backend, ops, tree
from minimeta.data.episodes import Episode
from minimeta.data.sequences import Sequences
from minimeta.learners.base import Learner, Params, accuracy, bit_errors, check_choice, check_least
from minimeta.learners.model_based.controller import CONTROLLERS, MemoryNetwork, State
from minimeta.learners.model_based.label_codes import ALPHABET, STRINGS, Speech, one_hot_codes, string_codes

LABELS = ("one-hot", "strings")


class Adapted(NamedTuple):
    """The state after a support set, and the last label in it [T, W], which comes with the next example."""

    state: State
    label: Any
    n_way: int


@dataclass(frozen=True)
class SequenceLearner(MemoryNetwork, Learner):
    """Says one of `way` classes, of which a task may use fewer; or, with `labels` "strings", any of 3125.

    Images have `size` x `size` pixels. With `way` 0 sequences are of bits, `bits` at a time (`data.SequenceSampler`).
    Raises ValueError for values out of range.
    """

    way: int = 5
    labels: str = "one-hot"
    size: int = 20
    channels: int = 1
    bits: int = 8

    order_sensitive: ClassVar[bool] = True
    #: Each class has weights of its own, so that renaming classes changes scores.
    label_sensitive: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_choice(self, "controller", CONTROLLERS)
        check_choice(self, "labels", LABELS)
        check_least(self, hidden=1, way=0, size=1, channels=1, bits=1)
        if self.way == 1:
            raise ValueError(f"{type(self).__name__}: way=1; need 2 classes or more, or 0 for sequences of bits")

    @property
    def label_count(self) -> int | None:
        """How many labels an episode draws those of its classes from; None: it has as many as classes."""
        return STRINGS if self.labels == "strings" else None

    def init(self, rng: np.random.Generator) -> Params:
        if not self.way:
            return self.network_init(rng, self.bits + 2, self.bits + 1)
        code = len(self._codes(like=0.0)[0])
        return self.network_init(rng, self.size**2 * self.channels + code, code)

    def adapt(self, params: Params, xs: Any, ys: Any, n_way: int) -> Adapted:
        speech = self._speech(n_way, xs)
        return Adapted(self._present(params, xs, ys, speech)[1], speech.of(ys[:, -1]), n_way)

    def predict(self, params: Params, state: Adapted, xq: Any) -> Any:
        return self._speech(state.n_way, xq).scores(self._answer(params, state, xq))

    def presented(self, params: Params, xs: Any, ys: Any, n_way: int) -> Any:
        """Class scores [T, S, n_way] of each example of a support set, said before its label came."""
        speech = self._speech(n_way, xs)
        return speech.scores(self._present(params, xs, ys, speech)[0])

    def sequence(self, xs: Any, ys: Any, n_way: int) -> Any:
        """A support set xs [T, S, *feat], ys [T, S] as the network gets it, [T, S, inputs]."""
        return _sequence(xs, self._speech(n_way, xs).of(ys))

    def meta_loss(self, params: Params, episode: Episode | Sequences) -> tuple[Any, dict[str, Any]]:
        """The cross-entropy of everything said over the support set, summed over time; queries are one further step.

        Of sequences of bits it is that of all bits that count.
        """
        if isinstance(episode, Sequences):
            return self._bit_loss(params, episode)
        xs, ys, xq, yq, n_way = episode
        speech = self._speech(n_way, xs)
        said, state = self._present(params, xs, ys, speech)
        loss = speech.surprise(said, ys).sum(axis=1).mean()
        if xq.shape[1]:
            answers = self._answer(params, Adapted(state, speech.of(ys[:, -1]), n_way), xq)
            loss = loss + speech.surprise(answers, yq).mean()
            said, ys = ops.concatenate([said, answers], axis=1), ops.concatenate([ys, yq], axis=1)
        return loss, {"accuracy": accuracy(speech.scores(said), ys).mean()}

    def _bit_loss(self, params: Params, sequences: Sequences) -> tuple[Any, dict[str, Any]]:
        bits = sequences.inputs.shape[-1] - 2
        if self.way or bits != self.bits:
            own = f"{type(self).__name__}: way={self.way}, bits={self.bits}"
            raise ValueError(f"{own}; sequences of {bits} bits need way=0, bits={bits}")
        logits = self.outputs(params, sequences.inputs)[0]
        losses = ops.binary_cross_entropy_with_logits(logits, sequences.targets, "none")
        loss = (losses * sequences.mask[..., None]).sum() / len(logits)
        return loss, {"bit_error": bit_errors(logits, sequences).mean()}

    def _present(self, params: Params, xs: Any, ys: Any, speech: Speech) -> tuple[Any, State]:
        """What is said over the support set [T, S, W], and the state after it."""
        return self.outputs(params, _sequence(xs, speech.of(ys)))

    def _answer(self, params: Params, adapted: Adapted, xq: Any) -> Any:
        """What is said about each query [T, Q, W]."""
        tasks, queries = xq.shape[:2]
        state, label = tree.map(lambda leaf: ops.repeat(leaf, queries, axis=0), (adapted.state, adapted.label))
        inputs = ops.concatenate([_flat(xq).reshape(tasks * queries, -1), label], axis=-1)
        return self.outputs(params, inputs[:, None], state)[0].reshape(tasks, queries, -1)

    def _speech(self, n_way: int, like: Any) -> Speech:
        if not self.way:
            raise ValueError(f"{type(self).__name__}: way=0; a network for sequences of bits has no classes")
        return Speech(self._codes(like), ALPHABET if self.labels == "strings" else self.way, n_way, like)

    def _codes(self, like: Any) -> Any:
        if self.labels == "strings":
            return backend.constant(like, string_codes)
        return backend.constant(like, one_hot_codes, self.way)


def _sequence(xs: Any, labels: Any) -> Any:
    """Each example with the label before it."""
    before = ops.concatenate([labels[:, :1] * 0, labels[:, :-1]], axis=1)
    return ops.concatenate([_flat(xs), before], axis=-1)


def _flat(examples: Any) -> Any:
    return examples.reshape(*examples.shape[:2], -1)
