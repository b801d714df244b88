"""Meta Networks in plain NumPy: one example, one query and one coordinate at a time, gradients by hand.

Imported as `from tests.learners import plain_meta_networks`. Nothing is shared with the engine or with the learner,
which is only asked for its settings. Networks are lists of weights by layer that work side by side.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from tests.learners import plain

CONVOLUTIONS = ("conv1", "conv2", "conv3", "conv4", "conv5")


class Memory(NamedTuple):
    """What is remembered of one task: Q* by layer, and of each example its key and W* by layer."""

    task: Any
    keys: list[np.ndarray]
    examples: list[Any]


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def windows(x: np.ndarray) -> Any:
    """Places of a pooling of size 2 that rounds up, and what lies there in an image [H, W, C]."""
    for i, j in np.ndindex(*(-(-n // 2) for n in x.shape[:2])):
        yield (i, j), np.s_[2 * i : 2 * i + 2, 2 * j : 2 * j + 2]


def pool(x: np.ndarray) -> np.ndarray:
    y = np.empty((*(-(-n // 2) for n in x.shape[:2]), x.shape[2]))
    for place, window in windows(x):
        y[place] = x[window].max((0, 1))
    return y


def pool_back(g: np.ndarray, x: np.ndarray) -> np.ndarray:
    to_x = np.zeros_like(x)
    for place, window in windows(x):
        to_x[window] = g[place] * (x[window] == x[window].max((0, 1)))  # where all are 0, no ReLU lets it through
    return to_x


def conv(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    return plain.conv(x[None], w)[0]


def conv_back(g: np.ndarray, x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By w and by x."""
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    to_w, to_padded = np.zeros_like(w), np.zeros_like(padded)
    for i, j in np.ndindex(3, 3):
        seen = np.s_[i : i + x.shape[0], j : j + x.shape[1]]
        to_w[i, j] = np.einsum("hwc,hwo->co", padded[seen], g)
        to_padded[seen] += g @ w[i, j].T
    return to_w, to_padded[1:-1, 1:-1]


def features(nets: list[Any], x: np.ndarray) -> np.ndarray:
    """Of one image [H, W, C]: a row."""
    for name in CONVOLUTIONS:
        x = pool(sum(relu(conv(x, net[name])) for net in nets))
    return x.ravel()


def key(nets: list[Any], x: np.ndarray) -> np.ndarray:
    h = features(nets, x)
    return sum(h @ net["dense"] for net in nets)


def scores(nets: list[Any], x: np.ndarray) -> np.ndarray:
    """Of one image, for all classes that the head has."""
    h = features(nets, x)
    h = sum(relu(h @ net["dense"]) for net in nets)
    return sum(h @ net["head"] for net in nets)


def key_back(net: Any, x: np.ndarray, g: np.ndarray) -> Any:
    """By the convolutions and the dense layer, of g key([net], x)."""
    seen = []
    for name in CONVOLUTIONS:
        y = relu(conv(x, net[name]))
        seen.append((name, x, y))
        x = pool(y)
    found = {"dense": np.outer(x.ravel(), g)}
    g = (net["dense"] @ g).reshape(x.shape)
    for name, x, y in reversed(seen):
        found[name], g = conv_back(pool_back(g, y) * (y > 0), x, net[name])
    return found


def task_gradient(net: Any, x: np.ndarray, label: int, n_way: int) -> Any:
    """Of the cross-entropy of one example by one network."""
    code = key([net], x)
    weights = net["head"][:, :n_way]
    g = plain.softmax(relu(code) @ weights) - np.eye(n_way)[label]
    to_head = np.zeros_like(net["head"])
    to_head[:, :n_way] = np.outer(relu(code), g)
    return {**key_back(net, x, (weights @ g) * (code > 0)), "head": to_head}


def partners(ys: Any, i: int) -> tuple[int, int]:
    """The next examples of i's class, if need be itself, and of another; behind the last one comes the first."""
    order = [(i + step) % len(ys) for step in range(1, len(ys) + 1)]
    return tuple(next(j for j in order if (ys[j] == ys[i]) == same) for same in (True, False))


def pair_gradient(net: Any, xs: np.ndarray, ys: Any, i: int) -> Any:
    """Of the mean of two logistic losses: that example i is of one class with one partner, and not with the other."""
    code, found = key([net], xs[i]), dict.fromkeys((*CONVOLUTIONS, "dense"), 0)
    for j, target in zip(partners(ys, i), (1, 0), strict=True):
        away = key([net], xs[j]) - code
        g = (plain.sigmoid(np.abs(away) @ net["pair"][:, 0]) - target) / 2 * net["pair"][:, 0] * np.sign(away)
        for x, cotangent in ((xs[j], g), (xs[i], -g)):
            for name, gradient in key_back(net, x, cotangent).items():
                found[name] = found[name] + gradient
    return found


def embedding_loss(net: Any, xs: np.ndarray, ys: Any, n_way: int) -> float:
    """The mean over a support set: cross-entropies, or of pairs where a class has several examples."""
    if len(ys) <= n_way:
        return np.mean([-math.log(plain.softmax(scores([net], x)[:n_way])[y]) for x, y in zip(xs, ys, strict=True)])
    losses = []
    for i in range(len(ys)):
        for j, sign in zip(partners(ys, i), (1, -1), strict=True):
            alike = np.abs(key([net], xs[j]) - key([net], xs[i])) @ net["pair"][:, 0]
            losses.append(-math.log(plain.sigmoid(sign * alike)))
    return np.mean(losses)


def log_and_sign(x: float) -> list[float]:
    """p = 7."""
    if abs(x) >= math.exp(-7):
        return [math.log(abs(x)) / 7, math.copysign(1, x)]
    return [-1.0, math.exp(7) * x]


def kind(name: str) -> str:
    return "conv" if name in CONVOLUTIONS else "dense"


def lstm(weights: Any, numbers: list[float]) -> float:
    """What is generated of one coordinate, from its gradient in each chunk."""
    hidden = cell = np.zeros(len(weights["u"]))
    for number in numbers:
        gates = np.array(log_and_sign(number)) @ weights["w"] + hidden @ weights["u"] + weights["b"]
        i, f, o, candidate = np.split(gates, 4)
        cell = plain.sigmoid(f) * cell + plain.sigmoid(i) * np.tanh(candidate)
        hidden = plain.sigmoid(o) * np.tanh(cell)
    return (hidden @ weights["out"]["w"] + weights["out"]["b"])[0]


def mlp(weights: Any, number: float) -> float:
    """What is generated of one coordinate of an example's gradient."""
    first, second, out = (weights[name] for name in ("dense1", "dense2", "out"))
    hidden = relu(np.array(log_and_sign(number)) @ first["w"] + first["b"])
    hidden = relu(hidden @ second["w"] + second["b"])
    return (hidden @ out["w"] + out["b"])[0]


def each_coordinate(function: Any, like: np.ndarray) -> np.ndarray:
    return np.array([function(place) for place in np.ndindex(like.shape)]).reshape(like.shape)


def adapt(learner: Any, params: Any, xs: np.ndarray, ys: Any, n_way: int) -> Memory:
    """Of one task [S, H, W, C], [S]."""
    q, w = params["embedding"], params["base"]
    by_pairs = len(ys) > n_way
    seen = [pair_gradient(q, xs, ys, i) if by_pairs else task_gradient(q, xs[i], ys[i], n_way) for i in range(len(ys))]
    chunks = np.array_split(np.arange(len(ys)), min(learner.chunks, len(ys)))
    task = {}
    for name in (*CONVOLUTIONS, "dense"):
        means = [np.mean([seen[i][name] for i in chunk], axis=0) for chunk in chunks]
        of_kind = params["task"][kind(name)]
        task[name] = each_coordinate(lambda p, m=means, d=of_kind: lstm(d, [mean[p] for mean in m]), q[name])
    examples = []
    for x, y in zip(xs, ys, strict=True):
        fast = {}
        for name, gradient in task_gradient(w, x, y, n_way).items():
            of_kind = params["example"][kind(name)]
            fast[name] = each_coordinate(lambda p, g=gradient, m=of_kind: mlp(m, g[p]), gradient)
        examples.append(fast)
    return Memory(task, [key([q, task], x) for x in xs], examples)


def attention(params: Any, memory: Memory, x: np.ndarray) -> np.ndarray:
    """A query's shares of the examples."""
    code = key([params["embedding"], memory.task], x)
    return plain.softmax([plain.SIMILARITIES["cosine"](of_example, code) for of_example in memory.keys])


def predict(params: Any, memory: Memory, x: np.ndarray, n_way: int) -> np.ndarray:
    shares = attention(params, memory, x)
    names = memory.examples[0]
    fast = {name: sum(a * w[name] for a, w in zip(shares, memory.examples, strict=True)) for name in names}
    return scores([params["base"], fast], x)[:n_way]
