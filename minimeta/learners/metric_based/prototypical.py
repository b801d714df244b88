"""Prototypical networks (Snell, Swersky and Zemel, 2017): classify by the nearest class mean in a learned space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

from minimeta.learners.base import Params, check_choice, check_positive
from minimeta.learners.metric_based.base import MetricLearner
from minimeta.learners.metric_based.labels import mean_by_class
from minimeta.learners.metric_based.similarity import SIMILARITIES


@final
@dataclass(frozen=True)
class Prototypical(MetricLearner):
    """Scores are `temperature` times minus the `distance` to each class mean.

    `distance` is "sqeuclidean" as in the paper, "euclidean", "l1" or "cosine" (then the score is the cosine itself; as
    it lies in -1..1, a `temperature` of about 10 lets probabilities reach 1). Network and `batch_norm`: MetricLearner.

    >>> import numpy as np
    >>> learner = Prototypical(filters=8)
    >>> params = learner.init(np.random.default_rng(0))
    >>> xs, ys = np.random.default_rng(1).random((1, 5, 28, 28, 1), np.float32), np.arange(5)[None]
    >>> state = learner.adapt(params, xs, ys, n_way=5)
    >>> int(learner.predict(params, state, xs)[0, 3].argmax())
    3
    """

    distance: str = "sqeuclidean"
    temperature: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "distance", SIMILARITIES)
        check_positive(self, "temperature")

    def summarise(self, params: Params, features: Any, ys: Any, n_way: int) -> Any:
        return mean_by_class(features, ys, n_way)  # equation 1: the prototypes [T, N, D]

    def compare(self, params: Params, summary: Any, queries: Any, statistics: Params | None) -> tuple[Any, Params]:
        return self.temperature * SIMILARITIES[self.distance](queries, summary), {}  # equation 2
