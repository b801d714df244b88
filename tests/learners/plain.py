"""The metric-based learners' parts in plain NumPy: one task at a time, no engine, no code shared with the package.

Imported as `from tests.learners import plain`. Tasks are random images with classes of unequal size in random order,
weights are never those that training starts from, and everything is float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from minimeta import tree
from minimeta.data import Episode

seeds = st.integers(0, 2**32 - 1)

SMALL = {"size": 8, "filters": 2, "blocks": 2}
SIMILARITIES: dict[str, Callable[[Any, Any], Any]] = {
    "sqeuclidean": lambda a, b: -((a - b) ** 2).sum(),
    "euclidean": lambda a, b: -np.sqrt(((a - b) ** 2).sum()),
    "l1": lambda a, b: -np.abs(a - b).sum(),
    "cosine": lambda a, b: a @ b / np.sqrt((a @ a + 1e-16) * (b @ b + 1e-16)),
}


def drawn(examples: int) -> Callable[[Any], Any]:
    """Run the test for that many drawn values of its argument `seed`."""
    return lambda test: settings(max_examples=examples)(given(seed=seeds)(test))


def episode(rng: np.random.Generator, way: int = 3, extra: int = 2, query: int = 3, tasks: int = 2, size: int = 8):
    """Images of noise; every class has one support example, and `extra` more fall to any."""
    ys = [rng.permutation([*range(way), *rng.integers(0, way, extra)]) for _ in range(tasks)]
    xs, xq = (rng.random((tasks, n, size, size, 1)) for n in (way + extra, query))
    return Episode(xs, np.stack(ys), xq, rng.integers(0, way, (tasks, query)), way)


def weights(learner: Any, rng: np.random.Generator) -> Any:
    """Parameters with noise on all, so that no bias, shift or statistic can be forgotten."""
    params = tree.map(lambda w: np.asarray(w, np.float64), learner.init(rng))
    return tree.map(lambda w: np.asarray(w + 0.15 * rng.standard_normal(w.shape)), params)


def logits(learner: Any, params: Any, episode: Episode) -> np.ndarray:
    return learner.predict(params, learner.adapt(params, *episode[:2], episode.n_way), episode.xq)


def check_meta_gradient(learner: Any, params: Any, episode: Episode, loss: Callable[..., Any]) -> None:
    """The learner's loss is the mean over tasks of loss(params, xs, ys, xq, yq, n_way), its gradient their differences.

    One random direction through each array of weights; relative 1e-6. For tests whose cases Hypothesis draws.
    """

    def plain(moved: Any) -> Any:
        return np.mean([loss(moved, *task, episode.n_way) for task in zip(*episode[:4], strict=True)])

    value, _, grads = learner.meta_grad(params, episode)
    here, step = plain(params), 1e-7
    np.testing.assert_allclose(value, here, rtol=1e-12)
    rng = np.random.default_rng(0)
    slopes, numeric, bends = {}, {}, []
    for path, gradient in tree.items(grads):
        direction = rng.standard_normal(gradient.shape)
        direction /= np.sqrt((direction**2).sum())
        ahead, behind = (plain(_moved(params, path, t * direction)) for t in (step, -step))
        slopes[path], numeric[path] = (gradient * direction).sum(), (ahead - behind) / (2 * step)
        bends.append(abs(ahead - 2 * here + behind) / (2 * step))
    assert {path[0] for path in slopes} == set(params) - {"running"}
    tolerance = 1e-6 * max(map(abs, numeric.values()))
    assume(max(bends) < tolerance)  # where a ReLU or maximum switches within the step, there is no derivative
    off = {path: (slopes[path], numeric[path]) for path in slopes if not abs(slopes[path] - numeric[path]) < tolerance}
    assert not off, f"gradient and difference by weight: {off}"


def _moved(params: Any, path: tuple[str, ...], change: np.ndarray) -> Any:
    name, *rest = path
    return {**params, name: _moved(params[name], tuple(rest), change) if rest else params[name] + change}


def conv(x: np.ndarray, w: np.ndarray, padding: int = 1) -> np.ndarray:
    """Images [B, H, W, C], one shifted copy for each place of the square kernel [k, k, C, O]."""
    side = len(w)
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    height, width = (n - side + 1 for n in x.shape[1:3])
    return sum(x[:, i : i + height, j : j + width] @ w[i, j] for i in range(side) for j in range(side))


def pool(x: np.ndarray) -> np.ndarray:
    height, width = (n // 2 for n in x.shape[1:3])
    return x[:, : 2 * height, : 2 * width].reshape(len(x), height, 2, width, 2, -1).max((2, 4))


def blocks(x: np.ndarray, layers: Any, given: Any = None, padding: int = 1, pooled: bool = True) -> tuple[Any, Any]:
    """Convolution, batch norm by the statistics given or by its own, ReLU, pooling, layer after layer.

    Also returns, by layer, the statistics of what the batch norms saw, variance unbiased.
    """
    seen = {}
    for name, layer in layers.items():
        y, over = conv(x, layer["w"], padding), (0, 1, 2)
        seen[name] = {"mean": y.mean(over), "var": y.var(over, ddof=1)}
        mean, var = (y.mean(over), y.var(over)) if given is None else (given[name]["mean"], given[name]["var"])
        y = np.maximum((y - mean) / np.sqrt(var + 1e-5) * layer["gamma"] + layer["beta"], 0)
        x = pool(y) if pooled else y
    return x, seen


def conv_net(net: Any, x: np.ndarray, given: Any = None) -> tuple[np.ndarray, Any]:
    x, seen = blocks(x, net, given)
    return x.reshape(len(x), -1), seen


def embed_both(params: Any, xs: np.ndarray, xq: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features of support and queries, normalised as one batch."""
    features, _ = conv_net(params["net"], np.concatenate([xs, xq]))
    return features[: len(xs)], features[len(xs) :]


def relation_embed(net: Any, x: np.ndarray, given: Any = None, padding: int = 1) -> tuple[np.ndarray, Any]:
    """Maps [B, h, w, F]: two blocks with pooling, the others without."""
    names = list(net)
    pooling, keeping = ({name: net[name] for name in part} for part in (names[:2], names[2:]))
    x, first = blocks(x, pooling, given, padding)
    x, second = blocks(x, keeping, given, pooled=False)
    return x, first | second


def relation_scores(
    net: Any, classes: np.ndarray, queries: np.ndarray, given: Any = None, padding: int = 1
) -> tuple[np.ndarray, Any]:
    """Scores [Q, N] of all pairs of class maps [N, h, w, F] and query maps [Q, h, w, F], stacked in this order."""
    pairs = np.stack([np.concatenate([of_class, query], axis=-1) for query in queries for of_class in classes])
    x, seen = blocks(pairs, {name: net[name] for name in ("relate1", "relate2")}, given, padding)
    hidden = np.maximum(x.reshape(len(x), -1) @ net["fc1"]["w"] + net["fc1"]["b"], 0)
    scores = hidden @ net["fc2"]["w"] + net["fc2"]["b"]
    return np.array([[scores[q * len(classes) + n, 0] for n in range(len(classes))] for q in range(len(queries))]), seen


def of_classes(reduce: Callable[..., Any], features: np.ndarray, labels: np.ndarray, n_way: int) -> np.ndarray:
    """The mean or sum of the features of each class: [S, ...] -> [N, ...]."""
    return np.stack([reduce(features[labels == n], axis=0) for n in range(n_way)])


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def softmax(scores: Any) -> np.ndarray:
    shares = np.exp(np.asarray(scores) - np.max(scores))
    return shares / shares.sum()


def votes(shares: np.ndarray, labels: np.ndarray, n_way: int) -> np.ndarray:
    """What each class gets, of shares by example."""
    return np.array([shares[labels == n].sum() for n in range(n_way)])
