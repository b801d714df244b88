"""Convolutional siamese networks (Koch, Zemel and Salakhutdinov, 2015): learn to tell same from different.

One network, one set of parameters, sees both images of a pair; the gradients of the two uses add up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from minimeta import layers, ops
from minimeta.data.episodes import Episode
from minimeta.learners.base import Params, accuracy, check_choice
from minimeta.learners.metric_based.base import MODES, MetricLearner
from minimeta.learners.metric_based.labels import NEVER, by_class, members
from minimeta.learners.metric_based.similarity import weighted_l1

#: The paper's convolutions: kernel, and width in units of `filters`. No padding, no batch norm; pooling between them.
KOCH = ((10, 1), (7, 2), (4, 2), (4, 4))
KOCH_CODE = 64  # width of the last layer, in units of `filters`
AGGREGATIONS = ("mean", "max")


@final
@dataclass(frozen=True)
class Siamese(MetricLearner):
    """p(same class) = sigmoid(sum_j alpha_j |h_j(a) - h_j(b)| + b), alpha learned and of any sign.

    `architecture` "conv4" is that of the other learners; "koch" is the paper's for 105 x 105 pixels (64, 128, 128, 256
    filters, a sigmoid layer of 4096), which has no batch norm: `batch_norm` must then be "none". Training takes all
    pairs of a support example and a query; pairs of the same class carry half of the loss and the others half, which is
    the expectation of the paper's draws of half same, half different. `l2` is the weight of sum |w|^2 in the loss. A
    query's score for a class is the `aggregation` ("mean" or "max") of its logits with the class's examples, a rule the
    paper needs not, having one example. `code_std` is the deviation of the sigmoid layer's first weights ("koch"): the
    paper's 0.2 saturates it, so that it hardly learns.

    >>> learner = Siamese(filters=8)
    >>> params = learner.init(np.random.default_rng(0))
    >>> xs, ys = np.random.default_rng(1).random((1, 3, 28, 28, 1), np.float32), np.array([[0, 1, 2]])
    >>> learner.predict(params, learner.adapt(params, xs, ys, n_way=3), xs[:, :2]).shape
    (1, 2, 3)
    """

    architecture: str = "conv4"
    aggregation: str = "mean"
    l2: float = 0.0
    code_std: float = 0.01

    modes: ClassVar[tuple[str, ...]] = (*MODES, "none")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "architecture", ("conv4", "koch"))
        check_choice(self, "aggregation", AGGREGATIONS)
        if (self.architecture == "koch") != (self.batch_norm == "none"):
            raise ValueError(
                f"Siamese: architecture={self.architecture!r} with batch_norm={self.batch_norm!r}; the paper's "
                "network has no batch norm, so 'koch' needs batch_norm 'none', and 'conv4' another"
            )
        if self.architecture == "koch" and (_koch_side(self.size) < 1 or self.blocks != len(KOCH)):
            needed = f"{_least_koch_size()} pixels or more, and has {len(KOCH)} blocks"
            raise ValueError(f"Siamese: size={self.size}, blocks={self.blocks}; 'koch' needs {needed}")
        if not self.l2 >= 0:
            raise ValueError(f"Siamese: l2={self.l2}; need l2 >= 0")

    @property
    def features(self) -> int:
        return KOCH_CODE * self.filters if self.architecture == "koch" else super().features

    def init(self, rng: np.random.Generator) -> Params:
        params = self._koch_init(rng) if self.architecture == "koch" else super().init(rng)
        alpha = layers.uniform(rng, (self.features, 1), self.features)
        return {**params, "same": {"alpha": alpha, "b": np.zeros(1, np.float32)}}

    def _koch_init(self, rng: np.random.Generator) -> Params:
        net, inputs = {}, self.channels
        for i, (kernel, width) in enumerate(KOCH):
            outputs = width * self.filters
            w, b = rng.normal(0, 0.01, (kernel, kernel, inputs, outputs)), rng.normal(0.5, 0.01, outputs)
            net[f"conv{i + 1}"] = {"w": w.astype(np.float32), "b": b.astype(np.float32)}
            inputs = outputs
        flat = _koch_side(self.size) ** 2 * inputs
        w, b = rng.normal(0, self.code_std, (flat, self.features)), rng.normal(0.5, 0.01, self.features)
        return {"net": {**net, "code": {"w": w.astype(np.float32), "b": b.astype(np.float32)}}, "running": {}}

    def embed(self, params: Params, x: Any, statistics: Params | None) -> tuple[Any, Params]:
        if self.architecture == "conv4":
            return super().embed(params, x, statistics)
        *convolutions, code = params["net"].values()
        for i, layer in enumerate(convolutions):
            # ReLU and bias after pooling are the same as before it, on a quarter of the values
            x = ops.conv2d(ops.max_pool2d(x) if i else x, layer["w"], padding="VALID") + layer["b"]
            x = ops.relu(x)
        return ops.sigmoid(layers.linear(code, x.reshape(*x.shape[:2], -1))), {}

    def summarise(self, params: Params, features: Any, ys: Any, n_way: int) -> Any:
        return {"features": features, "labels": ys, "n_way": n_way}

    def compare(self, params: Params, summary: Any, queries: Any, statistics: Params | None) -> tuple[Any, Params]:
        same = weighted_l1(params["same"], queries, summary["features"])
        return self.aggregate(same, summary["labels"], summary["n_way"]), {}

    def aggregate(self, same: Any, labels: Any, n_way: int) -> Any:
        """Class scores [T, Q, N] from the logits of being the same [T, Q, S]."""
        if self.aggregation == "max":
            return ops.max(by_class(same, labels, n_way, NEVER), axis=-1)
        counts = members(labels, n_way, same.dtype).sum(axis=1, keepdims=True)
        return ops.sum(by_class(same, labels, n_way, 0.0), axis=-1) / counts

    def meta_loss(self, params: Params, episode: Episode) -> tuple[Any, dict[str, Any]]:
        support, queries, statistics = self.embed_episode(params, episode.xs, episode.xq)
        logits = weighted_l1(params["same"], queries, support)
        same = (episode.yq[..., None] == episode.ys[:, None]).astype(logits.dtype)  # [T, Q, S]
        losses = ops.binary_cross_entropy_with_logits(logits, same, reduction="none")
        halves = [ops.sum(losses * of, axis=(1, 2)) / of.sum(axis=(1, 2)) for of in (same, 1 - same)]
        loss = ((halves[0] + halves[1]) / 2).mean()
        if self.l2:
            weights = [layer["w"] for layer in params["net"].values()] + [params["same"]["alpha"]]
            loss = loss + self.l2 * sum(ops.sum(w * w) for w in weights)
        scores = self.aggregate(logits, episode.ys, episode.n_way)
        running = layers.running_update(params["running"], statistics)
        return loss, {"accuracy": accuracy(scores, episode.yq).mean(), "running": running}


def _koch_side(size: int) -> int:
    """The side of the last convolution's maps: 105 pixels become 96, 48, 42, 21, 18, 9, 6."""
    for i, (kernel, _) in enumerate(KOCH):
        size = (size // 2 if i else size) - kernel + 1
    return size


def _least_koch_size() -> int:
    return next(size for size in range(1, 1000) if _koch_side(size) >= 1)
