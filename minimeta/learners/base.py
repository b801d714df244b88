"""The one protocol of all learners: a learner adapts to a support set, predicts queries, and can be meta-trained.

    adapt(params, xs, ys, n_way) -> state        prototypes | fast weights | memory | support embeddings
    predict(params, state, xq)   -> logits       [T, Q, n_way], pure and repeatable

Learners are frozen dataclasses of hyper-parameters; parameters and state are values that come in and go out.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

from minimeta import ops, tree
from minimeta.autodiff import stop_gradient, value_and_grad
from minimeta.data.episodes import Episode
from minimeta.data.sequences import Sequences

#: A nested dict of arrays. A top-level entry "running" holds statistics (batch norm's): carried along, not trained.
Params = dict[str, Any]


def trainable(params: Params) -> Params:
    """The entries of `params` that gradients exist for: all but "running".

    >>> trainable({"net": 1.0, "running": 2.0})
    {'net': 1.0}
    """
    return {name: value for name, value in params.items() if name != "running"}


def check_choice(learner: Learner, name: str, choices: Iterable[str]) -> None:
    """Raise ValueError where the hyper-parameter `name` is none of `choices`."""
    value = getattr(learner, name)
    if value not in choices:
        raise ValueError(f"{type(learner).__name__}: {name}={value!r}; choose from {', '.join(choices)}")


def check_least(learner: Learner, **least: int) -> None:
    """Raise ValueError where a hyper-parameter is below its least value."""
    for name, bound in least.items():
        value = getattr(learner, name)
        if value < bound:
            raise ValueError(f"{type(learner).__name__}: {name}={value}; need {name} >= {bound}")


def check_positive(learner: Learner, *names: str) -> None:
    """Raise ValueError where a hyper-parameter is not finite and above 0."""
    for name in names:
        value = getattr(learner, name)
        if not 0 < value < math.inf:
            raise ValueError(f"{type(learner).__name__}: {name}={value}; need a finite {name} > 0")


class MetaGradient(NamedTuple):
    """One meta-training signal: the loss, further task means (accuracy, running statistics), the gradient by weight."""

    loss: Any
    aux: dict[str, Any]
    grads: Params


class Learner(Protocol):
    """What every learner offers. Arrays have a leading task axis T, see `Episode`; tasks never influence each other.

    `order_sensitive` says that the order of the support set matters, so that episodes present it shuffled;
    `label_sensitive` that a class's number does, as where each has weights of its own; `joint` that it is trained on
    all classes at once instead of in episodes; `exact_gradient` that `meta_grad` gives the derivative of `meta_loss`,
    not an approximation.
    """

    order_sensitive: ClassVar[bool] = False
    label_sensitive: ClassVar[bool] = False
    joint: ClassVar[bool] = False

    @property
    def exact_gradient(self) -> bool:
        return True

    def init(self, rng: np.random.Generator) -> Params:
        """Fresh parameters, drawn on the host as float32 NumPy arrays."""
        ...

    def adapt(self, params: Params, xs: Any, ys: Any, n_way: int) -> Any:
        """What the support set xs [T, S, *feat], ys [T, S] teaches: the state that `predict` needs."""
        ...

    def predict(self, params: Params, state: Any, xq: Any) -> Any:
        """Class scores (logits) [T, Q, n_way] of the queries xq [T, Q, *feat]."""
        ...

    def meta_loss(self, params: Params, episode: Any) -> tuple[Any, dict[str, Any]]:
        """The mean cross-entropy of the queries, and aux: at least {"accuracy": ...}; every entry is a mean over tasks.

        For regression it is the mean squared error, and aux needs no entry. Learners that read an episode as a sequence
        have a loss of their own, and take `Sequences` of bits too.
        A learner with running statistics puts their next value into aux["running"].
        """
        state = self.adapt(params, episode.xs, episode.ys, episode.n_way)
        logits = self.predict(params, state, episode.xq)
        return ops.cross_entropy(logits, episode.yq), {"accuracy": accuracy(logits, episode.yq).mean()}

    def meta_grad(self, params: Params, episode: Any) -> MetaGradient:
        """Loss, aux and gradient of one meta-batch; the gradient covers every entry of `params` but "running"."""
        loss = value_and_grad(lambda weights: self.meta_loss({**params, **weights}, episode), has_aux=True)
        (value, aux), grads = loss(trainable(params))
        return MetaGradient(value, aux, grads)


def chunked_meta_grad(
    learner: Learner, params: Params, episode: Episode | Sequences, chunk: int | None = None
) -> MetaGradient:
    """`learner.meta_grad`, `chunk` tasks at a time: memory is bounded by the chunk, the result is the same mean."""
    tasks = len(episode[0])
    if chunk is None or chunk >= tasks:
        return learner.meta_grad(params, episode)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}: a chunk holds at least one task")
    total: Any = None
    for start in range(0, tasks, chunk):
        part = episode.tasks(slice(start, start + chunk))
        share = len(part[0]) / tasks
        term = tree.map(lambda leaf, share=share: leaf * share, learner.meta_grad(params, part))
        total = term if total is None else tree.map(operator.add, total, term)
        del term  # or the next chunk would come on top of it
    return total  # type: ignore[no-any-return]


def accuracy(logits: Any, labels: Any) -> Any:
    """Per task [T]: the share of queries won, from logits [T, Q, N] and labels [T, Q]; a plain array.

    >>> accuracy(np.array([[[0.0, 2.0], [1.0, 1.0]]]), np.array([[1, 0]]))
    array([0.75])
    """
    return points(logits, labels).mean(axis=-1)


def points(logits: Any, labels: Any) -> Any:
    """Of each query [...] whether it was won, 0 or 1, from logits [..., N] and labels [...]; a plain array.

    Classes that tie for the largest logit share the point, so that constant scores get 1/N, whatever the order of the
    labels: with the first maximum counted, a collapsed network has been reported as perfect.

    >>> points(np.array([[0.0, 2.0], [1.0, 1.0]]), np.array([1, 0]))
    array([1. , 0.5])
    """
    scores = stop_gradient(logits)
    winners = ops.equal(scores, ops.max(scores, axis=-1, keepdims=True))
    won = ops.take_along_axis(winners, labels[..., None], axis=-1)[..., 0]
    return won / winners.sum(axis=-1)


def bit_errors(logits: Any, sequences: Sequences) -> Any:
    """Per sequence [B]: how many of the bits that count are wrong, from logits [B, L, W]; a plain array."""
    wrong = ops.not_equal(ops.greater(stop_gradient(logits), 0), ops.greater(sequences.targets, 0))
    return (wrong * sequences.mask[..., None]).sum(axis=(1, 2))
