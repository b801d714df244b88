"""The meta-gradient of MAML on images: 5-way 1-shot, conv4 with a linear head, everything adapted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from workloads import images, layout, meta_gradient
from workloads.candidate import Candidate

from minimeta import tree
from minimeta.backend import to_device
from minimeta.learners.base import Params
from minimeta.learners.optimization_based.maml import MAML
from minimeta.learners.optimization_based.networks import EPS

WAY, RATE = 5, 0.4


@dataclass(frozen=True)
class Maml:
    """`queries` per class; `first_order` leaves out the second derivatives."""

    inner_steps: int
    queries: int
    first_order: bool = False
    tasks: int = 32
    filters: int = 64
    dtype: Any = np.float32
    bytes = 0.0

    @property
    def inner(self) -> meta_gradient.InnerLoop:
        return meta_gradient.InnerLoop(RATE, self.inner_steps, self.first_order)

    @property
    def learner(self) -> MAML:
        return MAML(
            way=WAY, architecture="conv4", inner_lr=(RATE,), inner_steps=self.inner_steps, reduction="mean",
            order=1 if self.first_order else 2, adapt_norm=True, filters=self.filters,
        )  # fmt: skip

    @property
    def flop(self) -> float:
        passes = meta_gradient.passes(self.inner, WAY, WAY * self.queries)
        return float(self.tasks * images.forward_flop(self.filters) * passes)

    def minimeta(self, device: str = "numpy") -> Candidate:
        learner, params = self.learner, to_device(self.init(), device)
        episode = to_device(images.episode(self.tasks, WAY, self.queries, self.dtype), device)
        return Candidate(lambda: learner.meta_grad(params, episode).grads)

    def torch(self) -> dict[str, Candidate]:
        from torch.nn.functional import cross_entropy

        episode = images.episode(self.tasks, WAY, self.queries, self.dtype)
        xs, xq = layout.images(episode.xs), layout.images(episode.xq)
        data = [xs, layout.tensor(episode.ys), xq, layout.tensor(episode.yq)]
        leaves, channels_last = (layout.to_torch(self.init(), channels_last=choice) for choice in (False, True))
        return {
            "loop": meta_gradient.torch_loop(_torch_logits, cross_entropy, self.inner, leaves, data),
            "loop, channels last": meta_gradient.torch_loop(
                _torch_logits, cross_entropy, self.inner, channels_last, data
            ),
            "vmap": meta_gradient.torch_vmap(_torch_logits_for_vmap, cross_entropy, self.inner, leaves, data),
        }

    def init(self) -> Params:
        params: Params = tree.map(lambda w: w.astype(self.dtype), self.learner.init(np.random.default_rng(1)))
        return params


def _torch_logits(params: list[Any], x: Any) -> Any:
    return _torch_head(images.torch_features(params[:-2], x, EPS), *params[-2:])


def _torch_logits_for_vmap(params: list[Any], x: Any) -> Any:
    return _torch_head(images.torch_features_for_vmap(params[:-2], x, EPS), *params[-2:])


def _torch_head(features: Any, w: Any, b: Any) -> Any:
    from torch.nn import functional

    return functional.linear(features, w, b)
