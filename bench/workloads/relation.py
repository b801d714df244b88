"""The meta-gradient of a relation network on one 1-shot task; PyTorch joins the maps of every pair, as its users do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from workloads import images, layout
from workloads.candidate import Candidate

from minimeta import tree
from minimeta.backend import to_device
from minimeta.learners.base import trainable
from minimeta.learners.metric_based.relation import Relation

_FILTER = 2 * 9 * 64  # flop of one filter at one place of one map


@dataclass(frozen=True)
class RelationGradient:
    """Loss and gradient of a `way`-way task with `queries` queries per class, by batch statistics."""

    way: int
    queries: int
    dtype: Any = np.float32
    bytes = 0.0

    @property
    def flop(self) -> float:
        """Of the fewest products: the relation network's first convolution once for each image, not for each pair."""
        n_images, n_pairs = self.way * (1 + self.queries), self.way**2 * self.queries
        embedding = _FILTER * (26**2 + 64 * (11**2 + 5**2 + 5**2))
        return 3.0 * (n_images * (embedding + _FILTER * 64 * 5**2) + n_pairs * _FILTER * 64 * 2**2)

    def minimeta(self, device: str = "numpy") -> Candidate:
        learner, params = Relation(), to_device(self._init(), device)
        episode = to_device(images.episode(1, self.way, self.queries, self.dtype), device)

        def gradient() -> Any:
            loss, _, grads = learner.meta_grad(params, episode)
            return [loss, *tree.leaves(grads)]

        return Candidate(gradient)

    def torch(self) -> dict[str, Candidate]:
        return {name: self._torch_gradient(name == "channels last") for name in ("eager", "channels last")}

    def _torch_gradient(self, channels_last: bool) -> Candidate:
        import torch

        episode = images.episode(1, self.way, self.queries, self.dtype)
        xs, xq = (layout.images(x[0]) for x in (episode.xs, episode.xq))
        if channels_last:
            xs, xq = (x.to(memory_format=torch.channels_last) for x in (xs, xq))
        targets = layout.tensor(np.eye(self.way, dtype=self.dtype)[episode.yq[0]])
        params = layout.to_torch(trainable(self._init()), channels_last)
        net, relation = params[:12], params[12:]

        def gradient() -> list[Any]:
            support, queries = _torch_maps(net, xs), _torch_maps(net, xq)
            loss = ((_torch_relations(relation, support, queries) - targets) ** 2).mean()
            return [loss, *torch.autograd.grad(loss, params)]

        return Candidate(gradient, layout.from_torch)

    def _init(self) -> Any:
        return tree.map(lambda w: w.astype(self.dtype), Relation().init(np.random.default_rng(1)))


def _torch_block(params: list[Any], x: Any, padding: int, pool: bool) -> Any:
    from torch.nn import functional

    w, gamma, beta = params
    x = functional.batch_norm(functional.conv2d(x, w, padding=padding), None, None, gamma, beta, training=True)
    return functional.max_pool2d(functional.relu(x), 2) if pool else functional.relu(x)


def _torch_maps(net: list[Any], x: Any) -> Any:
    for i in range(4):
        x = _torch_block(net[3 * i : 3 * i + 3], x, padding=int(i > 1), pool=i < 2)
    return x


def _torch_relations(relation: list[Any], support: Any, queries: Any) -> Any:
    import torch
    from torch.nn import functional

    shape = (len(queries), len(support), *support.shape[1:])
    pairs = torch.cat([support[None].expand(shape), queries[:, None].expand(shape)], dim=2).flatten(0, 1)
    for i in range(2):
        pairs = _torch_block(relation[3 * i : 3 * i + 3], pairs, padding=1, pool=True)
    w1, b1, w2, b2 = relation[6:]
    hidden = functional.relu(functional.linear(pairs.flatten(1), w1, b1))
    return torch.sigmoid(functional.linear(hidden, w2, b2)).reshape(shape[:2])
