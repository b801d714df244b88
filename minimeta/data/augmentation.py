"""Random affine distortions of images, as in Koch, Zemel and Salakhutdinov (2015), part "Affine distortions"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from minimeta.data.episodes import Episode, task_generators
from minimeta.data.errors import DataError
from minimeta.data.lazy import require

Range = tuple[float, float]

#: The map that changes nothing: rotation, shear of rows and columns, scale of both, shift of both.
IDENTITY = (0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0)


@dataclass(frozen=True)
class AffineRanges:
    """(low, high) of each component of a random affine map, drawn uniformly; the defaults are the paper's.

    `rotation` is in degrees, counter-clockwise; `shear` is the tangent of the angle; `shift` is in units of the image's
    side, down and to the right: 2 of 105 pixels make half a pixel of 28. Shear, scale and shift are drawn for rows and
    for columns, and each of these seven numbers takes part with `probability`, independently.
    Raises DataError for an empty range, a scale that is not positive, and a probability outside 0..1.

    >>> AffineRanges(scale=(0.0, 1.0))
    Traceback (most recent call last):
    minimeta.data.errors.DataError: affine: scale=(0.0, 1.0): scales must be positive
    """

    rotation: Range = (-10.0, 10.0)
    shear: Range = (-0.3, 0.3)
    scale: Range = (0.8, 1.2)
    shift: Range = (-2 / 105, 2 / 105)
    probability: float = 0.5

    def __post_init__(self) -> None:
        for name in ("rotation", "shear", "scale", "shift"):
            low, high = getattr(self, name)
            if not -np.inf < low <= high < np.inf:
                raise DataError(f"affine: {name}={(low, high)}: a range is (low, high), finite, with low <= high")
        if self.scale[0] <= 0:
            raise DataError(f"affine: scale={self.scale}: scales must be positive")
        if not 0 <= self.probability <= 1:
            raise DataError(f"affine: probability={self.probability}: need a number from 0 to 1")

    def components(self, numbers: np.ndarray) -> np.ndarray:
        """The components of each map [..., 7], in the order of IDENTITY, from random numbers [..., 7, 2] in 0..1."""
        ranges = (self.rotation, self.shear, self.shear, self.scale, self.scale, self.shift, self.shift)
        low, high = np.array(ranges).T
        values = low + (high - low) * numbers[..., 0]
        chosen: np.ndarray = np.where(numbers[..., 1] < self.probability, values, IDENTITY)
        return chosen


@dataclass(frozen=True, eq=False)
class Affine:
    """The episodes of `episodes`, each image distorted by a random affine map of its own about the image's centre.

    Images are scaled, sheared, turned, then shifted; bilinear interpolation, with 0 outside the image, so that values
    stay within 0..1. Image i of episode k (support first, then queries) is mapped by a pure function of (seed, k, i).
    `batch` raises DataError unless images are float32 [T, S, H, W, C], ImportError without SciPy.

    >>> from minimeta.data import EpisodeSampler, load
    >>> sampler = EpisodeSampler(load("glyphs", "val"), way=5, shot=1, query=2)
    >>> plain, distorted = sampler.batch(0, tasks=2), Affine(sampler, seed=0).batch(0, tasks=2)
    >>> distorted.xq.shape, np.array_equal(distorted.xq, plain.xq), np.array_equal(distorted.yq, plain.yq)
    ((2, 10, 28, 28, 1), False, True)
    """

    episodes: Any
    seed: int
    ranges: AffineRanges = AffineRanges()

    def batch(self, first: int, tasks: int) -> Episode:
        """Episodes number first .. first+tasks-1, the same in any chunking."""
        episode = self.episodes.batch(first, tasks)
        for x in (episode.xs, episode.xq):
            if x.ndim != 5 or x.dtype != np.float32:
                raise DataError(f"affine: need images [T, S, H, W, C] float32, got {x.dtype} of shape {x.shape}")
        support, count = episode.xs.shape[1], episode.xs.shape[1] + episode.xq.shape[1]
        # a stream of its own: the sampler may have the same seed
        stream = int(np.random.SeedSequence([self.seed, *b"affine"]).generate_state(1)[0])
        numbers = np.stack([rng.random((count, len(IDENTITY), 2)) for rng in task_generators(stream, first, tasks)])
        components = self.ranges.components(numbers)
        xs = _distort(episode.xs, components[:, :support])
        return episode._replace(xs=xs, xq=_distort(episode.xq, components[:, support:]))


def _distort(images: np.ndarray, components: np.ndarray) -> np.ndarray:
    """Images [T, S, H, W, C], each mapped by its components [T, S, 7]."""
    ndimage = require("scipy.ndimage", "SciPy", "distorting images by affine maps")
    flat = images.reshape(-1, *images.shape[2:])
    distorted = np.empty_like(flat)
    matrices, offsets = _inverse_maps(components.reshape(-1, components.shape[-1]), *flat.shape[1:3])
    for n, c in np.ndindex(len(flat), flat.shape[-1]):
        target = distorted[n, ..., c]
        ndimage.affine_transform(flat[n, ..., c], matrices[n], offsets[n], output=target, order=1, mode="grid-constant")
    return distorted.reshape(images.shape)


def _inverse_maps(components: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Matrices [n, 2, 2] and offsets [n, 2] that lead from a pixel (row, column) to where its value comes from."""
    angle, down, right, height_scale, width_scale, shift_y, shift_x = components.T
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    zero, one = np.zeros_like(angle), np.ones_like(angle)
    maps = [
        [[cos, -sin], [sin, cos]],
        # one shear after the other keeps areas, so that no map is singular
        [[one, down], [zero, one]],
        [[one, zero], [right, one]],
        [[height_scale, zero], [zero, width_scale]],
    ]
    rotation, shear_y, shear_x, scale = np.moveaxis(np.array(maps), -1, 1)
    inverse = np.linalg.inv(rotation @ shear_y @ shear_x @ scale)
    centre = np.array([height - 1, width - 1]) / 2
    shift = np.stack([shift_y * height, shift_x * width], axis=-1)
    return inverse, centre - (inverse @ (centre + shift)[..., None])[..., 0]
