"""Datasets and the episodes drawn from them.

    dataset = load("omniglot", "train", split="vinyals")      # ImageClasses: images grouped by class
    sampler = EpisodeSampler(dataset, way=5, shot=1, query=5)  # deals out few-shot tasks
    episode = sampler.batch(first=0, tasks=8)                  # episodes 0..7, the same in any chunking

Datasets: "glyphs", a procedural alphabet that needs no files, and "omniglot", real handwriting. `SinusoidSampler`
gives regression tasks. Everything here needs NumPy alone but for the first reading of Omniglot (Pillow, pooch).
"""

import os

from minimeta.data import glyphs, omniglot
from minimeta.data.episodes import ROTATIONS, Episode, EpisodeSampler, ImageClasses
from minimeta.data.errors import DataError
from minimeta.data.sinusoid import SinusoidSampler
from minimeta.data.splits import PARTS, SCHEMES, parse_split

__all__ = [
    "DATASETS",
    "PARTS",
    "ROTATIONS",
    "SCHEMES",
    "DataError",
    "Episode",
    "EpisodeSampler",
    "ImageClasses",
    "SinusoidSampler",
    "load",
    "parse_split",
]

DATASETS = ("omniglot", "glyphs")


def load(
    name: str,
    part: str,
    *,
    split: str | None = None,
    size: int | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> ImageClasses:
    """Classes of `part` ("train", "val", "trainval", "test") of a dataset, by default 28x28 pixels, ink = 1.

    `split` (scheme) and `data_dir` are Omniglot's alone. `seed` draws a dataset's random split, or the characters of
    the procedural alphabet. Raises DataError for an unknown name, and as `omniglot.load` and `glyphs.load` do.

    >>> load("glyphs", "val").images.shape
    (100, 20, 28, 28, 1)
    >>> load("mnist", "train")
    Traceback (most recent call last):
    minimeta.data.errors.DataError: unknown dataset 'mnist': choose from omniglot, glyphs
    """
    side = 28 if size is None else size
    if name == "omniglot":
        return omniglot.load(part, split=split, size=side, data_dir=data_dir, seed=seed)
    if name != "glyphs":
        raise DataError(f"unknown dataset {name!r}: choose from {', '.join(DATASETS)}")
    if split is not None:
        raise DataError(f"glyphs has no split schemes, got split={split!r}")
    return glyphs.load(part, size=side, seed=seed)
