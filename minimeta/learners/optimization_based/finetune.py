"""Pre-training and fine-tuning, the baseline: a network trained on all classes at once, then on each support set.

Nothing in its training knows of episodes, so what it lacks against a meta-learner is what learning to adapt is worth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from minimeta import layers, ops
from minimeta.autodiff import grad
from minimeta.data.episodes import Episode
from minimeta.learners.base import Params, check_choice, check_positive
from minimeta.learners.optimization_based.base import MODES, OptimizationLearner, State, per_task
from minimeta.optim import Optimizer, adam, sgd

INNER_OPTIMIZERS: dict[str, Callable[[float], Optimizer]] = {"sgd": sgd, "adam": adam}
TUNED = ("all", "head")


@final
@dataclass(frozen=True)
class FineTune(OptimizationLearner):
    """Pre-trained on `way` classes (0: regression), fine-tuned by `test_steps` steps on the mean support loss.

    A task may have any number of classes: it gets a head of its own, of zeros, in place of the pre-trained one, which
    only regression keeps. `tuned` says which weights are fine-tuned: "all" of them, or the "head" alone. Besides the
    modes of all learners of this family, `batch_norm` has "running", the averages from pre-training: they normalise
    support and queries.

    >>> learner = FineTune(way=100, filters=8, test_steps=3)
    >>> params = learner.init(np.random.default_rng(0))
    >>> xs, ys = np.random.default_rng(1).random((1, 5, 28, 28, 1), np.float32), np.arange(5)[None]
    >>> learner.predict(params, learner.adapt(params, xs, ys, n_way=5), xs).shape
    (1, 5, 5)
    """

    architecture: str = "conv4"
    batch_norm: str = "running"
    test_steps: int = 50
    inner_optimizer: str = "adam"
    inner_lr: float = 1e-3
    tuned: str = "all"

    modes: ClassVar[tuple[str, ...]] = ("running", *MODES)
    #: Trained on all classes at once: on batches of any of their examples, labelled by class.
    joint: ClassVar[bool] = True
    #: Fresh heads of zeros know no class from another.
    label_sensitive: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "inner_optimizer", INNER_OPTIMIZERS)
        check_choice(self, "tuned", TUNED)
        check_positive(self, "inner_lr")

    def init(self, rng: np.random.Generator) -> Params:
        params = super().init(rng)
        return {**params, "running": layers.running_init(params["net"])}

    def meta_loss(self, params: Params, episode: Episode) -> tuple[Any, dict[str, Any]]:
        """The mean loss of all examples, support and queries alike, by the pre-trained head; aux as for `Learner`.

        Raises ValueError for an episode whose labels are not of `way` classes.
        """
        xs, ys, xq, yq, n_way = episode
        if n_way != self.way:
            raise ValueError(f"{type(self).__name__}: way={self.way}; pre-training is on so many classes, not {n_way}")
        targets = ops.concatenate([ys, yq], axis=1)
        scores, found = self.network(params["net"], ops.concatenate([xs, xq], axis=1))
        running = layers.running_update(params["running"], found)
        return self.loss(scores, targets), {**self.measured(scores, targets), "running": running}

    def trajectory(self, params: Params, xs: Any, ys: Any, n_way: int) -> Iterator[Params]:
        net = per_task(self._with_head(params["net"], n_way), len(xs))
        statistics = self._statistics(params)

        gradient = grad(lambda tuned: self.support_loss({**net, **tuned}, xs, ys, n_way, statistics))
        optimizer = INNER_OPTIMIZERS[self.inner_optimizer](self.inner_lr)
        tuned = net if self.tuned == "all" else {"head": net["head"]}
        state = optimizer.init(tuned)
        yield {**net, **tuned}
        for _ in range(self.test_steps):
            tuned, state = optimizer.update(gradient(tuned), state, tuned)
            yield {**net, **tuned}

    def _with_head(self, net: Params, n_way: int) -> Params:
        """The pre-trained network, for `n_way` classes with a head of zeros."""
        if (n_way == 0) != (self.way == 0):
            raise ValueError(f"{type(self).__name__}: way={self.way}; not for tasks of {n_way} classes (0: numbers)")
        if n_way == 0:
            return net
        zeros = {key: ops.broadcast_to(w[..., :1] * 0.0, (*w.shape[:-1], n_way)) for key, w in net["head"].items()}
        return {**net, "head": zeros}

    def _statistics(self, params: Params) -> Params | None:
        """What normalises a support set: None, its own."""
        return params["running"] if self.batch_norm == "running" else None

    def _state(self, params: Params, weights: Params, xs: Any, n_way: int) -> State:
        if self.batch_norm == "running":
            return State(weights, n_way, params["running"])
        return super()._state(params, weights, xs, n_way)

    def scores(self, weights: Params, x: Any, n_way: int, statistics: Params | None = None) -> Any:
        """As the family's; the head of `weights` is for just `n_way` classes."""
        return self.network(weights, x, statistics)[0]
