"""Cosine attention, softmax(cos(x, y)) v: queries x [B, Q, D], keys y [B, S, D], values v [B, S, C] -> [B, Q, C]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from workloads import layout
from workloads.candidate import Candidate

from minimeta import grad, hvp, ops
from minimeta.backend import to_device


@dataclass(frozen=True)
class CosineAttention:
    """`order` 0 is the forward pass; 1 the gradient of a weighted sum of the result; 2 its Hessian times a vector.

    `shape` is (B, Q, S, D, C).
    """

    order: int
    shape: tuple[int, int, int, int, int] = (32, 300, 60, 64, 60)

    @property
    def flop(self) -> float:
        B, Q, S, D, C = self.shape
        forward = B * Q * S * (2 * D + 2 * C + 8) + 2 * B * (Q + S) * D
        gradient = B * Q * S * (8 * D + 4 * C)
        second = B * Q * S * (18 * D + 10 * C)
        return float(sum((forward, gradient, second)[: self.order + 1]))

    @property
    def bytes(self) -> float:
        B, Q, S, D, C = self.shape
        inputs, output = 4 * B * (Q * D + S * D + S * C), 4 * B * Q * C
        return float((inputs + output, 2 * inputs + output, 3 * inputs + output)[self.order])

    def minimeta(self, device: str = "numpy") -> Candidate:
        inputs, vectors, weights = to_device(self._arrays(), device)

        def weighted(inputs: Any) -> Any:
            return (ops.cosine_attention(*inputs) * weights).sum()

        gradient = grad(weighted)
        if self.order == 0:
            return Candidate(lambda: ops.cosine_attention(*inputs))
        return Candidate(lambda: gradient(inputs) if self.order == 1 else hvp(weighted, inputs, vectors))

    def torch(self) -> dict[str, Candidate]:
        import torch

        arrays, others, scale = self._arrays()
        inputs = [layout.tensor(a).requires_grad_(self.order > 0) for a in arrays]
        vectors, weights = [layout.tensor(a) for a in others], layout.tensor(scale)

        def gradient(create_graph: bool) -> Any:
            return torch.autograd.grad((torch_attention(*inputs) * weights).sum(), inputs, create_graph=create_graph)

        def hessian_vector() -> Any:
            return torch.autograd.grad(gradient(create_graph=True), inputs, vectors)

        run = (lambda: [torch_attention(*inputs)], lambda: gradient(create_graph=False), hessian_vector)[self.order]
        return {"eager": Candidate(run, layout.arrays)}

    def _arrays(self) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...], np.ndarray]:
        """x, y and v; a vector for each; the weights of the result."""
        rng = np.random.default_rng(0)
        B, Q, S, D, C = self.shape
        shapes = ((B, Q, D), (B, S, D), (B, S, C))
        inputs, vectors = (tuple(rng.standard_normal(shape, np.float32) for shape in shapes) for _ in range(2))
        return inputs, vectors, rng.standard_normal((B, Q, C), np.float32)


def torch_attention(x: Any, y: Any, v: Any) -> Any:
    import torch
    from torch.nn import functional

    scores = torch.bmm(functional.normalize(x, dim=-1), functional.normalize(y, dim=-1).transpose(1, 2))
    return torch.bmm(scores.softmax(-1), v)
