"""Datasets and the episodes drawn from them.

    dataset = load("omniglot", "train", split="vinyals")      # ImageClasses: images grouped by class
    sampler = EpisodeSampler(dataset, way=5, shot=1, query=5)  # deals out few-shot tasks
    episode = sampler.batch(first=0, tasks=8)                  # episodes 0..7, the same in any chunking

Datasets: "glyphs", a procedural alphabet that needs no files, "omniglot", real handwriting, and any folder of class
folders of images. `JointSampler` gives batches of all classes at once, `SinusoidSampler` regression tasks. Everything
here needs NumPy alone but for reading image files (Pillow) and downloading Omniglot (pooch).
"""

import os
from pathlib import Path

from minimeta.data import glyphs, image_folder, omniglot
from minimeta.data.episodes import ROTATIONS, Episode, EpisodeSampler, ImageClasses
from minimeta.data.errors import DataError
from minimeta.data.images import read_image
from minimeta.data.joint import JointSampler
from minimeta.data.sequences import SEQUENCE_TASKS, Sequences, SequenceSampler
from minimeta.data.sinusoid import SinusoidSampler
from minimeta.data.splits import PARTS, SCHEMES, parse_split

__all__ = [
    "DATASETS",
    "PARTS",
    "ROTATIONS",
    "SCHEMES",
    "SEQUENCE_TASKS",
    "DataError",
    "Episode",
    "EpisodeSampler",
    "ImageClasses",
    "JointSampler",
    "SequenceSampler",
    "Sequences",
    "SinusoidSampler",
    "load",
    "parse_split",
    "read_image",
]

DATASETS = ("omniglot", "glyphs")


def load(
    name: str,
    part: str,
    *,
    split: str | None = None,
    size: int | None = None,
    channels: int = 1,
    data_dir: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> ImageClasses:
    """Classes of `part` ("train", "val", "trainval", "test") of a dataset, by default 28x28 pixels.

    `name` is "omniglot", "glyphs" or the path of a folder of images, one folder per class (`image_folder`). Drawings
    have 1 channel and ink = 1; images of a folder have 1 (grey) or 3 (RGB) and are as light as the files. `split`
    (scheme) and `data_dir` are Omniglot's alone. `seed` draws a dataset's random split, or the characters of the
    procedural alphabet. Raises DataError for an unknown name, and as `load` of the three modules does.

    >>> load("glyphs", "val").images.shape
    (100, 20, 28, 28, 1)
    >>> load("mnist", "train")
    Traceback (most recent call last):
    minimeta.data.errors.DataError: unknown dataset 'mnist': choose from omniglot, glyphs, or name a folder of images

    Any other data comes in as arrays, all that `EpisodeSampler` needs; see `ImageClasses` for classes of unequal size:

    >>> images = np.random.default_rng(0).integers(0, 256, (6, 10, 32, 32, 3), np.uint8)  # 6 classes of 10 in RGB
    >>> mine = ImageClasses("mine", "train", images, names=("ant", "bat", "cat", "dog", "elk", "fox"))
    >>> EpisodeSampler(mine, way=5, shot=1, query=3).batch(first=0, tasks=2).xs.shape
    (2, 5, 32, 32, 3)
    """
    side = 28 if size is None else size
    if name in DATASETS and channels != 1:
        raise DataError(f"{name} has 1 channel, got channels={channels}")
    if name != "omniglot" and split is not None:
        raise DataError(f"{name} has no split schemes, got split={split!r}")
    if name == "omniglot":
        return omniglot.load(part, split=split, size=side, data_dir=data_dir, seed=seed)
    if name == "glyphs":
        return glyphs.load(part, size=side, seed=seed)
    if not Path(name).is_dir():
        raise DataError(f"unknown dataset {name!r}: choose from {', '.join(DATASETS)}, or name a folder of images")
    return image_folder.load(name, part, size=side, channels=channels, seed=seed)
