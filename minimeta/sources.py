"""Where episodes come from: data sets by name or folder, and the stream of random numbers of each of their parts."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minimeta.data import (
    SEQUENCE_TASKS,
    DataError,
    EpisodeSampler,
    JointSampler,
    SequenceSampler,
    SinusoidSampler,
    load,
)
from minimeta.data.augmentation import Affine
from minimeta.evaluation import Episodes

DATASETS = ("glyphs", "omniglot", "sinusoid", *SEQUENCE_TASKS)
INK = ("glyphs", "omniglot")  # drawings, ink = 1 on paper = 0

#: What may be done to the episodes of a training, given them and a seed.
AUGMENTATIONS: dict[str, Callable[[Episodes, int], Episodes]] = {
    "none": lambda episodes, seed: episodes,
    "affine": Affine,
}


class Source(NamedTuple):
    """Where a sampler's episodes come from: the sampler, and the split it reads, e.g. "vinyals/test"."""

    episodes: Episodes
    split: str


def check(data: str) -> None:
    """Raises ValueError unless `data` is the name of a data set or a folder.

    >>> check("mnist")
    Traceback (most recent call last):
    ValueError: unknown data 'mnist'; choose from glyphs, omniglot, sinusoid, ... or name a folder of class folders
    """
    if data not in DATASETS and not Path(data).is_dir():
        raise ValueError(f"unknown data {data!r}; choose from {', '.join(DATASETS)}, or name a folder of class folders")


def task(data: str, way: int, shot: int) -> str:
    """What is to be learned from how much, in words.

    >>> task("omniglot", 5, 1), task("sinusoid", 0, 10), task("copy", 0, 20)
    ('5-way 1-shot', '10-shot regression', 'copy, 20 items')
    """
    if data in SEQUENCE_TASKS:
        return f"{data}, {shot} items"
    return f"{way}-way {shot}-shot" if way else f"{shot}-shot regression"


def source(
    data: str,
    part: str,
    way: int,
    shot: int,
    query: int,
    *,
    split: str | None = None,
    rotations: str = "none",
    size: int = 28,
    channels: int = 1,
    shuffle_support: bool = False,
    labels: int | None = None,
    bits: int = 8,
    joint: bool = False,
    seed: int = 0,
    data_dir: str | PathLike[str] | None = None,
) -> Source:
    """The episodes of a part of a data set; train, val and test have streams of random numbers of their own.

    `data` is one of DATASETS or a folder of images (`minimeta.data.load`), `size` and `channels` are of images.
    `labels` as for `EpisodeSampler`. `joint` gives mini-batches of `shot` images of all classes at once
    (`JointSampler`); sinusoids stay as they are. Sequences have `shot` items of `bits` bits, and `query` repeats, in
    training at most.
    The seed draws episodes, never the data's split, so that runs with different seeds can be compared and a model is
    never tested on classes it was trained on. Raises DataError where the data cannot supply such episodes.

    >>> episodes, split = source("glyphs", "val", way=5, shot=1, query=2)
    >>> episodes.batch(0, 1).xq.shape, split
    ((1, 10, 28, 28, 1), 'val')
    """
    stream = int(np.random.SeedSequence([seed, *part.encode()]).generate_state(1)[0])
    if data == "sinusoid" or data in SEQUENCE_TASKS:
        if split is not None:
            raise DataError(f"{data} has no split schemes, got split={split!r}")
        if way != 0 or rotations != "none":
            got = f"got way={way}, rotations={rotations!r}; need way=0, rotations='none'"
            raise DataError(f"{data} has no classes, {got}")
        if data == "sinusoid":
            return Source(SinusoidSampler(shot, query, seed=stream), part)
        return Source(SequenceSampler(data, shot, varied=part == "train", repeats=query, bits=bits, seed=stream), part)
    dataset = load(data, part, split=split, size=size, channels=channels, data_dir=data_dir)
    if joint:
        return Source(JointSampler(dataset, shot, rotations=rotations, seed=stream), dataset.split)
    sampler = EpisodeSampler(
        dataset, way, shot, query, rotations=rotations, shuffle_support=shuffle_support, labels=labels, seed=stream
    )
    return Source(sampler, dataset.split)
