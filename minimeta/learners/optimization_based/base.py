"""What all optimization-based learners share: a network with a head for `way` classes, adapted by gradient steps.

A learner says how the weights of the network change with each step on a support set (`trajectory`); their states, and
the scores of queries under them, are alike. `batch_norm` says by which statistics queries are normalised after that:

    "batch"      those of the queries in hand, which see each other (transductive): the papers' of MAML
    "support+1"  those of the whole support set and one query, for each query anew (Nichol et al., 2018)
    "episode"    those of the support set (Ravi and Larochelle, 2017)
    "none"       for networks without batch norm

The support set itself is normalised by its own statistics, and so are queries in training. No running averages: the
weights they would be averaged over are those of one task only.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np

from minimeta import ops, tree
from minimeta.learners.base import Learner, Params, accuracy, check_choice, check_least
from minimeta.learners.optimization_based.networks import ARCHITECTURES, Network
from minimeta.learners.query_by_query import query_by_query

MODES = ("batch", "support+1", "episode", "none")


class State(NamedTuple):
    """Adapted weights, by task, and what queries are normalised by: `statistics`, or a `support` set [T, S, *feat]."""

    weights: Params
    n_way: int
    statistics: Params | None = None
    support: Any = None


@dataclass(frozen=True)
class OptimizationLearner(Learner):
    """Network: see `networks`. Its head is for `way` classes, of which a task may use fewer; 0 is for regression.

    Raises ValueError for values out of range.
    """

    way: int = 5
    architecture: str = "strided"
    size: int = 28
    channels: int = 1
    filters: int = 64
    batch_norm: str = "batch"
    test_steps: int = 10

    modes: ClassVar[tuple[str, ...]] = MODES
    #: Each class has weights of its own in the head, so that renaming classes changes scores.
    label_sensitive: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_choice(self, "architecture", ARCHITECTURES)
        check_choice(self, "batch_norm", self.modes)
        check_least(self, way=0, size=1, channels=1, filters=1, test_steps=0)
        if (self.architecture == "regressor") != (self.batch_norm == "none"):
            raise ValueError(
                f"{type(self).__name__}: architecture={self.architecture!r} with batch_norm={self.batch_norm!r}; "
                "'regressor' has no batch norm and needs 'none', the others another"
            )
        if self.way == 1:
            raise ValueError(f"{type(self).__name__}: way=1; need 2 classes or more, or 0 for regression")
        self.network  # noqa: B018 (has checks of its own)

    @property
    def network(self) -> Network:
        """The network that is adapted."""
        return Network(self.architecture, self.size, self.channels, self.filters, self.way or 1)

    def init(self, rng: np.random.Generator) -> Params:
        return {"net": self.network.init(rng)}

    @abstractmethod
    def trajectory(self, params: Params, xs: Any, ys: Any, n_way: int) -> Iterator[Params]:
        """The weights of each task before adaptation, and after each of `test_steps` steps."""

    def states(self, params: Params, xs: Any, ys: Any, n_way: int) -> Iterator[State]:
        """The state before adaptation, and after each of `test_steps` steps; arguments as for `adapt`."""
        return (self._state(params, weights, xs, n_way) for weights in self.trajectory(params, xs, ys, n_way))

    def adapt(self, params: Params, xs: Any, ys: Any, n_way: int) -> State:
        return self._state(params, last(self.trajectory(params, xs, ys, n_way)), xs, n_way)

    def _state(self, params: Params, weights: Params, xs: Any, n_way: int) -> State:
        if self.batch_norm == "support+1":
            return State(weights, n_way, support=xs)
        return State(weights, n_way, self.network(weights, xs)[1] if self.batch_norm == "episode" else None)

    def predict(self, params: Params, state: State, xq: Any) -> Any:
        if state.support is not None:
            return query_by_query(partial(self.scores, n_way=state.n_way), state.weights, state.support, xq)
        return self.scores(state.weights, xq, state.n_way, state.statistics)

    def scores(self, weights: Params, x: Any, n_way: int, statistics: Params | None = None) -> Any:
        """Class scores [T, B, n_way], or for regression numbers [T, B, 1], of examples x [T, B, *feat].

        Raises ValueError where the head is not for so many classes.
        """
        if n_way > self.way or (n_way == 0) != (self.way == 0):
            raise ValueError(f"{type(self).__name__}: way={self.way}; its head is not for {n_way} classes (0: numbers)")
        scores = self.network(weights, x, statistics)[0]
        return scores if n_way == self.way else scores[..., :n_way]

    def loss(self, scores: Any, targets: Any, reduction: str = "mean") -> Any:
        """The cross-entropy with labels [T, B], or the squared error to numbers [T, B, 1]; reduced as these are."""
        return (ops.cross_entropy if self.way else ops.mse)(scores, targets, reduction)

    def support_loss(
        self, weights: Params, xs: Any, ys: Any, n_way: int, statistics: Params | None = None
    ) -> Any:
        """What adaptation descends: the sum over tasks of their mean losses, each a function of its own weights."""
        return self.loss(self.scores(weights, xs, n_way, statistics), ys) * len(xs)

    def measured(self, scores: Any, targets: Any) -> dict[str, Any]:
        """For aux: the accuracy of scores; regression has its loss already."""
        return {"accuracy": accuracy(scores, targets).mean()} if self.way else {}


def per_task(params: Params, tasks: int) -> Params:
    """Every array with a leading task axis: the weights to start from, whose gradients are then of each task's own."""
    copies: Params = tree.map(lambda w: ops.broadcast_to(w, (tasks, *w.shape)), params)
    return copies


def last(steps: Iterable[Any]) -> Any:
    """The last of several, holding none of the others.

    >>> last(iter([1, 2, 3]))
    3
    """
    return deque(steps, maxlen=1).pop()
