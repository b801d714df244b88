"""Functions worth looking into, for `minimeta inspect`: each is small, written out in plain operations, and runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minimeta import ops, tree
from minimeta.autodiff import grad, scope, stop_gradient


class Example(NamedTuple):
    """A scalar function, its arguments (it is differentiated by the first), and what there is to see."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    about: str


def tanh(x: Any) -> Any:
    """The smallest there is: one operation, whose rule needs its result again."""
    return ops.tanh(x)


def perturbation_confusion(x: Any) -> Any:
    """x times d/dy (x + y) is x; an engine that takes the inner variable for the outer one makes the slope 2."""
    with scope("inner derivative"):
        slope = grad(lambda y: x + y)(1.0)
    return x * slope


def attention(query: Any, keys: Any, values: Any) -> Any:
    """Queries [Q, D] look into a memory of keys [N, D] and values [N, V] (Bahdanau et al. 2015, by inner products)."""
    with scope("scores"):
        scores = query @ keys.T * (1 / keys.shape[-1] ** 0.5)
    with scope("softmax"):
        weights = ops.exp(scores - ops.logsumexp(scores, axis=-1, keepdims=True))
    with scope("read"):
        return (weights @ values).sum()


def regressor(weights: Any, x: Any) -> Any:
    """A network of one hidden layer: x [B, 1] -> [B, 1]."""
    return ops.tanh(x @ weights["w1"] + weights["b1"]) @ weights["w2"] + weights["b2"]


def maml_sinusoid(
    weights: Any, support: Any, query: Any, *, inner_steps: int = 2, inner_lr: float = 0.1, order: int = 2
) -> Any:
    """The loss of MAML for one task (Finn et al. 2017): adapt to the support set, then take the query loss.

    `support` and `query` are pairs (x, y) of points on one sinusoid, each [B, 1]. With `order` 1 it is first-order
    MAML: the inner gradients count as constants.
    """
    for k in range(1, inner_steps + 1):
        with scope(f"inner step {k}"):
            gradient = grad(_squared_error)(weights, *support)
            gradient = gradient if order == 2 else stop_gradient(gradient)
            weights = tree.map(lambda w, g: w - inner_lr * g, weights, gradient)
    with scope("query loss"):
        return _squared_error(weights, *query)


def _squared_error(weights: Any, x: Any, y: Any) -> Any:
    return ops.square(regressor(weights, x) - y).mean()


def prototypical(weights: Any, support: Any, query: Any) -> Any:
    """The loss of a prototypical network (Snell et al. 2017): queries are compared with class means.

    `support` [N, K, D] and `query` [N, D] hold the N classes in the same order.
    """
    with scope("embed the support set"):
        embedded = ops.tanh(support @ weights["w"])
    with scope("prototypes"):
        prototypes = embedded.mean(axis=1)
    with scope("embed the queries"):
        queries = ops.tanh(query @ weights["w"])
    with scope("distances and loss"):
        differences = queries[:, None] - prototypes[None]
        return ops.cross_entropy(-ops.square(differences).sum(axis=-1), np.arange(len(query)))


def _examples() -> dict[str, Example]:
    rng = np.random.default_rng(0)
    x = rng.uniform(-5, 5, (5, 1))
    waves = (x[:3], np.sin(x[:3])), (x[3:], np.sin(x[3:]))
    network = {"w1": rng.normal(size=(1, 4)), "b1": np.zeros(4), "w2": rng.normal(size=(4, 1)), "b2": np.zeros(1)}
    classes = rng.normal(size=(3, 1, 4))
    drawn = (classes + 0.3 * rng.normal(size=(3, 2, 4)), classes[:, 0] + 0.3 * rng.normal(size=(3, 4)))
    embedding = {"w": rng.normal(size=(4, 2))}
    memory = tuple(rng.normal(size=shape) for shape in ((2, 4), (3, 4), (3, 2)))
    return {
        "tanh": Example(tanh, (0.5,), "one operation; with --order 2 and 3 its rule as operations of their own"),
        "perturbation-confusion": Example(perturbation_confusion, (1.0,), "a derivative within a function; slope 1"),
        "maml-sinusoid": Example(maml_sinusoid, (network, *waves), "two inner gradient steps, differentiated through"),
        "prototypical": Example(prototypical, (embedding, *drawn), "class means and distances to them"),
        "attention": Example(attention, memory, "a soft look into a memory: scores, softmax, read"),
    }


EXAMPLES = _examples()
