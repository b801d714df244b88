"""3x3 convolutions with weights per task, [T, B, H, W, C] -> [T, B, H, W, C]: forward and both gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from workloads import layout
from workloads.candidate import Candidate

from minimeta import ops, vjp
from minimeta.backend import to_device

DIRECTIONS = ("forward", "data gradient", "weight gradient")


@dataclass(frozen=True)
class Convolution:
    """`images` per task; `direction` is one of DIRECTIONS."""

    images: int
    direction: str
    tasks: int = 32
    size: int = 14
    channels: int = 64

    @property
    def flop(self) -> float:
        return 2.0 * self.tasks * self.images * self.size**2 * 9 * self.channels**2

    @property
    def bytes(self) -> float:
        return 4.0 * self.tasks * (2 * self.images * self.size**2 * self.channels + 9 * self.channels**2)

    def minimeta(self, device: str = "numpy") -> Candidate:
        x, w, g = to_device(self._arrays(), device)
        if self.direction == "forward":
            return Candidate(lambda: ops.conv2d(x, w, padding=1))
        if self.direction == "data gradient":
            _, pullback = vjp(lambda x: ops.conv2d(x, w, padding=1), x)
        else:
            _, pullback = vjp(lambda w: ops.conv2d(x, w, padding=1), w)
        return Candidate(lambda: pullback(g)[0])

    def torch(self) -> dict[str, Candidate]:
        """One convolution per task in either layout, and one with the tasks as groups of channels."""
        import torch

        x, w, g = map(layout.tensor, self._arrays())
        x, w, g = x.permute(0, 1, 4, 2, 3), w.permute(0, 4, 3, 1, 2), g.permute(0, 1, 4, 2, 3)
        convolve = self._torch_convolution(1)
        grouped = self._torch_convolution(self.tasks)
        formats = {"loop": torch.contiguous_format, "channels last": torch.channels_last}
        candidates = {}
        for name, memory_format in formats.items():
            tasks = [tuple(a[t].contiguous(memory_format=memory_format) for a in (x, w, g)) for t in range(self.tasks)]
            candidates[name] = Candidate(lambda tasks=tasks: [convolve(*task) for task in tasks], self._from_loop)
        together = (_fold(x), w.flatten(0, 1).contiguous(), _fold(g))
        candidates["grouped"] = Candidate(lambda: grouped(*together), self._from_grouped)
        return candidates

    def _torch_convolution(self, groups: int) -> Callable[[Any, Any, Any], Any]:
        from torch.nn import functional, grad

        def run(x: Any, w: Any, g: Any) -> Any:
            if self.direction == "forward":
                return functional.conv2d(x, w, padding=1, groups=groups)
            if self.direction == "data gradient":
                return grad.conv2d_input(x.shape, w, g, padding=1, groups=groups)
            return grad.conv2d_weight(x, w.shape, g, padding=1, groups=groups)

        return run

    def _arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Input, weights and the gradient by the output."""
        rng = np.random.default_rng(0)
        shape = (self.tasks, self.images, self.size, self.size, self.channels)
        w = rng.standard_normal((self.tasks, 3, 3, self.channels, self.channels), np.float32)
        return rng.standard_normal(shape, np.float32), w, rng.standard_normal(shape, np.float32)

    def _from_loop(self, results: list[Any]) -> list[np.ndarray]:
        return [self._channels_last(np.stack(layout.arrays(results)))]

    def _from_grouped(self, result: Any) -> list[np.ndarray]:
        split = (self.tasks, self.channels)
        by_weight = self.direction == "weight gradient"
        tasks = result.unflatten(0, split) if by_weight else result.unflatten(1, split).transpose(0, 1)
        return list(map(self._channels_last, layout.arrays([tasks])))

    def _channels_last(self, result: np.ndarray) -> np.ndarray:
        return result.transpose((0, 3, 4, 2, 1) if self.direction == "weight gradient" else (0, 1, 3, 4, 2))


def _fold(x: Any) -> Any:
    """[T, B, C, H, W] -> [B, T * C, H, W]."""
    return x.transpose(0, 1).flatten(1, 2).contiguous()
