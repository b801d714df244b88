"""The kernel classifier P(y|x, S) = sum_i k(x, x_i) y_i / sum_i k(x, x_i), of which Matching networks are a case."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np

from minimeta import layers, ops
from minimeta.data.episodes import Episode
from minimeta.learners.base import Params, check_choice
from minimeta.learners.metric_based.base import MetricLearner
from minimeta.learners.metric_based.labels import NEVER, log_sum_by_class
from minimeta.learners.metric_based.similarity import SIMILARITIES, weighted_l1

KERNELS = (*SIMILARITIES, "rbf", "learned")


@final
@dataclass(frozen=True)
class KernelClassifier(MetricLearner):
    """Scores are log sum_i k(x, x_i) y_i; their exponentials are a Parzen estimate, their softmax is P(y|x, S).

    `kernel`, with the sharpness `tau` >= 0:

        "cosine"                              exp(tau cos(x, x_i)): Matching networks
        "sqeuclidean", "euclidean", "l1"      exp(-tau distance): with one shot and the first, Prototypical networks
        "rbf"                                 exp(-(tau |x - x_i|)^2 / 2), a Gaussian of width 1 / tau
        "learned"                             sigmoid(sum_j alpha_j |x_j - x_ij| + b)^tau, the siamese network's p

    Only the `neighbours` nearest examples count, and what ties with the last of them (None: all). tau = 0 with k
    neighbours is the k-NN rule, with all of them the frequencies of the classes; tau -> infinity is 1-NN. Training
    takes all examples, as those left out would have no gradient. On raw features (blocks=0) of any shape nothing needs
    training unless the kernel is learned.

    >>> nearest = KernelClassifier(blocks=0, kernel="euclidean", tau=0.0, neighbours=1)
    >>> state = nearest.adapt({"net": {}, "running": {}}, np.array([[[0.0], [1.0], [5.0]]]), np.array([[0, 0, 1]]), 2)
    >>> ops.softmax(nearest.predict({"net": {}}, state, np.array([[[2.0], [4.0]]])))
    array([[[1., 0.],
            [0., 1.]]])
    """

    kernel: str = "cosine"
    tau: float = 10.0
    neighbours: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "kernel", KERNELS)
        if not 0 <= self.tau < np.inf:
            raise ValueError(f"KernelClassifier: tau={self.tau}; need 0 <= tau < infinity")
        if self.neighbours is not None and self.neighbours < 1:
            raise ValueError(f"KernelClassifier: neighbours={self.neighbours}; need at least 1, or None for all")

    def init(self, rng: np.random.Generator) -> Params:
        params = super().init(rng)
        if self.kernel == "learned":
            alpha = layers.uniform(rng, (self.features, 1), self.features)
            params["same"] = {"alpha": alpha, "b": np.zeros(1, np.float32)}
        return params

    def summarise(self, params: Params, features: Any, ys: Any, n_way: int) -> Any:
        if self.neighbours is not None and self.neighbours > features.shape[1]:
            raise ValueError(f"KernelClassifier: neighbours={self.neighbours} of {features.shape[1]} examples")
        return {"features": features, "labels": ys, "n_way": n_way}

    def compare(self, params: Params, summary: Any, queries: Any, statistics: Params | None) -> tuple[Any, Params]:
        closeness = self.closeness(params, queries, summary["features"])
        log_kernel = closeness * (self.tau**2 if self.kernel == "rbf" else self.tau)
        if self.neighbours is not None:
            last = ops.sort(closeness, axis=-1)[..., -self.neighbours, None]
            log_kernel = ops.where(ops.greater_equal(closeness, last), log_kernel, NEVER)
        return log_sum_by_class(log_kernel, summary["labels"], summary["n_way"]), {}

    def closeness(self, params: Params, x: Any, y: Any) -> Any:
        """log k(x, y) at tau = 1 of all pairs: [T, Q, D], [T, S, D] -> [T, Q, S]."""
        if self.kernel == "learned":
            return -ops.softplus(-weighted_l1(params["same"], x, y))
        if self.kernel == "rbf":
            return -0.5 * ops.sqeuclidean(x, y)
        return SIMILARITIES[self.kernel](x, y)

    def meta_loss(self, params: Params, episode: Episode) -> tuple[Any, dict[str, Any]]:
        if not self.tau or not (self.blocks or self.kernel == "learned"):
            raise ValueError(f"{self}: nothing to train: the scores depend on no weight")
        return MetricLearner.meta_loss(replace(self, neighbours=None), params, episode)
