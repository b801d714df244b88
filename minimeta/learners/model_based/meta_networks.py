"""Meta Networks (Munkhdalai and Yu, 2017): fast weights beside slow ones, generated from gradients of losses.

An embedding u with slow weights Q and a base learner b with slow weights W; generators d, an LSTM, and m, an MLP, look
at one coordinate of a gradient at a time, and share their weights among coordinates:

    Q*    = d(grad_Q L_emb(chunk 1), ..., grad_Q L_emb(chunk C))        for the task
    W*_i  = m(grad_W L_task(b(W, x'_i), y'_i))                          for each example of the support set
    r'_i  = u(Q, Q*, x'_i)                                              the key of the memory's entry W*_i
    W*    = sum_i softmax_i(cos(r'_i, r)) W*_i,   r = u(Q, Q*, x)       for each query x
    p(y)  = softmax(b(W, W*, x))

Layers with both have their activations added, not their weights: ReLU(W h) + ReLU(W* h). Gradients are constants: Q and
W are trained through the last three lines only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce
from itertools import pairwise
from operator import add
from typing import Any, ClassVar, NamedTuple, final

import numpy as np

from minimeta import backend, ops
from minimeta.data.episodes import Episode
from minimeta.learners.base import Learner, Params, check_least
from minimeta.learners.model_based import fast_weights
from minimeta.learners.model_based.fast_weights import normal

CONVOLUTIONS = tuple(f"conv{i}" for i in range(1, 6))
#: The layers with fast weights. The embedding's head has none: a key is made without it.
EMBEDDING, BASE = (*CONVOLUTIONS, "dense"), (*CONVOLUTIONS, "dense", "head")


class State(NamedTuple):
    """What a support set has taught."""

    embedding: Params  # Q* by layer [T, ...]
    keys: Any  # r' [T, S, F]
    memory: Params  # W* by layer [T, S, ...]
    n_way: int


@final
@dataclass(frozen=True)
class MetaNetworks(Learner):
    """The paper's networks for Omniglot: five convolutions without bias or batch norm, then a dense layer.

    The head is for `way` classes, of which a task may use fewer. The LSTM sees the support set in `chunks`. L_emb is
    the cross-entropy of a head where classes have one example, and otherwise that of pairs being of one class; only
    with `embedding_loss`, its weight in the training loss, does it train anything: the official code leaves that head
    as it was drawn. Generators have `hidden` units. Raises ValueError for values out of range.

    >>> learner = MetaNetworks(filters=4)
    >>> params = learner.init(np.random.default_rng(0))
    >>> xs, ys = np.random.default_rng(1).random((1, 5, 28, 28, 1), np.float32), np.arange(5)[None]
    >>> learner.predict(params, learner.adapt(params, xs, ys, n_way=5), xs).shape
    (1, 5, 5)
    """

    way: int = 5
    size: int = 28
    channels: int = 1
    filters: int = 64
    chunks: int = 5
    hidden: int = 20
    embedding_loss: float = 0.0

    order_sensitive: ClassVar[bool] = True
    #: Each class has weights of its own in the head, so that renaming classes changes scores.
    label_sensitive: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_least(self, way=2, size=1, channels=1, filters=1, chunks=1, hidden=1)
        if not 0 <= self.embedding_loss < math.inf:
            raise ValueError(f"MetaNetworks: embedding_loss={self.embedding_loss}; need a finite number, 0 or more")

    @property
    def exact_gradient(self) -> bool:
        return False

    def init(self, rng: np.random.Generator) -> Params:
        return {
            "embedding": {**self._net_init(rng), "pair": normal(rng, self.filters, 1)},
            "base": self._net_init(rng),
            "task": fast_weights.task_init(rng, self.hidden),
            "example": fast_weights.example_init(rng, self.hidden),
        }

    def _net_init(self, rng: np.random.Generator) -> Params:
        sizes = [self.channels, *[self.filters] * len(CONVOLUTIONS)]
        net = {name: normal(rng, 3, 3, *pair) for name, pair in zip(CONVOLUTIONS, pairwise(sizes), strict=True)}
        side = reduce(lambda side, _: -(-side // 2), CONVOLUTIONS, self.size)  # poolings round up
        dense, head = normal(rng, side**2 * self.filters, self.filters), normal(rng, self.filters, self.way)
        return {**net, "dense": dense, "head": head}

    def adapt(self, params: Params, xs: Any, ys: Any, n_way: int) -> State:
        if n_way > self.way:
            raise ValueError(f"MetaNetworks: way={self.way}; its head is not for {n_way} classes")
        tasks, shots = ys.shape
        embed = partial(_embedding_losses, xs=xs, ys=ys, n_way=n_way)
        seen = fast_weights.gradients(params["embedding"], EMBEDDING, embed, ys)
        embedding = fast_weights.of_task(params["task"], seen, self.chunks)
        images = xs.reshape(tasks * shots, 1, *xs.shape[2:])
        classify = partial(_task_losses, x=images, ys=ys, n_way=n_way)
        seen = fast_weights.gradients(params["base"], BASE, classify, ys)
        memory = fast_weights.of_example(params["example"], seen)
        return State(embedding, _key((params["embedding"], embedding), xs), memory, n_way)

    def predict(self, params: Params, state: State, xq: Any) -> Any:
        tasks, queries = xq.shape[:2]
        attention = ops.softmax(ops.cosine(_key((params["embedding"], state.embedding), xq), state.keys))
        fast = {
            name: (attention @ w.reshape(*w.shape[:2], -1)).reshape(tasks * queries, *w.shape[2:])
            for name, w in state.memory.items()
        }
        scores = _scores((params["base"], fast), xq.reshape(tasks * queries, 1, *xq.shape[2:]))
        return scores.reshape(tasks, queries, -1)[..., : state.n_way]

    def meta_loss(self, params: Params, episode: Episode) -> tuple[Any, dict[str, Any]]:
        loss, aux = super().meta_loss(params, episode)
        if self.embedding_loss:
            own = _embedding_losses(params["embedding"], episode.xs, episode.ys, episode.n_way)
            loss = loss + self.embedding_loss * own.mean()
        return loss, aux


def _task_losses(net: Params, x: Any, ys: Any, n_way: int) -> Any:
    """The cross-entropy [T, S] of each example x [TS, 1, *feat] by the slow weights."""
    return ops.cross_entropy(_scores((net,), x)[..., :n_way].reshape(*ys.shape, n_way), ys, "none")


def _embedding_losses(net: Params, xs: Any, ys: Any, n_way: int) -> Any:
    """L_emb [T, S] of each example by the slow weights; of more than one a class, by pairs: it and two others."""
    if ys.shape[1] <= n_way:
        return _task_losses(net, xs.reshape(ys.size, 1, *xs.shape[2:]), ys, n_way)
    rows = backend.namespace(ys).arange(len(ys))[:, None]
    images = ops.stack([xs, *(xs[rows, partner] for partner in _partners(ys))], axis=2)
    codes = _key((net,), images.reshape(ys.size, 3, *xs.shape[2:]))
    alike = ops.abs(codes[:, 1:] - codes[:, :1]) @ net["pair"]
    same, other = alike[:, 0], alike[:, 1]  # logits, whose targets are 1 and 0
    return ((ops.softplus(-same) + ops.softplus(other)) / 2).reshape(ys.shape)


def _partners(ys: Any) -> tuple[Any, Any]:
    """Of each example [T, S] the next one of its class, if need be itself, and the next one of another class.

    >>> _partners(np.array([[0, 1, 0]]))
    (array([[2, 1, 0]]), array([[1, 2, 1]]))
    """
    xp, size = backend.namespace(ys), ys.shape[1]
    steps = (xp.arange(size) - xp.arange(size)[:, None] - 1) % size  # from one to another, itself being the last
    same = ys[:, None] == ys[..., None]
    return xp.where(same, steps, size).argmin(axis=-1), xp.where(same, size, steps).argmin(axis=-1)


# Networks are given as the weights by layer of all that work side by side: (slow,), or (slow, fast).


def _key(nets: tuple[Params, ...], x: Any) -> Any:
    """Codes [T, B, F] of images [T, B, H, W, C]: there is no ReLU behind the dense layer."""
    return _together(nets, "dense", _features(nets, x))


def _scores(nets: tuple[Params, ...], x: Any) -> Any:
    """Class scores [T, B, way] of images [T, B, H, W, C]."""
    return _together(nets, "head", _together(nets, "dense", _features(nets, x), ops.relu))


def _features(nets: tuple[Params, ...], x: Any) -> Any:
    for name in CONVOLUTIONS:
        results = [ops.conv2d(x, net[name], padding=1) for net in nets]
        alone = len(results) == 1
        x = ops.max_pool2d(ops.relu(*results), ceil_mode=True) if alone else ops.relu_sum_max_pool2d(*results)
    return x.reshape(*x.shape[:2], -1)


def _together(nets: tuple[Params, ...], name: str, x: Any, activation: Callable[[Any], Any] | None = None) -> Any:
    """The dense layer's results by all weights, each behind its activation, added up."""
    results = [x @ net[name] for net in nets]
    return reduce(add, results if activation is None else map(activation, results))
