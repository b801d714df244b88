"""Sequences of bits to be stored and said back in some order: the tasks of Graves et al. (2014, section 4).

A sequence comes in first, marked by two channels beside the bits; then nothing comes in, and what is due is said:

    copy                the vectors, in the order they came
    repeat-copy         the vectors, as often as the second mark says, and then an end mark
    associative-recall  items of three vectors; one of them comes again, and the one that followed it is due
    priority-sort       the four fifths of the vectors with the highest priority, the highest first
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from minimeta.data.episodes import task_generators
from minimeta.data.errors import DataError

ITEM = 3  # vectors in an item of associative recall
MOST_REPEATS = 10  # of the paper's training; the mark says a number's share of it

#: Inputs [L, bits + 2], targets [L', bits + 1] that are due at the end, from random vectors [items, bits].
Task = Callable[[np.random.Generator, np.ndarray, int], tuple[np.ndarray, np.ndarray]]


class Sequences(NamedTuple):
    """A batch, padded in the end with zeros: `mask` is one where the targets count."""

    inputs: np.ndarray  # [B, L, bits + 2]: the bits, and two marks
    targets: np.ndarray  # [B, L, bits + 1]: the bits, and an end mark
    mask: np.ndarray  # [B, L]

    def tasks(self, which: slice) -> Sequences:
        """Some of them."""
        return Sequences(*(array[which] for array in self))


class SequenceSampler:
    """Sequences of `longest` items or, `varied`, of any number up to it; float32, all numbers zero or one but marks.

    `task` is one of SEQUENCE_TASKS, `bits` the size of a vector. `repeats` is for repeat-copy: how often or, `varied`,
    how often at most. Number i is a pure function of (seed, i). Raises DataError for values out of range. Paper: Graves
    et al. 2014.

    >>> sequences = SequenceSampler("copy", longest=2, bits=3).batch(first=0, tasks=1)
    >>> sequences.inputs[0].astype(int)                                 # two vectors, then the mark
    array([[1, 1, 0, 0, 0],
           [0, 1, 1, 0, 0],
           [0, 0, 0, 1, 0],
           [0, 0, 0, 0, 0],
           [0, 0, 0, 0, 0]])
    >>> sequences.targets[0, sequences.mask[0] == 1].astype(int)        # the vectors, without an end mark
    array([[1, 1, 0, 0],
           [0, 1, 1, 0]])
    """

    def __init__(
        self, task: str, longest: int, *, varied: bool = False, repeats: int = 1, bits: int = 8, seed: int = 0
    ) -> None:
        if task not in _TASKS:
            raise DataError(f"unknown task {task!r}; choose from {', '.join(SEQUENCE_TASKS)}")
        self.shortest = 2 if task == "associative-recall" else 1
        for label, value, least in (("longest", longest, self.shortest), ("repeats", repeats, 1), ("bits", bits, 1)):
            if value < least:
                raise DataError(f"{task}: {label} must be at least {least}, got {value}")
        if repeats > 1 and task != "repeat-copy":
            raise DataError(f"{task}: repeats={repeats}; only repeat-copy has any")
        self.task = task
        self.longest = longest
        self.varied = varied
        self.repeats = repeats
        self.bits = bits
        self.seed = seed

    def batch(self, first: int, tasks: int) -> Sequences:
        """Number first .. first+tasks-1, padded to the longest of them. Raises DataError for first < 0 or tasks < 1."""
        drawn = [self._draw(rng) for rng in task_generators(self.seed, first, tasks)]
        length = max(len(inputs) + len(targets) for inputs, targets in drawn)
        batch = Sequences(
            np.zeros((tasks, length, self.bits + 2), np.float32),
            np.zeros((tasks, length, self.bits + 1), np.float32),
            np.zeros((tasks, length), np.float32),
        )
        for number, (inputs, targets) in enumerate(drawn):
            due = slice(len(inputs), len(inputs) + len(targets))
            batch.inputs[number, : len(inputs)] = inputs
            batch.targets[number, due] = targets
            batch.mask[number, due] = 1
        return batch

    def _draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        items, repeats = self.longest, self.repeats
        if self.varied:
            items, repeats = int(rng.integers(self.shortest, items + 1)), int(rng.integers(1, repeats + 1))
        vectors = items * ITEM if self.task == "associative-recall" else items
        return _TASKS[self.task](rng, rng.integers(2, size=(vectors, self.bits)), repeats)


def _copy(rng: np.random.Generator, vectors: np.ndarray, repeats: int) -> tuple[np.ndarray, np.ndarray]:
    return np.vstack([_marked(vectors), _mark(vectors, first=1)]), _due(vectors)


def _repeat_copy(rng: np.random.Generator, vectors: np.ndarray, repeats: int) -> tuple[np.ndarray, np.ndarray]:
    inputs = np.vstack([_marked(vectors), _mark(vectors, first=1, second=repeats / MOST_REPEATS)])
    targets = _due(np.vstack([np.tile(vectors, (repeats, 1)), np.zeros_like(vectors[:1])]))
    targets[-1, -1] = 1
    return inputs, targets


def _associative_recall(rng: np.random.Generator, vectors: np.ndarray, repeats: int) -> tuple[np.ndarray, np.ndarray]:
    items = vectors.reshape(-1, ITEM, vectors.shape[1])
    begin, asked = _mark(vectors, first=1), _mark(vectors, second=1)
    asked_for = int(rng.integers(len(items) - 1))
    told = [part for item in items for part in (begin, _marked(item))]
    return np.vstack([*told, asked, _marked(items[asked_for]), asked]), _due(items[asked_for + 1])


def _priority_sort(rng: np.random.Generator, vectors: np.ndarray, repeats: int) -> tuple[np.ndarray, np.ndarray]:
    priorities = rng.uniform(-1, 1, len(vectors))
    inputs = _marked(vectors)
    inputs[:, -1] = priorities
    highest = np.argsort(-priorities)[: -(-4 * len(vectors) // 5)]
    return np.vstack([inputs, _mark(vectors, first=1)]), _due(vectors[highest])


def _marked(vectors: np.ndarray) -> np.ndarray:
    """Vectors as they come in, with room for both marks."""
    return np.pad(vectors.astype(np.float32), ((0, 0), (0, 2)))


def _mark(vectors: np.ndarray, first: float = 0, second: float = 0) -> np.ndarray:
    """A step with marks alone."""
    return np.array([[0.0] * vectors.shape[1] + [first, second]])


def _due(vectors: np.ndarray) -> np.ndarray:
    """Vectors as they are to be said, with room for the end mark."""
    return np.pad(vectors, ((0, 0), (0, 1)))


_TASKS: dict[str, Task] = {
    "copy": _copy,
    "repeat-copy": _repeat_copy,
    "associative-recall": _associative_recall,
    "priority-sort": _priority_sort,
}
SEQUENCE_TASKS = tuple(_TASKS)
