"""What the machine can do at all, in a number of threads: the fastest matrix product at hand, and a copy."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import timing
from threadpoolctl import threadpool_limits


class Limits(NamedTuple):
    """FLOP and bytes (read and written) per second."""

    flop: float
    bytes: float


def measure(threads: int, peers: list[str]) -> Limits:
    n = 2048
    a, b = (np.random.default_rng(0).random((n, n), np.float32) for _ in range(2))
    with threadpool_limits(threads, user_api="blas"):
        seconds = fastest(lambda: a @ b)
    if "torch" in peers:
        seconds = min(seconds, *map(fastest, _torch_products(a, b)))
    return Limits(2 * n**3 / seconds, _copy_rate(threads))


def _torch_products(a: np.ndarray, b: np.ndarray) -> list[Callable[[], Any]]:
    """MKL's product, and oneDNN's: it makes one of a 1x1 convolution."""
    import torch

    x, y = torch.from_numpy(a), torch.from_numpy(b)
    image, filters = x.T.reshape(1, len(x), 32, -1), y.T.reshape(*y.shape, 1, 1)
    image, filters = (t.contiguous(memory_format=torch.channels_last) for t in (image, filters))
    return [lambda: x @ y, lambda: torch.nn.functional.conv2d(image, filters)]


def _copy_rate(threads: int) -> float:
    source = np.ones((threads, 2**25), np.float32)
    target = np.zeros_like(source)
    with ThreadPoolExecutor(threads) as pool:
        seconds = fastest(lambda: list(pool.map(np.copyto, target, source)))
    return 2 * source.nbytes / seconds


def fastest(run: Callable[[], Any], clock: timing.Clock = timing.seconds, runs: int = 7) -> float:
    """The least of a few times: a limit is what the machine does undisturbed."""
    return min(clock(run, 1) for _ in range(runs))
