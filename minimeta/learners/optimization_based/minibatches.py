"""Mini-batches of a support set, one for each step of adaptation."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat

import numpy as np


def minibatches(size: int, batch: int, steps: int) -> Iterator[np.ndarray | slice]:
    """Which of `size` examples each of `steps` steps takes: `batch` of them, by index, or all as a slice.

    Every example comes once before any comes again. The first cycle is in the given order, as support sets come
    shuffled; each further one is permuted anew, by its number: the same in every call. A batch may straddle two cycles.
    Raises ValueError for a batch under 1.

    >>> [chosen.tolist() for chosen in minibatches(size=6, batch=2, steps=4)]
    [[0, 1], [2, 3], [4, 5], [4, 0]]
    >>> list(minibatches(size=5, batch=5, steps=2))
    [slice(None, None, None), slice(None, None, None)]
    """
    if batch < 1:
        raise ValueError(f"minibatches: batch={batch}; need batch >= 1")
    if batch >= size:
        return repeat(slice(None), steps)
    cycles = -(-batch * steps // size)
    permuted = [np.random.default_rng(cycle).permutation(size) for cycle in range(1, cycles)]
    order = np.concatenate([np.arange(size), *permuted])
    return (order[step * batch : (step + 1) * batch] for step in range(steps))
