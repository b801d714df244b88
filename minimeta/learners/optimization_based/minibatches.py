"""Mini-batches of a support set, one for each step of adaptation."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from typing import Any

import numpy as np

from minimeta import backend


def minibatches(xs: Any, ys: Any, batch: int, steps: int) -> Iterator[tuple[Any, Any]]:
    """Of examples xs [T, S, *feat], ys [T, S, ...] those that each of `steps` steps takes: `batch` of them, or all.

    Every example comes once before any comes again. The first cycle is in the given order, as support sets come
    shuffled; each further one is permuted anew, by its number: the same in every call. A batch may straddle two cycles.
    Raises ValueError for a batch under 1.

    >>> xs = np.arange(6)[None]
    >>> [x.tolist() for x, _ in minibatches(xs, xs, batch=2, steps=4)]
    [[[0, 1]], [[2, 3]], [[4, 5]], [[4, 0]]]
    """
    if batch < 1:
        raise ValueError(f"minibatches: batch={batch}; need batch >= 1")
    size = xs.shape[1]
    if batch >= size:
        return repeat((xs, ys), steps)
    return ((xs[:, chosen], ys[:, chosen]) for chosen in _chosen(xs, size, batch, steps))


def _chosen(like: Any, size: int, batch: int, steps: int) -> Iterator[Any]:
    """Which of `size` examples each step takes: a slice in the first cycle, then by index, on the device of `like`."""
    for start in range(0, steps * batch, batch):
        part = slice(start, start + batch)
        yield part if part.stop <= size else backend.constant(like, _order, size, steps * batch)[part]


def _order(size: int, count: int) -> np.ndarray:
    """The first `count` examples, and more, in the order they come."""
    permuted = [np.random.default_rng(cycle).permutation(size) for cycle in range(1, -(-count // size))]
    return np.concatenate([np.arange(size), *permuted])
