"""MAML and first-order MAML (Finn, Abbeel and Levine, 2017): an initialisation from which few gradient steps suffice.

    theta_0 = theta,  theta_t+1 = theta_t - alpha grad L^s(theta_t)      adaptation to the support set, for every task
    theta <- theta - beta grad_theta mean L^q(theta_T)                   training, through all those steps

With H_t the Hessian of L^s at theta_t the gradient is (1 - alpha H_0) ... (1 - alpha H_T-1) grad L^q(theta_T), which
differentiating through the loop gives; without the Hessians it is that of first-order MAML.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from minimeta import tree
from minimeta.autodiff import checkpoint, grad, scope, stop_gradient
from minimeta.data.episodes import Episode
from minimeta.learners.base import Params, check_choice, check_least
from minimeta.learners.optimization_based.base import OptimizationLearner, last, per_task

REDUCTIONS = ("mean", "per-shot")
LEARNED_RATES = ("none", "step", "parameter")
NORM = ("gamma", "beta")


@dataclass(frozen=True)
class MAML(OptimizationLearner):
    """Adaptation by `inner_steps` steps in training and `test_steps` in test, of rate `inner_lr`, one for all or each.

    A rate is for a loss that is the `reduction` of the support examples' losses: "mean", or "per-shot", the mean times
    the number of classes: the official code's sum over examples divided by the shots, to which the papers' rates belong
    (0.4 is 2.0 for a mean of 5 classes). `learn_rates` makes `inner_lr` the start of rates that are trained: one
    per "step" (the last one also serves all further steps), or one per "parameter" (Meta-SGD, Li et al., 2017).
    `order` 1 leaves out second derivatives. `adapt_norm`: batch norm's scale and shift are adapted too, instead of
    trained only. `recompute` (gradient checkpointing) holds one inner step at a time in memory, and computes each again
    for the gradient.

    >>> learner = MAML(filters=8)
    >>> params = learner.init(np.random.default_rng(0))
    >>> xs, ys = np.random.default_rng(1).random((1, 5, 28, 28, 1), np.float32), np.arange(5)[None]
    >>> learner.predict(params, learner.adapt(params, xs, ys, n_way=5), xs).shape
    (1, 5, 5)
    """

    inner_lr: tuple[float, ...] = (0.4,)
    inner_steps: int = 1
    test_steps: int = 3
    reduction: str = "per-shot"
    learn_rates: str = "none"
    order: int = 2
    adapt_norm: bool = False
    recompute: bool = False

    orders: ClassVar[tuple[int, ...]] = (1, 2)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "reduction", REDUCTIONS)
        check_choice(self, "learn_rates", LEARNED_RATES)
        check_least(self, inner_steps=1)
        name = type(self).__name__
        if self.order not in self.orders:
            raise ValueError(f"{name}: order={self.order}; need {' or '.join(map(str, self.orders))}")
        if self.recompute and self.order == 1:
            raise ValueError(f"{name}: recompute={self.recompute} with order=1, which holds no inner step in memory")
        if not (isinstance(self.inner_lr, tuple) and all(0 <= rate < math.inf for rate in self.inner_lr)):
            raise ValueError(f"{name}: inner_lr={self.inner_lr}; need a tuple of finite rates, none below 0")
        lengths = {1} if self.learn_rates == "parameter" else {1, self.inner_steps}
        if len(self.inner_lr) not in lengths:
            raise ValueError(
                f"{name}: inner_lr={self.inner_lr} with inner_steps={self.inner_steps}, "
                f"learn_rates={self.learn_rates!r}; need one rate, or unless rates are per parameter one for each step"
            )

    @property
    def exact_gradient(self) -> bool:
        return self.order == 2

    def init(self, rng: np.random.Generator) -> Params:
        params = super().init(rng)
        if self.learn_rates == "step":
            rates = self.inner_lr * (self.inner_steps // len(self.inner_lr))
            return {**params, "rates": np.array(rates, np.float32)}
        if self.learn_rates == "parameter":
            fast, _ = self._split(params["net"])
            return {**params, "rates": tree.map(lambda w: np.full_like(w, self.inner_lr[0]), fast)}
        return params

    def _split(self, net: Params) -> tuple[Params, Params]:
        """The arrays that are adapted and those that are not, both by layer."""
        slow = () if self.adapt_norm else NORM
        return tuple(
            {name: {key: w for key, w in layer.items() if (key in slow) == kept} for name, layer in net.items()}
            for kept in (False, True)
        )  # type: ignore[return-value]

    def _rates(self, params: Params, steps: int) -> list[Any]:
        """The rate of each step: a number, or a tree of them by weight."""
        if self.learn_rates == "parameter":
            return [params["rates"]] * steps
        rates = params["rates"] if self.learn_rates == "step" else self.inner_lr
        return [rates[min(step, len(rates) - 1)] for step in range(steps)]

    def _walk(self, params: Params, xs: Any, ys: Any, n_way: int, steps: int) -> Iterator[Params]:
        """The weights before adaptation and after each of `steps` steps."""

        def step(fast: Params, slow: Params, rate: Any) -> Params:
            here, fixed = (fast, slow) if self.order == 2 else stop_gradient((fast, slow))
            gradient = grad(lambda fast: scale * self.support_loss(_joined(fast, fixed), xs, ys, n_way))(here)
            if self.learn_rates == "parameter":
                return tree.map(lambda w, a, g: w - a * g, fast, rate, gradient)
            return tree.map(lambda w, g: w - rate * g, fast, gradient)

        scale = n_way if self.reduction == "per-shot" and n_way else 1
        step = checkpoint(step) if self.recompute else step
        fast, slow = self._split(per_task(params["net"], len(xs)))
        yield _joined(fast, slow)
        for k, rate in enumerate(self._rates(params, steps), 1):
            with scope(f"inner step {k}"):
                fast = step(fast, slow, rate)
            yield _joined(fast, slow)

    def trajectory(self, params: Params, xs: Any, ys: Any, n_way: int) -> Iterator[Params]:
        return self._walk(params, xs, ys, n_way, self.test_steps)

    def meta_loss(self, params: Params, episode: Episode) -> tuple[Any, dict[str, Any]]:
        xs, ys, xq, yq, n_way = episode
        weights = last(self._walk(params, xs, ys, n_way, self.inner_steps))
        scores = self.scores(weights, xq, n_way)
        return self.loss(scores, yq), self.measured(scores, yq)


def _joined(fast: Params, slow: Params) -> Params:
    return {name: {**fast[name], **slow[name]} for name in fast}


@final
@dataclass(frozen=True)
class FOMAML(MAML):
    """First-order MAML: MAML of order 1."""

    order: int = 1

    orders: ClassVar[tuple[int, ...]] = (1,)
