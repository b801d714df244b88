"""Lake's one-shot runs: fixed 20-way tasks of Omniglot's evaluation alphabets (Lake, Salakhutdinov, Tenenbaum 2015).

Every run shows 20 characters of one alphabet by one drawer, `runNN/training/classMM.png`, and asks for the same
characters by another, `runNN/test/itemMM.png`; `runNN/class_labels.txt` pairs each item with its class:

    run01/test/item01.png run01/training/class08.png
"""

import os
import re
from pathlib import Path

import numpy as np

from minimeta.data.archive import read_members
from minimeta.data.drawings import decode, resize
from minimeta.data.episodes import Episode, task_generators
from minimeta.data.errors import DataError

WAY = 20
CLASSES = [f"training/class{i:02d}.png" for i in range(1, WAY + 1)]
ITEMS = [f"test/item{i:02d}.png" for i in range(1, WAY + 1)]
LABELS = "class_labels.txt"


class LakeRuns:
    """The runs of the official all_runs.zip, or of the folder it was extracted to, as episodes: number i is run i + 1.

    Drawings are resized to `size` pixels as Omniglot's are; `shuffle_support` puts each support set in an order of its
    own, for learners that read it in sequence. Raises DataError naming the run and the file for anything that is
    missing, damaged or too much; files beside the training and test folders are not read.

    >>> LakeRuns("no_such_file.zip", size=28)
    Traceback (most recent call last):
    minimeta.data.errors.DataError: no_such_file.zip: cannot be read: ...
    """

    def __init__(self, source: str | os.PathLike[str], size: int, *, shuffle_support: bool = False) -> None:
        runs = _read_runs(Path(source))
        if len(runs) < 2:
            raise DataError(f"{source}: has {len(runs)} runs runNN/training/classMM.png, need at least 2")
        for number, run in enumerate(runs, start=1):
            if run != f"run{number:02d}":
                raise DataError(f"{source}: has {run} but no run{number:02d}")
        drawings, labels = zip(*(_read_run(source, run, files) for run, files in runs.items()), strict=True)
        images = (resize(np.stack(drawings), size) * np.float32(1 / 255))[..., None]
        order = np.tile(np.arange(WAY), (len(runs), 1))
        if shuffle_support:
            order = np.stack([rng.permutation(WAY) for rng in task_generators(0, 0, len(runs))])
        support = np.take_along_axis(images, order[..., None, None, None], axis=1)
        self.episode = Episode(support, order, images[:, WAY:], np.stack(labels), WAY)

    def __len__(self) -> int:
        return len(self.episode.ys)

    def batch(self, first: int, tasks: int) -> Episode:
        """Runs number first + 1 .. first + tasks; xs and xq are [tasks, 20, size, size, 1] float32, ink 1."""
        return self.episode.tasks(slice(first, first + tasks))


def _read_runs(source: Path) -> dict[str, dict[str, bytes]]:
    """Run -> path inside it -> content, sorted; of the training and test folders and the labels, nothing else."""
    runs: dict[str, dict[str, bytes]] = {}
    tops = set()
    for name, content in sorted(read_members(source).items()):
        match = re.fullmatch(rf"((?:.*/)?)(run\d\d)/({LABELS}|(?:training|test)/.+)", name)
        if match:
            top, run, file = match.groups()
            tops.add(top)
            runs.setdefault(run, {})[file] = content
    if len(tops) > 1:
        raise DataError(f"{source}: has runs in several folders: {', '.join(sorted(tops))}")
    return runs


def _read_run(source: str | os.PathLike[str], run: str, files: dict[str, bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Ink bool [40, SIDE, SIDE] of a run's classes and items, and the class [20] int64 of each item."""
    drawings = [*CLASSES, *ITEMS]
    for file in [*drawings, LABELS]:
        if file not in files:
            raise DataError(f"{source}: {run}/{file} is missing")
    for file in files:
        if file not in [*drawings, LABELS]:
            raise DataError(f"{source}: unexpected {run}/{file}; a run has {WAY} classes and {WAY} items")
    ink = np.stack([decode(files[file], f"{source}: {run}/{file}") for file in drawings])
    return ink, _read_labels(f"{source}: {run}/{LABELS}", run, files[LABELS])


def _read_labels(label: str, run: str, content: bytes) -> np.ndarray:
    """The class [20] int64 of each item, from lines of two paths, each with or without the folders it lies in."""
    within = rf"(?:(?:\S*/)?{run}/)?"
    classes = {}
    for line in content.decode("ascii", errors="replace").splitlines():
        match = re.fullmatch(rf"{within}(test/\S+)\s+{within}(training/\S+)\s*", line)
        if match is None or match[1] not in ITEMS or match[2] not in CLASSES:
            raise DataError(f"{label}: {line!r} is not {run}/test/itemMM.png {run}/training/classMM.png")
        classes[match[1]] = CLASSES.index(match[2])
    different = len(set(classes.values()))
    if (len(classes), different) != (WAY, WAY):
        raise DataError(f"{label}: {len(classes)} items of {different} classes, expected {WAY} of {WAY}")
    return np.array([classes[item] for item in ITEMS])
