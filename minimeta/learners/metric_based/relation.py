"""Relation networks (Sung et al., 2018): a second network learns what it means to be of the same class.

Parameters, in order, as `minimeta.checkpoint.from_torch_layout` fills them (conv weights H, W, in, out; F = filters):

    net/conv1 .. conv4        "w" [3, 3, in, F], "gamma" [F], "beta" [F]        in = channels for conv1, else F
    relation/relate1          "w" [3, 3, 2 F, F], "gamma", "beta"               in: the support's F maps, the query's F
    relation/relate2          "w" [3, 3, F, F], "gamma", "beta"
    relation/fc1, fc2         "w" [D, hidden], "b" [hidden]; "w" [hidden, 1], "b" [1]
    running/LAYER             "mean" [F], "var" [F], for conv1 .. relate2

The authors' embedding and relation nets, one after the other, have this order; their `hidden` is 8, or 10 in some of
their scripts. D is F at 28 x 28 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np

from minimeta import layers, ops, tree
from minimeta.learners.base import Params
from minimeta.learners.metric_based.base import MetricLearner
from minimeta.learners.metric_based.labels import sum_by_class

POOLED = 2  # the first blocks of the embedding pool, the others keep the maps' size


@final
@dataclass(frozen=True)
class Relation(MetricLearner):
    """The score of a class is the relation network's on the sum of its examples' maps and the query's, in depth.

    `padding` is that of the first two blocks of the embedding, `relation_padding` that of the relation network's, and
    `hidden` the width of its last layer but one: by default the authors' for Omniglot. The relation score is
    r = sigmoid(score), trained by its mean squared error to 1 for the query's class and 0 for others. As there,
    `batch_norm` is "batch" by default, and training forwards support and queries separately.

    >>> learner = Relation(filters=4)
    >>> params = learner.init(np.random.default_rng(0))
    >>> xs, ys = np.random.default_rng(1).random((1, 6, 28, 28, 1), np.float32), np.array([[0, 0, 1, 1, 2, 2]])
    >>> learner.predict(params, learner.adapt(params, xs, ys, n_way=3), xs[:, :4]).shape
    (1, 4, 3)
    """

    batch_norm: str = "batch"
    padding: int = 0
    relation_padding: int = 1
    hidden: int = 8

    def __post_init__(self) -> None:
        for name, least in {"padding": 0, "relation_padding": 0, "hidden": 1, "blocks": POOLED}.items():
            if getattr(self, name) < least:
                raise ValueError(f"Relation: {name}={getattr(self, name)}; need {name} >= {least}")
        super().__post_init__()

    @property
    def features(self) -> int:
        """The number of features that the relation network's convolutions end in."""
        side = self.size
        for padding in [self.padding] * POOLED + [self.relation_padding] * 2:
            side = max(0, side + 2 * padding - 2) // 2
        return side**2 * self.filters

    def init(self, rng: np.random.Generator) -> Params:
        net = {
            f"conv{i + 1}": _conv_block_init(rng, self.filters if i else self.channels, self.filters)
            for i in range(self.blocks)
        }
        relation = {
            "relate1": _conv_block_init(rng, 2 * self.filters, self.filters),
            "relate2": _conv_block_init(rng, self.filters, self.filters),
            "fc1": _linear_init(rng, self.features, self.hidden),
            "fc2": _linear_init(rng, self.hidden, 1),
        }
        return {"net": net, "relation": relation, "running": layers.running_init({**net, **relation})}

    def embed(self, params: Params, x: Any, statistics: Params | None) -> tuple[Any, Params]:
        """Maps [T, B, h, w, F]."""
        found = {}
        for i, (name, block) in enumerate(params["net"].items()):
            given = None if statistics is None else statistics[name]
            pool = i < POOLED
            x, found[name] = layers.conv_block(block, x, given, padding=self.padding if pool else 1, pool=pool)
        return x, found

    def embed_episode(self, params: Params, xs: Any, xq: Any) -> tuple[Any, Any, Params]:
        support, of_support = self.embed(params, xs, None)
        queries, of_queries = self.embed(params, xq, None)
        return support, queries, tree.map(lambda s, q: (s + q) / 2, of_support, of_queries)

    def summarise(self, params: Params, features: Any, ys: Any, n_way: int) -> Any:
        return sum_by_class(features, ys, n_way)

    def compare(self, params: Params, summary: Any, queries: Any, statistics: Params | None) -> tuple[Any, Params]:
        net = params["relation"]
        given = (lambda name: None) if statistics is None else statistics.__getitem__
        # The convolution of two stacks of maps, one on the other, is the sum of the two stacks' own: N + Q convolutions
        # in place of N * Q.
        for_class, for_query = ops.split(net["relate1"]["w"], 2, axis=2)
        classes = ops.conv2d(summary, for_class, padding=self.relation_padding)
        maps = ops.conv2d(queries, for_query, padding=self.relation_padding)
        pairs = ops.expand_dims(maps, 2) + ops.expand_dims(classes, 1)  # [T, Q, N, h, w, F]: the query is the outer one
        tasks, n_queries, n_way, *shape = pairs.shape
        x, first = layers.norm_block(net["relate1"], pairs.reshape(tasks, -1, *shape), given("relate1"))
        x, second = layers.conv_block(net["relate2"], x, given("relate2"), padding=self.relation_padding)
        hidden = ops.relu(layers.linear(net["fc1"], x.reshape(tasks, n_queries * n_way, -1)))
        scores = layers.linear(net["fc2"], hidden).reshape(tasks, n_queries, n_way)
        return scores, {"relate1": first, "relate2": second}

    def loss(self, logits: Any, labels: Any) -> Any:
        return ops.mse(ops.sigmoid(logits), ops.one_hot(labels, logits.shape[-1], dtype=logits.dtype))


def _conv_block_init(rng: np.random.Generator, inputs: int, filters: int) -> Params:
    """As the authors': normal with variance 2 / (9 filters)."""
    w = rng.normal(0, (2 / (9 * filters)) ** 0.5, (3, 3, inputs, filters)).astype(np.float32)
    return {**layers.conv_block_init(rng, inputs, filters), "w": w}


def _linear_init(rng: np.random.Generator, inputs: int, outputs: int) -> Params:
    """As the authors': normal with standard deviation 0.01, biases 1."""
    return {"w": rng.normal(0, 0.01, (inputs, outputs)).astype(np.float32), "b": np.ones(outputs, np.float32)}
