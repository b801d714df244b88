"""Matching networks (Vinyals et al., 2016): attention over the support set, whose labels are the values read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from minimeta import ops
from minimeta.learners.base import Params, check_choice, check_positive
from minimeta.learners.metric_based.base import MetricLearner
from minimeta.learners.metric_based.labels import log_sum_by_class
from minimeta.learners.metric_based.similarity import SIMILARITIES


@dataclass(frozen=True)
class Matching(MetricLearner):
    """P(y|x, S) = sum_i a(x, x_i) y_i, a = softmax over the support of `temperature` times the similarity.

    `similarity` is "cosine" as in the paper, or "sqeuclidean", "euclidean", "l1" (minus the distance). The temperature
    is learned from its value on, or with `learn_temperature=False` stays. The paper has a fixed 1: as cosines of
    features behind a ReLU lie in 0..1, its loss cannot fall below log(1 + (N - 1) / e), 0.905 for 5 classes and 2.078
    for 20, and gradients are weak. Network and `batch_norm`: see MetricLearner.

    >>> learner = Matching(filters=8)
    >>> params = learner.init(np.random.default_rng(0))
    >>> xs, ys = np.random.default_rng(1).random((1, 6, 28, 28, 1), np.float32), np.array([[2, 0, 1, 0, 1, 2]])
    >>> state = learner.adapt(params, xs, ys, n_way=3)
    >>> learner.predict(params, state, xs).shape
    (1, 6, 3)
    """

    similarity: str = "cosine"
    temperature: float = 10.0
    learn_temperature: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "similarity", SIMILARITIES)
        check_positive(self, "temperature")

    def init(self, rng: np.random.Generator) -> Params:
        params = super().init(rng)
        if self.learn_temperature:  # by its logarithm: always positive, and a step changes it by a share of itself
            params["log_temperature"] = np.asarray(math.log(self.temperature), np.float32)
        return params

    def summarise(self, params: Params, features: Any, ys: Any, n_way: int) -> Any:
        return {"features": features, "labels": ys, "n_way": n_way}

    def compare(self, params: Params, summary: Any, queries: Any, statistics: Params | None) -> tuple[Any, Params]:
        temperature = ops.exp(params["log_temperature"]) if self.learn_temperature else self.temperature
        scores = temperature * SIMILARITIES[self.similarity](queries, summary["features"])
        return log_sum_by_class(scores, summary["labels"], summary["n_way"]), {}
