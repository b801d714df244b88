"""Reptile (Nichol, Achiam and Schulman, 2018): the initialisation moves to where training on each task leads.

    phi~_i = U_i(... U_i(phi))                      `inner_steps` optimizer steps on mini-batches of task i
    phi <- phi + epsilon mean_i (phi~_i - phi)      one step of SGD with rate epsilon along phi - mean phi~_i

No derivative goes through the inner steps, and no queries are needed: a task is trained on all its examples. With one
inner step of SGD this is training on all tasks at once; what is learned about adaptation takes two or more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, final

import numpy as np

from minimeta import tree
from minimeta.autodiff import grad
from minimeta.data.episodes import Episode
from minimeta.learners.base import MetaGradient, Params, check_choice, check_least, check_positive
from minimeta.learners.optimization_based.base import OptimizationLearner, last, per_task
from minimeta.learners.optimization_based.minibatches import minibatches
from minimeta.optim import Optimizer, adam, sgd

#: Adam without momentum: steps on another task's average gradient would lead away from this one's.
INNER_OPTIMIZERS: dict[str, Callable[[float], Optimizer]] = {"adam": partial(adam, beta1=0.0), "sgd": sgd}
REDUCTIONS = ("mean", "sum")


@final
@dataclass(frozen=True)
class Reptile(OptimizationLearner):
    """Adaptation in training is `inner_steps` steps on `inner_batch` examples, in test `test_steps` on `test_batch`.

    Mini-batches go through the support set in its order, which is to be random, again and again (`minibatches`). Each
    step is on the mean of the examples' losses, or with `reduction` "sum" on their sum, as the official code's: that
    matters to SGD, not to Adam. Every weight is adapted, batch norm's too.

    Adam's second moments and step counter live on in params["running"]: adaptation begins with them in test as well,
    and leaves them as they are. In training the tasks of a meta-batch begin with the same ones and leave the mean of
    theirs, or with `serial`, as the official code, each task begins with what the one before it leaves; `serial` then
    depends on the order of tasks and is not to be computed in chunks.

    >>> learner = Reptile(filters=8, test_steps=3)
    >>> params = learner.init(np.random.default_rng(0))
    >>> xs, ys = np.random.default_rng(1).random((1, 5, 28, 28, 1), np.float32), np.arange(5)[None]
    >>> learner.predict(params, learner.adapt(params, xs, ys, n_way=5), xs).shape
    (1, 5, 5)
    """

    architecture: str = "strided-flat"
    test_steps: int = 50
    inner_optimizer: str = "adam"
    inner_lr: float = 1e-3
    inner_steps: int = 5
    inner_batch: int = 10
    test_batch: int = 5
    reduction: str = "mean"
    serial: bool = False

    #: Mini-batches are slices of the support set.
    order_sensitive: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "inner_optimizer", INNER_OPTIMIZERS)
        check_choice(self, "reduction", REDUCTIONS)
        check_least(self, inner_steps=1, inner_batch=1, test_batch=1)
        check_positive(self, "inner_lr")

    @property
    def exact_gradient(self) -> bool:
        return False

    def init(self, rng: np.random.Generator) -> Params:
        params = super().init(rng)
        if self.inner_optimizer == "sgd":
            return {**params, "running": {}}
        square = tree.map(np.zeros_like, params["net"])
        return {**params, "running": {"step": np.float32(0), "square": square}}

    def trajectory(self, params: Params, xs: Any, ys: Any, n_way: int) -> Iterator[Params]:
        walk = self._walk(params, xs, ys, n_way, self.test_batch, self.test_steps)
        return (weights for weights, _ in walk)

    def _walk(
        self, params: Params, xs: Any, ys: Any, n_way: int, batch: int, steps: int
    ) -> Iterator[tuple[Params, Params]]:
        """The weights and the optimizer's state of each task before adaptation, and after each of `steps` steps."""
        optimizer, running = INNER_OPTIMIZERS[self.inner_optimizer](self.inner_lr), params["running"]
        weights = per_task(params["net"], len(xs))
        state = optimizer.init(weights)
        if running:
            # the counter is a mean over chunks of tasks, exact but for rounding
            step, square = round(float(running["step"])), per_task(running["square"], len(xs))
            state = {**state, "step": step, "square": square}
        yield weights, state
        for x, y in minibatches(xs, ys, batch, steps):
            gradient = self._gradient(weights, x, y, n_way)
            weights, state = optimizer.update(gradient, state, weights)
            yield weights, state

    def _gradient(self, weights: Params, x: Any, y: Any, n_way: int) -> Params:
        """Of each task's mini-batch x [T, B, *feat], y, by its own weights."""
        scale = y.shape[1] if self.reduction == "sum" else 1
        gradient: Params = grad(lambda weights: scale * self.support_loss(weights, x, y, n_way))(weights)
        return gradient

    def meta_grad(self, params: Params, episode: Episode) -> MetaGradient:
        """phi - mean phi~ in place of a gradient: SGD with rate epsilon makes Reptile's step of it.

        Loss and accuracy are those of the queries after adaptation, to watch: training has no use for queries.
        """
        if not self.serial:
            return self._towards_tasks(params, episode)
        parts = []
        for task in range(len(episode.ys)):
            parts.append(self._towards_tasks(params, episode.tasks(slice(task, task + 1))))
            params = {**params, "running": parts[-1].aux["running"]}
        mean: MetaGradient = tree.map(lambda *values: sum(values) / len(values), *parts)
        return mean._replace(aux={**mean.aux, "running": params["running"]})

    def meta_loss(self, params: Params, episode: Episode) -> tuple[Any, dict[str, Any]]:
        """What `meta_grad` has to watch, not what it descends."""
        loss, aux, _ = self.meta_grad(params, episode)
        return loss, aux

    def _towards_tasks(self, params: Params, episode: Episode) -> MetaGradient:
        """`meta_grad` of tasks that all begin with the same optimizer state."""
        xs, ys, xq, yq, n_way = episode
        weights, state = last(self._walk(params, xs, ys, n_way, self.inner_batch, self.inner_steps))
        scores = self.scores(weights, xq, n_way)
        away = tree.map(lambda w, adapted: w - adapted.mean(0), params["net"], weights)
        aux = {**self.measured(scores, yq), "running": _left(params["running"], state)}
        return MetaGradient(self.loss(scores, yq), aux, {"net": away})


def _left(running: Params, state: Params) -> Params:
    """What the next tasks begin with, in the same dtypes as `running`; SGD has nothing."""
    if not running:
        return {}
    step = running["step"].dtype.type(state["step"])  # a number, which no GPU has to be waited for
    return {"step": step, "square": tree.map(lambda square: square.mean(0), state["square"])}
