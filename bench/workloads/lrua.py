"""A sequence of reads and writes by least recently used access (Santoro et al. 2016), with MANN's sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from workloads import layout, mann
from workloads.candidate import Candidate
from workloads.mann import DECAY, EPS, HEADS, ROWS, WIDTH

from minimeta import grad, ops
from minimeta.backend import to_device


@dataclass(frozen=True)
class Lrua:
    """`order` 0 is the forward pass, 1 the gradient of a weighted sum of the reads by all but the usage."""

    order: int
    steps: int = 50
    batch: int = 16
    dtype: Any = np.float32
    bytes = 0.0

    @property
    def flop(self) -> float:
        a_step = ROWS * WIDTH * (6 * HEADS + 2 + self.order * (14 * HEADS + 8))
        return float(self.steps * self.batch * a_step)

    def minimeta(self, device: str = "numpy") -> Candidate:
        inputs, usage, scale = to_device(self._arrays(), device)

        def reads(inputs: Any) -> Any:
            memory, weights, keys, adds, gates = inputs
            state = ops.LruaState(memory, weights, usage)
            return ops.lrua(state, keys, adds, gates, decay=DECAY, eps=EPS)[0]

        gradient = grad(lambda inputs: (reads(inputs) * scale).sum())
        return Candidate(lambda: reads(inputs) if self.order == 0 else gradient(inputs))

    def torch(self) -> dict[str, Candidate]:
        import torch

        arrays, usage, scale = self._arrays()
        inputs = [layout.tensor(a).requires_grad_(self.order > 0) for a in arrays]
        usage, scale = layout.tensor(usage), layout.tensor(scale)

        def reads() -> Any:
            memory, weights, *given = inputs
            found, used = [], usage
            for keys, adds, gates in zip(*(a.unbind(1) for a in given), strict=True):
                read, memory, weights, used = mann.torch_step(memory, weights, used, keys, adds, gates)
                found.append(read)
            return torch.stack(found, dim=1)

        def gradient() -> Any:
            return torch.autograd.grad((reads() * scale).sum(), inputs)

        return {"eager": Candidate((lambda: [reads()]) if self.order == 0 else gradient, layout.arrays)}

    def _arrays(self) -> tuple[Any, np.ndarray, np.ndarray]:
        """Memory, read weights, keys, adds and gates; usage; the weights of the reads."""
        rng = np.random.default_rng(0)
        each = (self.batch, self.steps, HEADS)
        keys, adds, scale = rng.standard_normal((3, *each, WIDTH))
        memory, weights = rng.standard_normal((self.batch, ROWS, WIDTH)), rng.dirichlet(np.ones(ROWS), each[::2])
        usage = rng.permuted(np.broadcast_to(np.arange(float(ROWS)), (self.batch, ROWS)), axis=1)
        inputs = tuple(a.astype(self.dtype) for a in (memory, weights, keys, adds, rng.random(each)))
        return inputs, usage.astype(self.dtype), scale.astype(self.dtype)
