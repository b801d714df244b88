"""How good a learner is on fresh episodes: the mean over episodes and its 95 % interval.

The interval is 1.96 s / sqrt(n), s the sample standard deviation over n episodes. Queries of one episode share their
support set and are correlated, so episodes are counted, never queries.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from minimeta import backend
from minimeta.data.episodes import Episode
from minimeta.learners.base import Learner, Params, accuracy

EXAMPLES_AT_ONCE = 256  # bounds memory, and is plenty to keep a processor busy

#: Each measure of quality, and whether more of it is better.
HIGHER_IS_BETTER = {"accuracy": True, "mse": False}


class Episodes(Protocol):
    """A source of tasks: episodes number first .. first+tasks-1, the same however they are chunked."""

    def batch(self, first: int, tasks: int) -> Episode: ...


@dataclass(frozen=True)
class Result:
    """The mean of a metric ("accuracy", or "mse" for regression) over `episodes` and half its 95 % interval.

    >>> result = Result("accuracy", 0.98125, 0.002, 600)
    >>> print(result)
    accuracy 98.12 % ± 0.20 % (95 % interval, 600 episodes)
    >>> result.record()
    {'accuracy': 0.98125, 'ci95': 0.002, 'episodes': 600}
    """

    metric: str
    mean: float
    ci95: float
    episodes: int

    def improves_on(self, best: float | None) -> bool:
        """Whether this is strictly better than `best` (None: nothing yet)."""
        return best is None or (self.mean > best if HIGHER_IS_BETTER[self.metric] else self.mean < best)

    def record(self) -> dict[str, Any]:
        """For JSON: the mean under the metric's name, ci95, episodes."""
        return {self.metric: self.mean, "ci95": self.ci95, "episodes": self.episodes}

    def __str__(self) -> str:
        if self.metric == "accuracy":
            value = f"accuracy {100 * self.mean:.2f} % ± {100 * self.ci95:.2f} %"
        else:
            value = f"{self.metric} {self.mean:.4g} ± {self.ci95:.2g}"
        return f"{value} (95 % interval, {self.episodes} episodes)"


def evaluate(
    learner: Learner,
    params: Params,
    episodes: Episodes,
    count: int,
    *,
    batch: int | None = None,
    report: Callable[[int], None] | None = None,
) -> Result:
    """The result over episodes 0 .. count-1, `batch` at a time (by default as many as are quick and fit in memory).

    The batch changes speed, never the episodes. `report(done)` is called after each batch. Raises ValueError for
    fewer than 2 episodes, which have no interval, for batch < 1, and for scores that are NaN.
    """
    if count < 2:
        raise ValueError(f"evaluate: episodes={count}; an interval needs at least 2")
    if batch is None:
        first = episodes.batch(0, 1)
        batch = max(1, EXAMPLES_AT_ONCE // (first.xs.shape[1] + first.xq.shape[1]))
    if batch < 1:
        raise ValueError(f"evaluate: batch={batch}; a batch holds at least one episode")
    scores = np.empty(count)
    for start in range(0, count, batch):
        stop = min(start + batch, count)
        episode = episodes.batch(start, stop - start)
        state = learner.adapt(params, episode.xs, episode.ys, episode.n_way)
        predictions = backend.asnumpy(learner.predict(params, state, episode.xq))
        if np.isnan(predictions).any():
            raise ValueError(f"evaluate: predictions in episodes {start}..{stop - 1} are NaN")
        score = squared_error if episode.n_way == 0 else accuracy
        scores[start:stop] = score(predictions, backend.asnumpy(episode.yq))
        if report is not None:
            report(stop)
    metric = "mse" if episode.n_way == 0 else "accuracy"
    return Result(metric, float(scores.mean()), float(1.96 * scores.std(ddof=1) / math.sqrt(count)), count)


def squared_error(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Per task [T]: the mean squared error of predictions and targets [T, Q, 1].

    >>> squared_error(np.array([[[1.0], [2.0]]]), np.array([[[1.0], [4.0]]]))
    array([2.])
    """
    return np.mean((predictions - targets) ** 2, axis=(1, 2))


class OnDevice:
    """The same episodes with their arrays on `device`, "numpy" or "cupy"."""

    def __init__(self, episodes: Episodes, device: str) -> None:
        backend.module(device)  # its error comes before any work
        self.episodes = episodes
        self.device = device

    def batch(self, first: int, tasks: int) -> Episode:
        """Episodes number first .. first+tasks-1."""
        episode = self.episodes.batch(first, tasks)
        xs, ys, xq, yq = backend.to_device(list(episode[:4]), self.device)
        return Episode(xs, ys, xq, yq, episode.n_way)
