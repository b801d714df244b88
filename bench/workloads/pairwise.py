"""Distances of all pairs, x [B, Q, D] and y [B, S, D] -> [B, Q, S], forward."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from workloads.candidate import Candidate

from minimeta import ops


@dataclass(frozen=True)
class Pairwise:
    """`shape` is (B, Q, S, D)."""

    shape: tuple[int, int, int, int]

    @property
    def flop(self) -> float:
        b, q, s, d = self.shape
        return 2.0 * b * q * s * d

    @property
    def bytes(self) -> float:
        b, q, s, d = self.shape
        return 4.0 * b * ((q + s) * d + q * s)

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        b, q, s, d = self.shape
        rng = np.random.default_rng(0)
        return rng.standard_normal((b, q, d), np.float32), rng.standard_normal((b, s, d), np.float32)


@dataclass(frozen=True)
class L1(Pairwise):
    """Sum of absolute differences."""

    def minimeta(self) -> Candidate:
        x, y = self.points()
        return Candidate(lambda: ops.l1(x, y))

    def torch(self) -> dict[str, Candidate]:
        import torch

        x, y = map(torch.from_numpy, self.points())
        return {"cdist": Candidate(lambda: torch.cdist(x, y, p=1), lambda d: [d.numpy()])}


@dataclass(frozen=True)
class SquaredEuclidean(Pairwise):
    def minimeta(self) -> Candidate:
        x, y = self.points()
        return Candidate(lambda: ops.sqeuclidean(x, y))

    def torch(self) -> dict[str, Candidate]:
        import torch

        x, y = map(torch.from_numpy, self.points())

        def products() -> torch.Tensor:
            squares = x.square().sum(-1)[:, :, None] + y.square().sum(-1)[:, None, :]
            return torch.baddbmm(squares, x, y.transpose(1, 2), alpha=-2).clamp_(min=0)

        return {
            "cdist": Candidate(lambda: torch.cdist(x, y).square_(), lambda d: [d.numpy()]),
            "products": Candidate(products, lambda d: [d.numpy()]),
        }
