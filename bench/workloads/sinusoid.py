"""The meta-gradient of MAML on sinusoids: 25 tasks, 10-shot, a 1-40-40-1 ReLU network, second order."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from workloads import layout, meta_gradient
from workloads.candidate import Candidate

from minimeta.backend import to_device
from minimeta.data.sinusoid import SinusoidSampler
from minimeta.learners.optimization_based.maml import MAML

TASKS, SHOT, QUERIES, RATE = 25, 10, 10, 0.01
SIZES = (1, 40, 40, 1)


@dataclass(frozen=True)
class Sinusoid:
    inner_steps: int
    bytes = 0.0

    @property
    def learner(self) -> MAML:
        return MAML(way=0, architecture="regressor", batch_norm="none", inner_lr=(RATE,), inner_steps=self.inner_steps)

    @property
    def inner(self) -> meta_gradient.InnerLoop:
        return meta_gradient.InnerLoop(RATE, self.inner_steps)

    @property
    def flop(self) -> float:
        forward = 2 * sum(a * b for a, b in pairwise(SIZES))
        return TASKS * forward * meta_gradient.passes(self.inner, SHOT, QUERIES)

    def minimeta(self, device: str = "numpy") -> Candidate:
        learner, params = self.learner, to_device(self.learner.init(np.random.default_rng(1)), device)
        episode = to_device(SinusoidSampler(SHOT, QUERIES).batch(first=0, tasks=TASKS), device)
        return Candidate(lambda: learner.meta_grad(params, episode).grads)

    def torch(self) -> dict[str, Candidate]:
        from torch.nn.functional import mse_loss

        episode = SinusoidSampler(SHOT, QUERIES).batch(first=0, tasks=TASKS)
        data = list(map(layout.tensor, episode[:4]))
        params = layout.to_torch(self.learner.init(np.random.default_rng(1)))
        parts = (mse_loss, self.inner, params, data)
        return {
            "loop": meta_gradient.torch_loop(_torch_regression, *parts),
            "vmap": meta_gradient.torch_vmap(_torch_regression, *parts),
            "at once": meta_gradient.torch_at_once(_torch_regressions, *parts),
        }


def _torch_regression(params: list[Any], x: Any) -> Any:
    from torch.nn import functional

    *hidden, out = zip(params[::2], params[1::2], strict=True)
    for layer in hidden:
        x = functional.relu(functional.linear(x, *layer))
    return functional.linear(x, *out)


def _torch_regressions(params: list[Any], x: Any) -> Any:
    """Every task's network on its own inputs [T, N, 1]."""
    from torch import baddbmm, relu

    *hidden, (w_out, b_out) = zip(params[::2], params[1::2], strict=True)
    for w, b in hidden:
        x = relu(baddbmm(b[:, None], x, w.mT))
    return baddbmm(b_out[:, None], x, w_out.mT)
