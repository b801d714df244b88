"""What neural networks are made of besides convolution: softmax, losses, normalisation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minimeta import backend
from minimeta.autodiff.op import op
from minimeta.autodiff.primitives import sum_to
from minimeta.ops.elementwise import exp, softplus, sqrt, square, where
from minimeta.ops.record import Draw, record
from minimeta.ops.reduce import logsumexp, mean, sum, var


@op(saves="out")
def softmax(xp: Any, x: Any, *, axis: int = -1) -> Any:
    """exp(x) divided by its sum over `axis`."""
    e = xp.exp(x - xp.max(x, axis=axis, keepdims=True))
    return e / xp.sum(e, axis=axis, keepdims=True)


@softmax.vjp(0)
def _(g: Any, y: Any, x: Any, axis: int = -1) -> Any:
    return y * (g - sum(g * y, axis=axis, keepdims=True))


@op(saves="out")
def log_softmax(xp: Any, x: Any, *, axis: int = -1) -> Any:
    """The logarithm of `softmax`, exact also where that underflows."""
    x = x - xp.max(x, axis=axis, keepdims=True)
    return x - xp.log(xp.sum(xp.exp(x), axis=axis, keepdims=True))


@log_softmax.vjp(0)
def _(g: Any, y: Any, x: Any, axis: int = -1) -> Any:
    return g - exp(y) * sum(g, axis=axis, keepdims=True)


def cross_entropy(logits: Any, labels: Any, reduction: str = "mean") -> Any:
    """-log softmax(logits)[label]: logits [..., N], integer labels [...] in [0, N).

    `reduction` is "mean" or "sum" over all labels, or "none" for one value each.
    Raises ValueError for shapes that do not fit and, on the CPU, labels outside [0, N); on a GPU, which every look at
    them would have to wait for, their loss is NaN.

    >>> float(cross_entropy(np.zeros((2, 4)), np.array([0, 3])))  # log 4
    1.386294361119890...
    """
    if labels.shape != logits.shape[:-1]:
        raise ValueError(
            f"minimeta.cross_entropy: logits.shape={logits.shape}, labels.shape={labels.shape}; "
            "need labels.shape == logits.shape[:-1]"
        )
    xp, classes = backend.namespace(labels), logits.shape[-1]
    if xp is np and labels.size and not (int(labels.min()) >= 0 and int(labels.max()) < classes):
        raise ValueError(
            f"minimeta.cross_entropy: labels reach from {labels.min()} to {labels.max()}, need [0, {classes})"
        )
    chosen = labels[..., None] == xp.arange(classes)  # a mask, as a GPU would have to wait for sums by index
    losses = logsumexp(logits, axis=-1) - sum(where(chosen, logits, 0.0), axis=-1)
    if xp is not np:
        losses = where(chosen.any(axis=-1), losses, math.nan)
    return _reduced("cross_entropy", losses, reduction)


def binary_cross_entropy_with_logits(logits: Any, targets: Any, reduction: str = "mean") -> Any:
    """-t log p - (1 - t) log(1 - p) for p = sigmoid(logits), without ever forming p; `reduction` as in `cross_entropy`.

    >>> float(binary_cross_entropy_with_logits(np.array([0.0, 100.0]), np.array([1.0, 1.0])))  # half of log 2
    0.34657359027997264
    """
    return _reduced("binary_cross_entropy_with_logits", softplus(logits) - logits * targets, reduction)


def mse(predictions: Any, targets: Any, reduction: str = "mean") -> Any:
    """The squared error; `reduction` as in `cross_entropy`.

    >>> float(mse(np.array([1.0, 2.0]), np.array([1.0, 4.0])))
    2.0
    """
    return _reduced("mse", square(predictions - targets), reduction)


def _reduced(name: str, losses: Any, reduction: str) -> Any:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"minimeta.{name}: reduction={reduction!r}; choose 'mean', 'sum' or 'none'")
    if reduction == "none":
        return losses
    return mean(losses) if reduction == "mean" else sum(losses)


@op(broadcasts=True)
def batch_norm(xp: Any, x: Any, gamma: Any, beta: Any, mean: Any, var: Any, *, eps: float = 1e-5) -> Any:
    """gamma * (x - mean) / sqrt(var + eps) + beta, with the statistics given (Ioffe and Szegedy, 2015).

    All arguments broadcast against x [..., C]. Gradients flow into the statistics too, so batch statistics are
    `batch_norm(x, gamma, beta, ops.mean(x, axes, keepdims=True), ops.var(x, axes, keepdims=True))`.
    """
    y = x - mean
    y *= gamma / xp.sqrt(var + eps)
    y += beta
    return y


@batch_norm.vjp()
def _(g: Any, y: Any, x: Any, gamma: Any, beta: Any, mean: Any, var: Any, eps: float = 1e-5) -> tuple[Any, ...]:
    rate = 1 / sqrt(var + eps)
    scale = gamma * rate
    # the two sums that all four small gradients are made of
    shape = np.broadcast_shapes(*[getattr(a, "shape", ()) for a in (gamma, beta, mean, var)])
    total = sum_to(g, shape)
    projected = sum_to(g * (x - mean), shape)
    return g * scale, projected * rate, total, -total * scale, projected * (scale * rate * rate * -0.5)


def layer_norm(x: Any, gamma: Any, beta: Any, axis: int | tuple[int, ...] = -1, eps: float = 1e-5) -> Any:
    """x with mean 0 and variance 1 over `axis`, then scaled by gamma and moved by beta (Ba et al., 2016).

    >>> layer_norm(np.array([[1.0, 3.0]]), 1.0, 0.0, eps=0.0)
    array([[-1.,  1.]])
    """
    return batch_norm(x, gamma, beta, mean(x, axis=axis, keepdims=True), var(x, axis=axis, keepdims=True), eps=eps)


def _along_last(draw: Draw) -> Any:
    shape = draw.shape(min_dims=1, min_side=1)
    return (draw.array(shape),), {"axis": draw.integer(-len(shape), len(shape) - 1)}


def _classes(draw: Draw) -> Any:
    shape = draw.shape(min_dims=1, min_side=1)
    labels = np.array([draw.integer(0, shape[-1] - 1) for _ in range(int(np.prod(shape[:-1])))], dtype=np.int64)
    return (draw.array(shape), labels.reshape(shape[:-1])), {"reduction": draw.choice(("mean", "sum", "none"))}


def _pairs(draw: Draw) -> Any:
    shape = draw.shape(min_side=1)
    return (draw.array(shape), draw.array(shape, 0, 1)), {"reduction": draw.choice(("mean", "sum", "none"))}


def _fold(losses: Any, reduction: str) -> Any:
    return losses if reduction == "none" else getattr(np, reduction)(losses)


def _cross_entropy_reference(logits: Any, labels: Any, reduction: str) -> Any:
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return _fold(-np.log((p * (np.arange(logits.shape[-1]) == labels[..., None])).sum(-1)), reduction)


def _binary_reference(z: Any, t: Any, reduction: str) -> Any:
    p = 1 / (1 + np.exp(-z))
    return _fold(-t * np.log(p) - (1 - t) * np.log(1 - p), reduction)


def _normalised(draw: Draw) -> Any:
    shape = draw.shape(min_dims=2, min_side=1)
    per_channel = [draw.array(shape[-1:], low, high) for low, high in ((-2, 2), (-2, 2), (-2, 2), (0.3, 2))]
    return (draw.array(shape), *per_channel), {}


def _layer(draw: Draw) -> Any:
    shape = draw.shape(min_dims=1, min_side=2)
    return (draw.array(shape), draw.array(shape[-1:]), draw.array(shape[-1:])), {}


def _layer_reference(x: Any, gamma: Any, beta: Any) -> Any:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * gamma + beta


record(softmax, _along_last, "scipy.special.softmax")
record(log_softmax, _along_last, "scipy.special.log_softmax")
record(cross_entropy, _classes, _cross_entropy_reference)
record(binary_cross_entropy_with_logits, _pairs, _binary_reference)
record(mse, _pairs, lambda p, t, reduction: _fold((p - t) ** 2, reduction))
record(batch_norm, _normalised, lambda x, gamma, beta, m, v: gamma * (x - m) / np.sqrt(v + 1e-5) + beta)
record(layer_norm, _layer, _layer_reference)
