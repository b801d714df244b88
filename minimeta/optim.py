"""Optimizers as (init, update) pairs, learning-rate schedules and gradient clipping.

An optimizer works on trees and is pure, so one and the same code trains a learner from outside, on plain arrays, and
adapts it inside, on Tensors whose updates are differentiated through.

    optimizer = adam(cosine(1e-3))
    state = optimizer.init(params)
    params, state = optimizer.update(grads, state, params, progress=0.1)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from minimeta import ops, tree
from minimeta.autodiff import stop_gradient

#: From progress (share of the training that lies behind, 0..1) to the learning rate.
Schedule = Callable[[float], float]

#: A learning rate: a number, a scalar Tensor (to be learned), or a schedule.
Rate = Any


#: What a step takes beside arrays, other numbers each time: the rate comes first.
Numbers = tuple[Any, ...]


class Move(Protocol):
    """The work of a step, on arrays: `(params, state)` after it."""

    def __call__(self, grads: Any, state: Any, params: Any, *numbers: Any) -> tuple[Any, Any]: ...


class Optimizer(NamedTuple):
    """`init(params) -> state` and `update(grads, state, params, progress=0.0) -> (params, state)`, both pure.

    An update is two parts, as a CUDA graph can hold only the second: `advance(state, progress)` counts the step, and
    gives its numbers and the state; `move(grads, state, params, *numbers)` moves the parameters.
    """

    init: Callable[[Any], Any]
    advance: Callable[[Any, float], tuple[Numbers, Any]]
    move: Move

    def update(self, grads: Any, state: Any, params: Any, progress: float = 0.0) -> tuple[Any, Any]:
        """One step: `(params, state)` after it. `progress` (0..1) is what schedules go by."""
        numbers, state = self.advance(state, progress)
        return self.move(grads, state, params, *numbers)


def sgd(lr: Rate) -> Optimizer:
    """Gradient descent: w - lr g.

    >>> optimizer = sgd(0.1)
    >>> optimizer.update({"w": 10.0}, optimizer.init({"w": 1.0}), {"w": 1.0})
    ({'w': 0.0}, {})
    """

    def move(grads: Any, state: Any, params: Any, rate: Any) -> tuple[Any, Any]:
        return tree.map(lambda w, g: w - rate * g, params, grads), state

    return Optimizer(lambda params: {}, _at_rate(lr), move)


def momentum(lr: Rate, beta: float = 0.9, nesterov: bool = False) -> Optimizer:
    """Heavy-ball gradient descent: v = beta v + g, then w - lr v, or w - lr (g + beta v) with `nesterov`.

    Raises ValueError for beta outside 0..1. Papers: Polyak 1964; Sutskever et al. 2013.

    >>> optimizer = momentum(0.5)
    >>> params, state = optimizer.update(1.0, optimizer.init(2.0), 2.0)
    >>> optimizer.update(1.0, state, params)
    (0.55, {'velocity': 1.9})
    """
    _check_decay("momentum", beta=beta)

    def move(grads: Any, state: Any, params: Any, rate: Any) -> tuple[Any, Any]:
        velocity = tree.map(lambda v, g: beta * v + g, state["velocity"], grads)
        ahead = tree.map(lambda g, v: g + beta * v, grads, velocity) if nesterov else velocity
        return tree.map(lambda w, v: w - rate * v, params, ahead), {"velocity": velocity}

    return Optimizer(lambda params: {"velocity": _zeros(params)}, _at_rate(lr), move)


def adam(lr: Rate, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8) -> Optimizer:
    """Adam: the step is lr m / (sqrt(s) + eps), with bias-corrected means m of g and s of g².

    Raises ValueError for a beta outside 0..1. Paper: Kingma & Ba 2015, algorithm 1.

    >>> optimizer = adam(0.1)
    >>> params, state = optimizer.update(5.0, optimizer.init(1.0), 1.0)
    >>> round(float(params), 6), state["step"]
    (0.9, 1)
    """
    _check_decay("adam", beta1=beta1, beta2=beta2)

    def init(params: Any) -> Any:
        return {"step": 0, "mean": _zeros(params), "square": _zeros(params)}

    def advance(state: Any, progress: float) -> tuple[Numbers, Any]:
        step = int(state["step"]) + 1
        # both corrections as Python numbers, which leave float32 arrays float32
        rate = _rate(lr, progress) * (1 / (1 - beta1**step))
        return (rate, 1 / math.sqrt(1 - beta2**step)), {**state, "step": step}

    def move(grads: Any, state: Any, params: Any, rate: Any, scale: Any) -> tuple[Any, Any]:
        mean = tree.map(lambda m, g: beta1 * m + (1 - beta1) * g, state["mean"], grads)
        square = tree.map(lambda s, g: beta2 * s + (1 - beta2) * (g * g), state["square"], grads)
        params = tree.map(lambda w, m, s: w - rate * m / (scale * ops.sqrt(s) + eps), params, mean, square)
        return params, {"step": state["step"], "mean": mean, "square": square}

    return Optimizer(init, advance, move)


def rmsprop(lr: Rate, decay: float = 0.99, eps: float = 1e-8) -> Optimizer:
    """RMSProp: s = decay s + (1 - decay) g², then w - lr g / (sqrt(s) + eps).

    Raises ValueError for decay outside 0..1. Source: Tieleman & Hinton 2012, lecture 6.5.

    >>> optimizer = rmsprop(0.1, decay=0.75)
    >>> params, state = optimizer.update(2.0, optimizer.init(1.0), 1.0)
    >>> round(float(params), 6), float(state["square"])
    (0.8, 1.0)
    """
    _check_decay("rmsprop", decay=decay)

    def move(grads: Any, state: Any, params: Any, rate: Any) -> tuple[Any, Any]:
        square = tree.map(lambda s, g: decay * s + (1 - decay) * (g * g), state["square"], grads)
        params = tree.map(lambda w, g, s: w - rate * g / (ops.sqrt(s) + eps), params, grads, square)
        return params, {"square": square}

    return Optimizer(lambda params: {"square": _zeros(params)}, _at_rate(lr), move)


def constant(lr: float) -> Schedule:
    """The same rate throughout.

    >>> constant(0.1)(0.7)
    0.1
    """
    return lambda progress: lr


def step_decay(lr: float, drops: int = 4, factor: float = 0.5) -> Schedule:
    """`drops` drops by `factor`, which cut the training into `drops` + 1 equal parts.

    Snell et al. 2017 halve the rate every 2000 episodes.

    >>> halving = step_decay(1.0, drops=3)
    >>> [halving(progress) for progress in (0.0, 0.3, 0.6, 0.9, 1.0)]
    [1.0, 0.5, 0.25, 0.125, 0.125]
    """
    return lambda progress: lr * factor ** min(int(progress * (drops + 1)), drops)


def cosine(lr: float) -> Schedule:
    """From `lr` down to 0 along half a cosine (Loshchilov & Hutter 2017).

    >>> falling = cosine(1.0)
    >>> [round(falling(progress), 2) for progress in (0.0, 0.5, 1.0)]
    [1.0, 0.5, 0.0]
    """
    return lambda progress: lr * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def linear(lr: float) -> Schedule:
    """From `lr` down to 0 along a straight line (Nichol et al. 2018).

    >>> falling = linear(1.0)
    >>> [falling(progress) for progress in (0.0, 0.25, 1.0)]
    [1.0, 0.75, 0.0]
    """
    return lambda progress: lr * (1 - min(progress, 1.0))


#: What a run's settings can name.
OPTIMIZERS: dict[str, Callable[[Rate], Optimizer]] = {
    "sgd": sgd,
    "momentum": momentum,
    "adam": adam,
    "rmsprop": rmsprop,
}
SCHEDULES: dict[str, Callable[[float], Schedule]] = {
    "constant": constant,
    "step": step_decay,
    "cosine": cosine,
    "linear": linear,
}


def global_norm(grads: Any) -> Any:
    """The Euclidean norm of a whole tree.

    >>> float(global_norm({"w": 3.0, "b": 4.0}))
    5.0
    """
    squares = [ops.sum(g * g) for g in tree.leaves(grads)]
    return ops.sqrt(sum(squares[1:], squares[0])) if squares else 0.0


def clip_global_norm(grads: Any, max_norm: float) -> Any:
    """The tree scaled down so that its global norm is at most `max_norm`; a shorter one comes back as it is.

    Raises ValueError unless max_norm > 0. Paper: Pascanu et al. 2013.

    >>> import numpy as np
    >>> clip_global_norm({"w": np.array([3.0, 4.0])}, max_norm=1.0)
    {'w': array([0.6, 0.8])}
    """
    _check_positive("clip_global_norm", max_norm=max_norm)
    # never a division by zero, and exactly 1 below the limit
    scale = max_norm / ops.maximum(global_norm(grads), max_norm)
    return tree.map(lambda g: g * scale, grads)


def clip_elementwise(grads: Any, limit: float) -> Any:
    """Every element cut to -limit..limit. Raises ValueError unless limit > 0.

    >>> import numpy as np
    >>> clip_elementwise({"w": np.array([-3.0, 0.5])}, limit=1.0)
    {'w': array([-1. ,  0.5])}
    """
    _check_positive("clip_elementwise", limit=limit)
    return tree.map(lambda g: ops.clip(g, -limit, limit), grads)


def _rate(lr: Rate, progress: float) -> Any:
    return lr(progress) if callable(lr) else lr


def _at_rate(lr: Rate) -> Callable[[Any, float], tuple[Numbers, Any]]:
    """How a step is counted whose only number is the rate: not at all."""
    return lambda state, progress: ((_rate(lr, progress),), state)


def _zeros(params: Any) -> Any:
    """Zeros on the device and in the dtype of `params`, cut off from any graph."""
    return tree.map(lambda w: w * 0.0, stop_gradient(params))


def _check_decay(name: str, **values: float) -> None:
    for label, value in values.items():
        if not 0 <= value < 1:
            raise ValueError(f"optim.{name}: {label}={value}; need 0 <= {label} < 1")


def _check_positive(name: str, **values: float) -> None:
    for label, value in values.items():
        if not value > 0:
            raise ValueError(f"optim.{name}: {label}={value}; need {label} > 0")
