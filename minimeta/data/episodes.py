"""Drawing N-way K-shot episodes from labelled images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from minimeta.data.errors import DataError

ROTATIONS = ("none", "fixed_classes", "per_class_random", "per_episode")


class Episode(NamedTuple):
    """A batch of T tasks; every array has a leading task axis.

    Classification: `xs` [T, S, *feat] float32 and `ys` [T, S] int64 are the support set, `xq` [T, Q, *feat] and
    `yq` [T, Q] the query set, labels run over 0..n_way-1. Regression: `ys` [T, S, 1] and `yq` [T, Q, 1] are float32
    and `n_way` is 0.

    >>> episode = Episode(np.zeros((1, 2, 3)), np.zeros((1, 2), int), np.zeros((1, 4, 3)), np.zeros((1, 4), int), 2)
    >>> episode.xq.shape, episode.n_way
    ((1, 4, 3), 2)
    """

    xs: np.ndarray
    ys: np.ndarray
    xq: np.ndarray
    yq: np.ndarray
    n_way: int

    def tasks(self, which: slice) -> Episode:
        """Some of the tasks, as an episode of their own."""
        return Episode(self.xs[which], self.ys[which], self.xq[which], self.yq[which], self.n_way)


@dataclass(frozen=True, eq=False)
class ImageClasses:
    """Images grouped by class: `images` [classes, drawings, H, W, C], uint8 0..255 or float32 0..1.

    Drawings have ink = 1. `names` has one entry per class, and so has `groups` (the alphabet of a character) where
    classes are grouped.
    Where classes differ in size, `counts` says how many images each has: the first ones, what follows is padding.
    Raises DataError where shapes, dtype or counts disagree.

    >>> blank = ImageClasses("blank", "all", np.zeros((3, 5, 8, 8, 1), np.uint8), ("a", "b", "c"), counts=(5, 2, 4))
    >>> len(blank), blank.drawings
    (3, 5)
    """

    name: str
    split: str
    images: np.ndarray
    names: tuple[str, ...]
    groups: tuple[str, ...] | None = None
    counts: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.images.ndim != 5:
            raise DataError(f"{self.name}: images need shape [classes, drawings, H, W, C], got {self.images.shape}")
        if self.images.dtype not in (np.uint8, np.float32):
            raise DataError(f"{self.name}: images need dtype uint8 or float32, got {self.images.dtype}")
        for label, entries in (("names", self.names), ("groups", self.groups), ("counts", self.counts)):
            if entries is not None and len(entries) != len(self.images):
                raise DataError(f"{self.name}: {len(entries)} {label} for {len(self.images)} classes")
        for name, count in zip(self.names, self.counts or (), strict=False):
            if not 0 <= count <= self.drawings:
                raise DataError(f"{self.name}: class {name!r} cannot have {count} of {self.drawings} images")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def drawings(self) -> int:
        """Images per class, in the largest."""
        return int(self.images.shape[1])


class EpisodeSampler:
    """Few-shot episodes of `dataset`; episode number i is a pure function of (seed, i).

    Classes are distinct within an episode and in random order, so label ids are drawn anew each time; support and
    query drawings of a class are disjoint. Both sets are class-major ([T, N, K, ...] flattened to [T, N*K, ...]);
    `shuffle_support` puts the support set, not the query set, in random order, for learners that read it in sequence.
    With `labels`, which is then n_way, classes are called by different numbers below it, drawn anew each time. `query`
    may be 0.

    `rotations` turns images by multiples of 90 degrees, the same for support and query of a class:
    "none"; "fixed_classes", each class and its three rotations are four classes (Prototypical Networks, Reptile);
    "per_class_random", one random rotation per class and episode (MAML); "per_episode", one for all (Relation Network).

    Raises DataError at construction where the data cannot supply such episodes. Paper: Vinyals et al. 2016.

    >>> digits = ImageClasses("digits", "all", np.zeros((10, 4, 28, 28, 1), np.uint8), tuple("0123456789"))
    >>> episode = EpisodeSampler(digits, way=5, shot=1, query=3).batch(first=0, tasks=2)
    >>> episode.xs.shape, episode.xq.shape, episode.n_way
    ((2, 5, 28, 28, 1), (2, 15, 28, 28, 1), 5)
    >>> episode.ys[0].tolist()
    [0, 1, 2, 3, 4]
    """

    def __init__(
        self,
        dataset: ImageClasses,
        way: int,
        shot: int,
        query: int,
        *,
        rotations: str = "none",
        shuffle_support: bool = False,
        labels: int | None = None,
        seed: int = 0,
    ) -> None:
        classes = classes_with(dataset, rotations, ROTATIONS)
        for label, value, least in (("way", way, 2), ("shot", shot, 1), ("query", query, 0)):
            if value < least:
                raise DataError(f"{label} must be at least {least}, got {value}")
        if labels is not None and labels < way:
            raise DataError(f"{way}-way needs {way} different labels, got labels={labels}")
        if way > classes:
            raise DataError(f"{way}-way needs {way} classes, split '{dataset.split}' has {classes}")
        counts = np.array(dataset.counts or (dataset.drawings,) * len(dataset))
        fewest = counts.argmin()
        if shot + query > counts[fewest]:
            raise DataError(
                f"{shot}-shot with {query} queries needs {shot + query} drawings per class, "
                f"split '{dataset.split}' has {counts[fewest]} of class {dataset.names[fewest]!r}"
            )
        self.dataset = dataset
        self.way = way
        self.shot = shot
        self.query = query
        self.rotations = rotations
        self.shuffle_support = shuffle_support
        self.labels = labels
        self.seed = seed
        self.classes = classes
        self.counts = counts

    def batch(self, first: int, tasks: int) -> Episode:
        """Episodes number first .. first+tasks-1, the same in any chunking; DataError for first < 0 or tasks < 1."""
        picks = [self._pick(rng) for rng in task_generators(self.seed, first, tasks)]
        characters, rotation, drawings, order, labels = (np.stack(column) for column in zip(*picks, strict=True))
        images = turned(self.dataset.images[characters[:, :, None], drawings], rotation)
        feat = images.shape[3:]
        xs = images[:, :, : self.shot].reshape(tasks, -1, *feat)
        ys = labels.repeat(self.shot, axis=1)
        if self.shuffle_support:
            rows = np.arange(tasks)[:, None]
            xs, ys = xs[rows, order], ys[rows, order]
        xq = images[:, :, self.shot :].reshape(tasks, -1, *feat)
        yq = labels.repeat(self.query, axis=1)
        return Episode(xs, ys, xq, yq, self.labels or self.way)

    def _pick(self, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        """Of one episode: characters [N], quarter turns [N], drawings [N, K+Q], support order [N*K], labels [N]."""
        characters = rng.choice(self.classes, self.way, replace=False)
        turns = np.zeros(self.way, np.int64)
        if self.rotations == "fixed_classes":
            characters, turns = np.divmod(characters, 4)
        elif self.rotations == "per_class_random":
            turns = rng.integers(4, size=self.way)
        elif self.rotations == "per_episode":
            turns[:] = rng.integers(4)
        lots = rng.random((self.way, self.dataset.drawings))
        lots[np.arange(self.dataset.drawings) >= self.counts[characters, None]] = 1  # padding comes last
        drawings = lots.argsort(axis=1)[:, : self.shot + self.query]
        order = rng.permutation(self.way * self.shot)
        labels = np.arange(self.way) if self.labels is None else rng.choice(self.labels, self.way, replace=False)
        return characters, turns, drawings, order, labels


def task_generators(seed: int, first: int, tasks: int) -> list[np.random.Generator]:
    """One independent generator per task number first .. first+tasks-1.

    >>> [a, b] = task_generators(seed=0, first=6, tasks=2)
    >>> [c] = task_generators(seed=0, first=7, tasks=1)
    >>> b.random() == c.random()
    True
    """
    if first < 0 or tasks < 1:
        raise DataError(f"a batch needs first >= 0 and tasks >= 1, got first={first}, tasks={tasks}")
    return [np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(i,))) for i in range(first, first + tasks)]


def classes_with(dataset: ImageClasses, rotations: str, known: tuple[str, ...]) -> int:
    """The number of classes that `rotations`, one of `known`, makes of a data set; DataError where it cannot."""
    if rotations not in known:
        raise DataError(f"unknown rotations {rotations!r}: choose from {', '.join(known)}")
    height, width = dataset.images.shape[2:4]
    if rotations != "none" and height != width:
        raise DataError(f"rotations need square images, split '{dataset.split}' has {height}x{width} pixels")
    return len(dataset) * (4 if rotations == "fixed_classes" else 1)


def turned(images: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """float32 0..1 of images[t, n] [..., H, W, C], turned by turns[t, n] quarters; `images` is written to."""
    for quarters in (1, 2, 3):
        chosen = turns == quarters
        if chosen.any():
            images[chosen] = np.rot90(images[chosen], quarters, axes=(-3, -2))
    return images * np.float32(1 / 255) if images.dtype == np.uint8 else images
