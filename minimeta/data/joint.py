"""Mini-batches of all classes at once, for pre-training: few-shot learning's baseline knows nothing of episodes."""

from __future__ import annotations

import numpy as np

from minimeta.data.episodes import Episode, ImageClasses, classes_with, task_generators, turned
from minimeta.data.errors import DataError

ROTATIONS = ("none", "fixed_classes", "per_example")


class JointSampler:
    """Batches of `examples` different images of any of the `classes` of `dataset`, each image as likely as any other.

    `rotations` turns images by multiples of 90 degrees: "none"; "fixed_classes", each class and its three rotations are
    four classes, as for `EpisodeSampler`: class c turned by r quarters is number 4c + r; "per_example", each example is
    turned at random and keeps its class.

    Raises DataError at construction where the data cannot supply such batches.

    >>> digits = ImageClasses("digits", "all", np.zeros((10, 4, 28, 28, 1), np.uint8), tuple("0123456789"))
    >>> sampler = JointSampler(digits, examples=16, rotations="fixed_classes")
    >>> batch = sampler.batch(first=0, tasks=2)
    >>> batch.xs.shape, batch.xq.shape, batch.n_way
    ((2, 16, 28, 28, 1), (2, 0, 28, 28, 1), 40)
    """

    def __init__(self, dataset: ImageClasses, examples: int, *, rotations: str = "none", seed: int = 0) -> None:
        self.classes = classes_with(dataset, rotations, ROTATIONS)
        if examples < 1:
            raise DataError(f"examples must be at least 1, got {examples}")
        counts = np.array(dataset.counts or (dataset.drawings,) * len(dataset))
        turns = 1 if rotations == "none" else 4
        if examples > turns * counts.sum():
            raise DataError(
                f"a batch of {examples} needs {examples} images, split '{dataset.split}' has {turns * counts.sum()}"
            )
        self.dataset = dataset
        self.examples = examples
        self.rotations = rotations
        self.seed = seed
        self.turns = turns
        self.ends = counts.cumsum()  # with images numbered class by class, where each class ends

    def batch(self, first: int, tasks: int) -> Episode:
        """Batches number first .. first+tasks-1 as support sets, the same in any chunking; query sets are empty.

        `xs` [T, examples, H, W, C], `ys` [T, examples] numbers of classes, `n_way` all of them. DataError for first < 0
        or tasks < 1.
        """
        generators = task_generators(self.seed, first, tasks)
        lots = [rng.choice(self.turns * self.ends[-1], self.examples, replace=False) for rng in generators]
        numbers, rotation = np.divmod(np.stack(lots), self.turns)
        characters = self.ends.searchsorted(numbers, side="right")
        drawings = numbers - np.append(0, self.ends)[characters]
        xs = turned(self.dataset.images[characters, drawings], rotation)
        ys = 4 * characters + rotation if self.rotations == "fixed_classes" else characters
        return Episode(xs, ys, xs[:, :0], ys[:, :0], self.classes)
