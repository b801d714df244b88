"""Optimization-based learners' parts in plain NumPy: one task and one step at a time, gradients by hand.

Imported as `from tests.learners import plain_maml`. Nothing is shared with the engine or with the learners.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import assume

from minimeta import tree
from minimeta.data import Episode
from tests.learners import plain

EPS = 1e-3


def conv_same(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Stride 2 as TensorFlow pads for it: [B, H, W, C] -> [B, ceil(H/2), ceil(W/2), O], pixel by pixel."""
    height, width = (-(-n // 2) for n in x.shape[1:3])
    total = [max(2 * (out - 1) + 3 - n, 0) for out, n in zip((height, width), x.shape[1:3], strict=True)]
    x = np.pad(x, ((0, 0), *((n // 2, n - n // 2) for n in total), (0, 0)))  # an odd one comes at bottom or right
    y = np.empty((len(x), height, width, w.shape[-1]))
    for i, j in np.ndindex(height, width):
        y[:, i, j] = np.einsum("bhwc,hwco->bo", x[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3], w)
    return y


def network(architecture: str, net: Any, x: np.ndarray, given: Any = None) -> tuple[np.ndarray, Any]:
    """Scores of one task's examples, normalised by the statistics given or their own, and those seen, by layer."""
    seen = {}
    convolve: Callable[..., Any] = {"conv4": plain.conv, "dense": np.matmul}.get(architecture, conv_same)
    x = x.reshape(len(x), -1) if architecture in ("dense", "regressor") else x
    for name in list(net)[:-1]:
        layer = net[name]
        if architecture == "regressor":
            x = np.maximum(x @ layer["w"] + layer["b"], 0)
            continue
        y = convolve(x, layer["w"])
        over = tuple(range(y.ndim - 1))
        seen[name] = {"mean": y.mean(over), "var": y.var(over, ddof=1)}
        mean, var = (y.mean(over), y.var(over)) if given is None else (given[name]["mean"], given[name]["var"])
        x = np.maximum((y - mean) / np.sqrt(var + EPS) * layer.get("gamma", 1) + layer["beta"], 0)
        x = plain.pool(x) if architecture == "conv4" else x
    x = x.mean((1, 2)) if architecture == "strided" else x.reshape(len(x), -1)
    return x @ net["head"]["w"] + net["head"]["b"], seen


def loss(scores: np.ndarray, targets: np.ndarray) -> Any:
    """The mean cross-entropy with labels [B], or squared error to numbers [B, 1]."""
    if targets.ndim == 2:
        return ((scores - targets) ** 2).mean()
    return np.mean([-np.log(plain.softmax(row)[label]) for row, label in zip(scores, targets, strict=True)])


def gradient(net: Any, x: np.ndarray, targets: np.ndarray) -> Any:
    """Of that loss by every array of a "dense" network or a "regressor", by hand."""
    kept, x = [], x.reshape(len(x), -1)
    for layer in list(net.values())[:-1]:
        y, unit, std = x @ layer["w"], None, None
        if "beta" in layer:
            std = np.sqrt(y.var(0) + EPS)
            unit = (y - y.mean(0)) / std
        y = unit + layer["beta"] if "beta" in layer else y + layer["b"]
        kept.append((x, unit, std, y))
        x = np.maximum(y, 0)
    scores = x @ net["head"]["w"] + net["head"]["b"]
    if targets.ndim == 2:
        d = 2 * (scores - targets) / len(x)
    else:
        d = (np.stack([plain.softmax(row) for row in scores]) - np.eye(scores.shape[1])[targets]) / len(x)
    found = {"head": {"w": x.T @ d, "b": d.sum(0)}}
    d = d @ net["head"]["w"].T
    for name, (x, unit, std, y) in zip(reversed(list(net)[:-1]), reversed(kept), strict=True):
        d = d * (y > 0)
        shift = d.sum(0)
        if unit is not None:
            d = (d - d.mean(0) - unit * (d * unit).mean(0)) / std
        found[name] = {"w": x.T @ d, "b" if unit is None else "beta": shift}
        d = d @ net[name]["w"].T
    return found


def adapt(net: Any, xs: np.ndarray, ys: np.ndarray, rates: list[Any]) -> Any:
    """Gradient descent, each step with a tree of rates of its own; what is not adapted has rate 0."""
    for rate in rates:
        net = tree.map(lambda w, a, g: w - a * g, net, rate, gradient(net, xs, ys))
    return net


def rates_of(learner: Any, params: Any, steps: int, n_way: int) -> list[Any]:
    """The rates of that many steps, for the mean loss."""

    def of_step(step: int) -> Any:
        if learner.learn_rates == "parameter":
            return params["rates"]
        rates = params["rates"] if learner.learn_rates == "step" else learner.inner_lr
        rate = rates[step] if step < len(rates) else rates[-1]
        return {name: dict.fromkeys(layer, rate) for name, layer in params["net"].items()}

    factor = n_way if learner.reduction == "per-shot" and n_way else 1
    fixed = () if learner.adapt_norm else ("gamma", "beta")

    def scaled(rate: Any, layer: Any, name: str) -> Any:
        return {key: 0 if key in fixed else factor * rate[name][key] for key in layer}

    return [
        {name: scaled(of_step(step), layer, name) for name, layer in params["net"].items()} for step in range(steps)
    ]


def sinusoids(rng: np.random.Generator, tasks: int = 2, shot: int = 4, query: int = 3) -> Episode:
    """Regression tasks."""
    amplitude, phase = rng.uniform(0.1, 2, (2, tasks, 1, 1))
    x = rng.uniform(-3, 3, (tasks, shot + query, 1))
    y = amplitude * np.sin(x - phase)
    return Episode(x[:, :shot], y[:, :shot], x[:, shot:], y[:, shot:], 0)


def check_meta_gradient(learner: Any, params: Any, episode: Episode, tolerance: float = 1e-7) -> None:
    """Through each layer's weights, and each layer's rates: the derivative along a random direction is the loss's own.

    Central differences, extrapolated to a step of 0 (Richardson): they err with the fourth power of the step, and by
    how much is seen from a second extrapolation. For tests whose cases Hypothesis draws.
    """
    grads = learner.meta_grad(params, episode).grads
    rng = np.random.default_rng(0)
    off, worst = {}, _norm(grads)
    for place in dict.fromkeys(path[:2] for path, _ in tree.items(grads)):
        found = _at(grads, place)
        direction = _unit(tree.map(lambda g: rng.standard_normal(g.shape), found))

        def loss_at(t: float, place: Any = place, direction: Any = direction) -> Any:
            return learner.meta_loss(_moved(params, place, direction, t), episode)[0]

        def slope(t: float, loss_at: Any = loss_at) -> Any:
            return (loss_at(t) - loss_at(-t)) / (2 * t)

        whole, half, quarter = (slope(1e-5 / n) for n in (1, 2, 4))
        coarse, fine = (4 * half - whole) / 3, (4 * quarter - half) / 3
        allowed = tolerance * max(_norm(found), 1e-2 * worst)
        assume(abs(coarse - fine) < allowed)  # where a ReLU switches within the step there is no derivative
        pairs = zip(tree.leaves(found), tree.leaves(direction), strict=True)
        expected = sum((g * d).sum() for g, d in pairs)
        if not abs(expected - fine) < allowed:
            off[place] = (expected, fine, allowed)
    assert not off, f"gradient, difference and what they may differ by: {off}"


def _norm(values: Any) -> Any:
    return np.sqrt(sum((leaf**2).sum() for leaf in tree.leaves(values)))


def _unit(values: Any) -> Any:
    length = _norm(values)
    return tree.map(lambda leaf: leaf / length, values)


def _at(values: Any, place: tuple[str, ...]) -> Any:
    return _at(values[place[0]], place[1:]) if place else values


def _moved(params: Any, place: tuple[str, ...], direction: Any, distance: float) -> Any:
    if not place:
        return tree.map(lambda w, d: w + distance * d, params, direction)
    return {**params, place[0]: _moved(params[place[0]], place[1:], direction, distance)}
