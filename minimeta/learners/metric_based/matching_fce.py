"""Matching networks with full context embeddings (Vinyals et al., 2016): each embedding depends on the support set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from minimeta import layers, ops
from minimeta.learners.base import Params
from minimeta.learners.metric_based.matching import Matching


@final
@dataclass(frozen=True)
class MatchingFCE(Matching):
    """Matching on g(x_i, S), made by a bidirectional LSTM over the support, and f(x, S), by an LSTM that reads it.

    The query's LSTM takes `reads` steps, each attending over the support. With all LSTM weights zero, or `reads=0` on
    the query's side, embeddings are those of plain matching. The order of the support matters, so episodes shuffle it.

    >>> learner = MatchingFCE(filters=8, reads=2)
    >>> params = learner.init(np.random.default_rng(0))
    >>> {name: array.shape for name, array in params["query_lstm"].items()}
    {'w': (8, 32), 'u': (16, 32), 'b': (32,)}
    """

    reads: int = 3

    order_sensitive: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reads < 0:
            raise ValueError(f"MatchingFCE: reads={self.reads}; need reads >= 0")

    def init(self, rng: np.random.Generator) -> Params:
        d = self.features
        both_ways = [lstm_init(rng, d, d) for _ in range(2)]
        return {
            **super().init(rng),
            "support_lstm": {name: np.stack([way[name] for way in both_ways]) for name in both_ways[0]},
            "query_lstm": lstm_init(rng, d, 2 * d),
        }

    def summarise(self, params: Params, features: Any, ys: Any, n_way: int) -> Any:
        return super().summarise(params, embed_support(params["support_lstm"], features), ys, n_way)

    def compare(self, params: Params, summary: Any, queries: Any, statistics: Params | None) -> tuple[Any, Params]:
        queries = embed_queries(params["query_lstm"], queries, summary["features"], self.reads)
        return super().compare(params, summary, queries, statistics)


def lstm_init(rng: np.random.Generator, d: int, hidden: int) -> Params:
    """Weights of a cell of size d whose hidden input has size `hidden`; gates in the order of `ops.lstm_cell`."""
    return {
        "w": layers.uniform(rng, (d, 4 * d), d),
        "u": layers.uniform(rng, (hidden, 4 * d), d),
        "b": np.zeros(4 * d, np.float32),
    }


def embed_support(lstm: Params, features: Any) -> Any:
    """g(x_i, S) = h_i forward + h_i backward + g'(x_i): features g' [T, S, D], weights [2, ...] -> [T, S, D]."""
    ways = ops.stack([features, ops.flip(features, axis=1)])  # [2, T, S, D]: both directions are one computation
    gates = ways @ lstm["w"][:, None] + lstm["b"][:, None, None]  # of the inputs, for all steps at once
    hidden = cell = ways[:, :, 0] * 0.0
    outputs = []
    for step in ops.unstack(gates, axis=2):
        hidden, cell = ops.lstm_gates(step + hidden @ lstm["u"], cell)
        outputs.append(hidden)
    forward, backward = ops.unstack(ops.stack(outputs, axis=2))
    return forward + ops.flip(backward, axis=1) + features


def embed_queries(lstm: Params, queries: Any, support: Any, reads: int) -> Any:
    """f(x, S) = h_K, each query apart: queries f' [T, Q, D] and g [T, S, D] -> [T, Q, D].

    h_0 = f'(x), c_0 = 0; r_k-1 = sum_i softmax_i(h_k-1 . g_i) g_i; h^_k, c_k = LSTM(f'(x), [h_k-1; r_k-1], c_k-1);
    h_k = h^_k + f'(x).
    """
    gates = queries @ lstm["w"] + lstm["b"]
    hidden, cell = queries, queries * 0.0
    for _ in range(reads):
        read = ops.attention(hidden, support, support)
        state, cell = ops.lstm_gates(gates + ops.concatenate([hidden, read], axis=-1) @ lstm["u"], cell)
        hidden = state + queries
    return hidden
