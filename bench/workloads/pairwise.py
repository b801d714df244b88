"""Distances of all pairs, x [B, Q, D] and y [B, S, D] -> [B, Q, S], and derivatives of half their weighted squares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from workloads import layout
from workloads.candidate import Candidate

from minimeta import grad, hvp, ops
from minimeta.backend import to_device

Distance = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Pairwise:
    """`shape` is (B, Q, S, D); `order` 0 is the forward pass, 1 a gradient, 2 a Hessian times a vector."""

    shape: tuple[int, int, int, int]
    order: int = 0

    @property
    def flop(self) -> float:
        b, q, s, d = self.shape
        return (2.0, 6.0, 14.0)[self.order] * b * q * s * d

    @property
    def bytes(self) -> float:
        b, q, s, d = self.shape
        return 4.0 * b * ((1, 2, 3)[self.order] * (q + s) * d + q * s)

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        b, q, s, d = self.shape
        rng = np.random.default_rng(0)
        return rng.standard_normal((b, q, d), np.float32), rng.standard_normal((b, s, d), np.float32)

    def _arrays(self) -> tuple[Any, Any, Any]:
        """The points, a vector for each, the distances' weights."""
        rng = np.random.default_rng(1)
        vectors = tuple(rng.standard_normal(a.shape, np.float32) for a in self.points())
        return self.points(), vectors, rng.standard_normal(self.shape[:3], np.float32)

    def _ours(self, distance: Distance, device: str) -> Candidate:
        points, vectors, weights = to_device(self._arrays(), device)

        def energy(points: Any) -> Any:
            d = distance(*points)
            return 0.5 * (weights * d * d).sum()

        gradient = grad(energy)
        if self.order == 0:
            return Candidate(lambda: distance(*points))
        return Candidate(lambda: gradient(points) if self.order == 1 else hvp(energy, points, vectors))

    def _torch(self, distance: Distance) -> Candidate:
        import torch

        arrays, others, scale = self._arrays()
        points = [layout.tensor(a).requires_grad_(self.order > 0) for a in arrays]
        vectors, weights = list(map(layout.tensor, others)), layout.tensor(scale)

        def gradient(create_graph: bool) -> Any:
            d = distance(*points)
            return torch.autograd.grad(0.5 * (weights * d * d).sum(), points, create_graph=create_graph)

        def hessian_vector() -> Any:
            return torch.autograd.grad(gradient(create_graph=True), points, vectors)

        run = (lambda: [distance(*points)], lambda: gradient(create_graph=False), hessian_vector)[self.order]
        return Candidate(run, layout.arrays)


@dataclass(frozen=True)
class L1(Pairwise):
    """Sum of absolute differences."""

    def minimeta(self, device: str = "numpy") -> Candidate:
        return self._ours(ops.l1, device)

    def torch(self) -> dict[str, Candidate]:
        """`cdist` has no second derivative; to broadcast takes memory for B * Q * S * D numbers."""
        import torch

        found = {}
        if self.order < 2:
            found["cdist"] = self._torch(lambda x, y: torch.cdist(x, y, p=1))
        if self.order > 0:
            found["broadcast"] = self._torch(lambda x, y: (x[:, :, None] - y[:, None]).abs().sum(-1))
        return found


@dataclass(frozen=True)
class SquaredEuclidean(Pairwise):
    def minimeta(self, device: str = "numpy") -> Candidate:
        return self._ours(ops.sqeuclidean, device)

    def torch(self) -> dict[str, Candidate]:
        """`cdist` has a second derivative only by products, which are faster without it."""
        import torch

        def products(x: Any, y: Any) -> Any:
            squares = x.square().sum(-1)[:, :, None] + y.square().sum(-1)[:, None, :]
            return torch.baddbmm(squares, x, y.transpose(1, 2), alpha=-2).clamp_(min=0)

        def cdist(x: Any, y: Any) -> Any:
            distances = torch.cdist(x, y)
            return distances.square_() if self.order == 0 else distances.square()  # its gradient needs the distances

        found = {"products": self._torch(products)}
        return found if self.order == 2 else {"cdist": self._torch(cdist), **found}
