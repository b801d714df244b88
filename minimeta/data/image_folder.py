"""A folder of images of your own: one folder per class, named as the class.

    FOLDER/cat/1.jpg, FOLDER/cat/2.png, FOLDER/dog/...                classes divided by seed
    FOLDER/train/cat/1.jpg, FOLDER/val/fox/..., FOLDER/test/owl/...   divided by you; trainval is train and val

Images may differ in size and format, classes in their number of images. Nothing is cached.
"""

from __future__ import annotations

import os
from itertools import combinations
from pathlib import Path

import numpy as np

from minimeta.data.episodes import ImageClasses
from minimeta.data.errors import DataError
from minimeta.data.files import children
from minimeta.data.images import check_shape, is_colour, read_image
from minimeta.data.splits import PARTS

Folder = str | os.PathLike[str]
Classes = dict[str, list[Path]]  # name -> image files, both in order

SHARES = {"train": 0.64, "val": 0.16, "test": 0.2}  # of the classes
FEWEST = 2  # classes in a part


def load(path: Folder, part: str, *, size: int = 28, channels: int = 1, seed: int = 0) -> ImageClasses:
    """Classes of `part` ("train", "val", "trainval", "test"), uint8 [classes, images of the largest, size, size, C].

    Values are those of `read_image`, as light as the files. Without folders train/, val/ and test/, classes are divided
    by `seed` into 64 %, 16 % and 20 %, at least 2 for each part. Classes are in order of their names.

    Raises DataError for an unknown part, size < 1, channels other than 1 and 3, for too few classes, for anything that
    has no place in such a folder, and for images that cannot be read.

    >>> load("/no/such/folder", "train")
    Traceback (most recent call last):
    minimeta.data.errors.DataError: /no/such/folder: cannot be read: No such file or directory
    """
    if part not in PARTS:
        raise DataError(f"{path}: no part {part!r}: choose from {', '.join(PARTS)}")
    check_shape(size, channels)
    files = _classes(Path(path), part, seed)
    counts = tuple(len(found) for found in files.values())
    # zeros: padding that nothing is ever written to takes no memory
    images = np.zeros((len(files), max(counts), size, size, channels), np.uint8)
    for own, found in zip(images, files.values(), strict=True):
        for pixels, file in zip(own, found, strict=False):
            pixels[:] = np.rint(255 * read_image(file, size, channels))
    return ImageClasses(Path(path).name, part, images, tuple(files), counts=counts)


def channels_of(path: Folder) -> int:
    """3 where any image of the folder has a pixel that is not grey, else 1; DataError as for `load`."""
    parts = _parts(Path(path), seed=0).values()
    return 3 if any(is_colour(file) for classes in parts for files in classes.values() for file in files) else 1


def class_counts(path: Folder) -> dict[str, int]:
    """The number of classes in train, val and test; DataError as for `load`."""
    return {part: len(classes) for part, classes in _parts(Path(path), seed=0).items()}


def class_files(folder: Folder) -> Classes:
    """Class -> image files of a folder of class folders, both in order of their names.

    Raises DataError where there is no class folder, where one is empty, and for files and folders out of place.
    """
    home = Path(folder)
    classes = {}
    for own in children(home, home):
        if not own.is_dir():
            raise DataError(f"{own}: a file where class folders belong")
        files = children(own, home)
        if not files:
            raise DataError(f"{own}: no images in this class folder")
        for file in files:
            if file.is_dir():
                raise DataError(
                    f"{file}: a folder where the images of class {own.name!r} belong; "
                    f"to divide the classes yourself, put them into train/, val/ and test/, and nothing beside"
                )
        classes[own.name] = files
    if not classes:
        raise DataError(f"{home}: no class folders; need one folder of images per class")
    return classes


def _classes(folder: Path, part: str, seed: int) -> Classes:
    parts = _parts(folder, seed)
    chosen = parts["train"] | parts["val"] if part == "trainval" else parts[part]
    return dict(sorted(chosen.items()))


def _parts(folder: Path, seed: int) -> dict[str, Classes]:
    """The classes of train, val and test."""
    names = {path.name for path in children(folder, folder)}
    if not names or not names <= set(SHARES):
        return _divide(class_files(folder), seed, folder)
    if names != set(SHARES):
        raise DataError(f"{folder}: has {', '.join(sorted(names))}; a division of your own needs {', '.join(SHARES)}")
    parts = {part: class_files(folder / part) for part in SHARES}
    for one, other in combinations(SHARES, 2):
        for name in parts[one].keys() & parts[other].keys():
            raise DataError(f"{folder}: class {name!r} is both in {one} and in {other}, which share no classes")
    return parts


def _divide(classes: Classes, seed: int, folder: Path) -> dict[str, Classes]:
    """The classes of train, val and test, drawn by seed."""
    if len(classes) < FEWEST * len(SHARES):
        raise DataError(
            f"{folder}: too few classes, {len(classes)} ({', '.join(classes)}), to divide into {', '.join(SHARES)}: "
            f"need at least {FEWEST * len(SHARES)}, {FEWEST} for each"
        )
    shuffled = [list(classes)[i] for i in np.random.default_rng(seed).permutation(len(classes))]
    val, test = (max(FEWEST, round(SHARES[part] * len(classes))) for part in ("val", "test"))
    drawn = {"val": shuffled[:val], "test": shuffled[val : val + test], "train": shuffled[val + test :]}
    return {part: {name: classes[name] for name in names} for part, names in drawn.items()}
