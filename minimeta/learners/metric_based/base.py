"""What all metric-based learners share: embed the images, summarise the support set, compare queries with the summary.

A learner is its three parts

    embed(params, x, statistics)                -> features [T, B, ...], statistics of its batch norms
    summarise(params, features, ys, n_way)      -> what is kept of the embedded support set
    compare(params, summary, queries, statistics) -> logits [T, Q, n_way], statistics of its batch norms

and `batch_norm` says by which statistics a trained one normalises:

    "running"    averages from training
    "batch"      those of the images in hand, support and queries apart: queries see each other (transductive)
    "support+1"  those of the whole support set and one query, for each query anew (Nichol et al., 2018)
    "episode"    those of the support set, for the queries too (Ravi and Larochelle, 2017)

Training normalises by batch statistics in any case, and collects the running ones.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np

from minimeta import layers, ops
from minimeta.data.episodes import Episode
from minimeta.learners.base import Learner, Params, accuracy, check_choice, check_least
from minimeta.learners.query_by_query import query_by_query

MODES = ("running", "batch", "support+1", "episode")


class State(NamedTuple):
    """A support set learned: its summary, and the statistics to normalise queries by (None: their own)."""

    summary: Any
    statistics: Params | None


class Support(NamedTuple):
    """A support set kept as it is, to be embedded with each query anew."""

    xs: Any
    ys: Any
    n_way: int


@dataclass(frozen=True)
class MetricLearner(Learner):
    """Embedding: `blocks` conv blocks of `filters` filters on images of `size` x `size` pixels and `channels` channels.

    Without blocks the features are the pixels themselves. Raises ValueError for values out of range.
    """

    size: int = 28
    channels: int = 1
    filters: int = 64
    blocks: int = 4
    batch_norm: str = "running"

    modes: ClassVar[tuple[str, ...]] = MODES

    def __post_init__(self) -> None:
        check_least(self, size=1, channels=1, filters=1, blocks=0)
        if not self.features:
            raise ValueError(f"{self}: poolings leave nothing of {self.size} x {self.size} pixels")
        check_choice(self, "batch_norm", self.modes)

    @property
    def features(self) -> int:
        """The number of features of an embedded image."""
        return layers.conv_net_size(self.size, self.channels, self.filters, self.blocks)

    def init(self, rng: np.random.Generator) -> Params:
        net = layers.conv_net_init(rng, self.channels, self.filters, self.blocks)
        return {"net": net, "running": layers.running_init(net)}

    def embed(self, params: Params, x: Any, statistics: Params | None) -> tuple[Any, Params]:
        """Features of images [T, B, H, W, C], and the statistics they were normalised by."""
        return layers.conv_net(params["net"], x, statistics)

    def embed_episode(self, params: Params, xs: Any, xq: Any) -> tuple[Any, Any, Params]:
        """Features of support and queries, in training: one batch, whose statistics they share (Snell et al., 2017)."""
        features, statistics = self.embed(params, ops.concatenate([xs, xq], axis=1), None)
        return features[:, : xs.shape[1]], features[:, xs.shape[1] :], statistics

    @abstractmethod
    def summarise(self, params: Params, features: Any, ys: Any, n_way: int) -> Any:
        """What to keep of a support set with these features [T, S, ...] and labels [T, S], in any order."""

    @abstractmethod
    def compare(
        self, params: Params, summary: Any, queries: Any, statistics: Params | None
    ) -> tuple[Any, Params]:
        """Class scores (logits) [T, Q, n_way] of embedded queries [T, Q, ...], and the statistics used."""

    def loss(self, logits: Any, labels: Any) -> Any:
        """The mean over queries that training minimises."""
        return ops.cross_entropy(logits, labels)

    def adapt(self, params: Params, xs: Any, ys: Any, n_way: int) -> State | Support:
        if self.batch_norm == "support+1":
            return Support(xs, ys, n_way)
        statistics = params["running"] if self.batch_norm == "running" else None
        features, embedded = self.embed(params, xs, statistics)
        summary = self.summarise(params, features, ys, n_way)
        if self.batch_norm == "episode":
            statistics = {**embedded, **self.compare(params, summary, features, None)[1]}
        return State(summary, statistics)

    def predict(self, params: Params, state: State | Support, xq: Any) -> Any:
        if isinstance(state, Support):
            return query_by_query(partial(self._score_apart, params, state.n_way), state.ys, state.xs, xq)
        queries, _ = self.embed(params, xq, state.statistics)
        return self.compare(params, state.summary, queries, state.statistics)[0]

    def _score_apart(self, params: Params, n_way: int, ys: Any, images: Any) -> Any:
        """Class scores of support sets with labels ys [T, S], and of the query after each."""
        features, _ = self.embed(params, images, None)
        summary = self.summarise(params, features[:, : ys.shape[1]], ys, n_way)
        # the support set is compared too, so that it is part of whatever statistics the comparison takes
        return self.compare(params, summary, features, None)[0]

    def meta_loss(self, params: Params, episode: Episode) -> tuple[Any, dict[str, Any]]:
        support, queries, embedded = self.embed_episode(params, episode.xs, episode.xq)
        summary = self.summarise(params, support, episode.ys, episode.n_way)
        logits, compared = self.compare(params, summary, queries, None)
        aux = {
            "accuracy": accuracy(logits, episode.yq).mean(),
            "running": layers.running_update(params["running"], {**embedded, **compared}),
        }
        return self.loss(logits, episode.yq), aux
