"""Prototypical networks (Snell, Swersky and Zemel, 2017): classify by the nearest class mean in a learned space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np

from minimeta import layers, ops
from minimeta.data.episodes import Episode
from minimeta.learners.base import Learner, Params, accuracy


@final
@dataclass(frozen=True)
class Prototypical(Learner):
    """Embedding: `blocks` conv blocks of `filters` filters on images with `channels` channels.

    `batch_norm` says which statistics `adapt` and `predict` normalise by: "running" (averages from training; queries
    cannot see each other) or "batch" (those of the images in hand; transductive). Training uses the batch's in either.

    >>> learner = Prototypical(filters=8)
    >>> params = learner.init(np.random.default_rng(0))
    >>> xs, ys = np.random.default_rng(1).random((1, 5, 28, 28, 1), np.float32), np.arange(5)[None]
    >>> state = learner.adapt(params, xs, ys, n_way=5)
    >>> int(learner.predict(params, state, xs)[0, 3].argmax())
    3
    """

    channels: int = 1
    filters: int = 64
    blocks: int = 4
    batch_norm: str = "running"

    def __post_init__(self) -> None:
        if self.batch_norm not in ("running", "batch"):
            raise ValueError(f"prototypical: batch_norm={self.batch_norm!r}; choose 'running' or 'batch'")

    def init(self, rng: np.random.Generator) -> Params:
        net = layers.conv_net_init(rng, self.channels, self.filters, self.blocks)
        return {"net": net, "running": layers.running_init(net)}

    def adapt(self, params: Params, xs: Any, ys: Any, n_way: int) -> Any:
        return prototypes(self._embed(params, xs), ys, n_way)

    def predict(self, params: Params, state: Any, xq: Any) -> Any:
        return logits(state, self._embed(params, xq))

    def _embed(self, params: Params, x: Any) -> Any:
        features, _ = layers.conv_net(params["net"], x, params["running"] if self.batch_norm == "running" else None)
        return features

    def meta_loss(self, params: Params, episode: Episode) -> tuple[Any, dict[str, Any]]:
        # support and queries go through the net together and share their batch statistics, as in the authors' code
        images = ops.concatenate([episode.xs, episode.xq], axis=1)
        features, statistics = layers.conv_net(params["net"], images)
        support = episode.xs.shape[1]
        scores = logits(prototypes(features[:, :support], episode.ys, episode.n_way), features[:, support:])
        aux = {
            "accuracy": accuracy(scores, episode.yq).mean(),
            "running": layers.running_update(params["running"], statistics),
        }
        return ops.cross_entropy(scores, episode.yq), aux


def prototypes(features: Any, labels: Any, n_way: int) -> Any:
    """Class means (equation 1): features [T, S, D], labels [T, S] -> [T, n_way, D], in any order of the support.

    Raises ValueError naming a class that has no example.
    """
    members = ops.one_hot(labels, n_way, dtype=features.dtype)  # [T, S, N]
    counts = members.sum(axis=1)
    if not (counts > 0).all():
        task, label = (int(i[0]) for i in (counts == 0).nonzero())
        raise ValueError(f"prototypical: class {label} of task {task} has no support example")
    return ops.matmul(members.swapaxes(1, 2), features) / counts[..., None]


def logits(centres: Any, queries: Any) -> Any:
    """Minus the squared distance to each prototype (equation 2): [T, N, D], [T, Q, D] -> [T, Q, N]."""
    return -ops.sqeuclidean(queries, centres)
