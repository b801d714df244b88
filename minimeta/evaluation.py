"""How good a learner is on fresh episodes: the mean over episodes and its 95 % interval.

The interval is t s / sqrt(n), s the sample standard deviation over n episodes and t the 0.975 quantile of Student's t
with n - 1 degrees of freedom. Queries of one episode share their support set and are correlated, so episodes are
counted, never queries.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol, Self

import numpy as np

from minimeta import backend
from minimeta.data.episodes import Episode
from minimeta.data.sequences import Sequences
from minimeta.learners.base import Learner, Params, accuracy, bit_errors, points

EXAMPLES_AT_ONCE = 256  # bounds memory, and is plenty to keep a processor busy
SEQUENCES_AT_ONCE = 64  # the same for sequences, whose steps come one after another

#: Each measure of quality, and whether more of it is better.
HIGHER_IS_BETTER = {"accuracy": True, "mse": False, "bit_error": False}

#: Of a learner, its parameters, a batch of tasks where these are, the same as drawn on the host, and their name: the
#: metric's name, and its values [states, T].
Measure = Callable[[Any, Params, Any, Any, str], tuple[str, list[Any]]]


class Episodes(Protocol):
    """A source of tasks, `Episode` or `Sequences`: number first .. first+tasks-1, the same however they are chunked."""

    def batch(self, first: int, tasks: int) -> Any: ...


@dataclass(frozen=True)
class Result:
    """The mean of a metric over `episodes` and half its 95 % t-interval.

    The metric is "accuracy", for regression "mse", for sequences of bits "bit_error", wrong bits per sequence.
    `bn_mode` says by which statistics the learner's batch norm normalised, None or "none" without one: batch statistics
    tell a learner about the other queries, and its accuracy is not to be compared with one that sees each alone.

    >>> result = Result("accuracy", 0.98125, 0.002, 600, "running")
    >>> print(result)
    batch norm running: accuracy 98.12 % ± 0.20 % (95 % t-interval, 600 episodes)
    >>> result.record()
    {'accuracy': 0.98125, 'ci95': 0.002, 'episodes': 600, 'bn_mode': 'running'}
    """

    metric: str
    mean: float
    ci95: float
    episodes: int
    bn_mode: str | None = None

    @classmethod
    def of(cls, metric: str, values: np.ndarray, learner: Learner) -> Self:
        """The result of one value per episode [n], which `learner` achieved; ValueError for n < 2."""
        bn_mode = getattr(learner, "batch_norm", None)
        return cls(metric, float(values.mean()), half_interval(values), len(values), bn_mode)

    def improves_on(self, best: float | None) -> bool:
        """Whether this is strictly better than `best` (None: nothing yet)."""
        return best is None or (self.mean > best if HIGHER_IS_BETTER[self.metric] else self.mean < best)

    def record(self) -> dict[str, Any]:
        """For JSON: the mean under the metric's name, ci95, episodes, bn_mode."""
        return {self.metric: self.mean, "ci95": self.ci95, "episodes": self.episodes, "bn_mode": self.bn_mode}

    def __str__(self) -> str:
        mode = "" if self.bn_mode in (None, "none") else f"batch norm {self.bn_mode}: "
        if self.metric == "accuracy":
            value = f"accuracy {100 * self.mean:.2f} % ± {100 * self.ci95:.2f} %"
        else:
            value = f"{self.metric.replace('_', ' ')} {self.mean:.4g} ± {self.ci95:.2g}"
        return f"{mode}{value} (95 % t-interval, {self.episodes} episodes)"


def half_interval(values: np.ndarray) -> float:
    """Half the width of the 95 % t-interval of the mean of independent values [n]; ValueError for n < 2.

    >>> round(half_interval(np.array([1.0, 2.0, 3.0])), 4)
    2.4841
    """
    if len(values) < 2:
        raise ValueError(f"episodes={len(values)}; an interval needs at least 2")
    return float(t_quantile(len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))


@cache
def t_quantile(degrees: int) -> float:
    """The 0.975 quantile of Student's t with `degrees` >= 1 degrees of freedom, within 1e-8 up to a million of them.

    >>> round(t_quantile(1), 6), round(t_quantile(599), 6)
    (12.706205, 1.963932)
    """
    power = (degrees + 1) / 2
    scale = math.exp(math.lgamma(power) - math.lgamma(degrees / 2)) / math.sqrt(math.pi * degrees)
    nodes, weights = np.polynomial.legendre.leggauss(64)  # of -1..1; the density is smooth: no more digits to gain
    t, step = 1.95, 1.0
    # Newton from below, where it cannot overshoot: the distribution is concave
    while step > 1e-12:
        density = scale * (1 + (t * (1 + nodes) / 2) ** 2 / degrees) ** -power
        step = (0.475 - t / 2 * weights @ density) / (scale * (1 + t**2 / degrees) ** -power)
        t += step
    return float(t)


def evaluate(
    learner: Learner,
    params: Params,
    episodes: Episodes,
    count: int,
    *,
    batch: int | None = None,
    report: Callable[[int], None] | None = None,
) -> Result:
    """The result over episodes 0 .. count-1; arguments and errors as for `scores`, and ValueError for count < 2."""
    if count < 2:
        raise ValueError(f"evaluate: episodes={count}; an interval needs at least 2")
    return Result.of(*scores(learner, params, episodes, count, batch=batch, report=report), learner)


def scores(
    learner: Learner,
    params: Params,
    episodes: Episodes,
    count: int,
    *,
    batch: int | None = None,
    report: Callable[[int], None] | None = None,
) -> tuple[str, np.ndarray]:
    """The metric's name and its value in each of the episodes 0 .. count-1 [count] float64.

    They are computed `batch` at a time, by default as many as are quick and fit in memory: that changes speed, never
    the episodes. `report(done)` is called after each batch. Raises ValueError for batch < 1, and for predictions that
    are NaN.
    """
    metric, values = _measured(_adapted, learner, params, episodes, count, batch, report)
    return metric, values[0]


def scores_by_step(
    learner: Learner,
    params: Params,
    episodes: Episodes,
    count: int,
    *,
    batch: int | None = None,
    report: Callable[[int], None] | None = None,
) -> tuple[str, np.ndarray]:
    """As `scores`, before adaptation and after each step of it, [steps + 1, count], of a learner that has `states`."""
    return _measured(_at_each_step, learner, params, episodes, count, batch, report)


def scores_by_presentation(
    learner: Learner,
    params: Params,
    episodes: Episodes,
    count: int,
    *,
    batch: int | None = None,
    report: Callable[[int], None] | None = None,
) -> tuple[str, np.ndarray]:
    """As `scores`, by how often a class was there: [K, count], row j when it comes for the j-th time.

    Of a learner that reads an episode as a sequence and has `presented`, on episodes with K examples of each class.
    """
    return _measured(_by_presentation, learner, params, episodes, count, batch, report)


def _adapted(learner: Any, params: Params, tasks: Any, drawn: Any, name: str) -> tuple[str, list[Any]]:
    if isinstance(tasks, Sequences):
        logits, _ = learner.outputs(params, tasks.inputs)
        return "bit_error", [bit_errors(_checked(logits, name), drawn)]
    return _after(learner, params, tasks, drawn, name, [learner.adapt(params, tasks.xs, tasks.ys, tasks.n_way)])


def _at_each_step(learner: Any, params: Params, tasks: Any, drawn: Any, name: str) -> tuple[str, list[Any]]:
    return _after(learner, params, tasks, drawn, name, learner.states(params, tasks.xs, tasks.ys, tasks.n_way))


def _after(
    learner: Any, params: Params, tasks: Any, drawn: Any, name: str, states: Iterable[Any]
) -> tuple[str, list[Any]]:
    """The quality of the predictions after each of the states."""
    metric, quality = ("mse", squared_error) if tasks.n_way == 0 else ("accuracy", accuracy)
    predictions = (_checked(learner.predict(params, state, tasks.xq), name) for state in states)
    return metric, [quality(found, drawn.yq) for found in predictions]


def _by_presentation(learner: Any, params: Params, tasks: Any, drawn: Any, name: str) -> tuple[str, list[Any]]:
    labels = drawn.ys
    won = points(_checked(learner.presented(params, tasks.xs, tasks.ys, tasks.n_way), name), labels)
    by_class = np.argsort(labels, axis=1, kind="stable")  # of each class first, second, ...
    times = won.shape[1] // len(np.unique(labels[0]))
    won = np.take_along_axis(won, by_class, axis=1).reshape(len(won), -1, times)
    return "accuracy", list(won.mean(axis=1).T)


def _checked(predictions: Any, name: str) -> np.ndarray:
    """On the host. Raises ValueError for NaN, saying of which tasks."""
    found: np.ndarray = backend.asnumpy(predictions)
    if np.isnan(found).any():
        raise ValueError(f"evaluate: predictions in {name} are NaN")
    return found


def _measured(
    measure: Measure,
    learner: Learner,
    params: Params,
    episodes: Episodes,
    count: int,
    batch: int | None,
    report: Callable[[int], None] | None,
) -> tuple[str, np.ndarray]:
    """The metric, and its values [states, count]."""
    there = episodes if isinstance(episodes, OnDevice) else OnDevice(episodes, "numpy")
    if batch is None:
        batch = _at_once(there.episodes.batch(0, 1))
    if batch < 1:
        raise ValueError(f"evaluate: batch={batch}; a batch holds at least one episode")
    parts = []
    for start in range(0, count, batch):
        stop = min(start + batch, count)
        drawn = there.episodes.batch(start, stop - start)
        metric, values = measure(learner, params, there.move(drawn), drawn, f"episodes {start}..{stop - 1}")
        parts.append(np.array(values, np.float64))
        if report is not None:
            report(stop)
    return metric, np.concatenate(parts, axis=1)


def _at_once(task: Any) -> int:
    """How many tasks like this one to measure at a time."""
    if isinstance(task, Sequences):
        return SEQUENCES_AT_ONCE
    return max(1, EXAMPLES_AT_ONCE // (task.xs.shape[1] + task.xq.shape[1]))


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

    def batch(self, first: int, tasks: int) -> Any:
        """Episodes number first .. first+tasks-1; raises as `move` does."""
        return self.move(self.episodes.batch(first, tasks))

    def move(self, drawn: Any) -> Any:
        """Episodes from the host. Raises ValueError for labels that a GPU would take without looking at them."""
        if self.device == "numpy":
            return drawn
        if isinstance(drawn, Episode) and drawn.n_way:
            _check_labels(drawn)
        return backend.to_device(drawn, self.device)


def _check_labels(episode: Episode) -> None:
    for name, labels in (("ys", episode.ys), ("yq", episode.yq)):
        if labels.size and not 0 <= labels.min() <= labels.max() < episode.n_way:
            reach = f"from {labels.min()} to {labels.max()}"
            raise ValueError(f"episode: labels {name} reach {reach}; need 0 <= label < {episode.n_way}")
