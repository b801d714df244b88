"""Affine distortions against closed forms, SciPy, and what randomness is promised."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from minimeta.data import DataError, Episode, EpisodeSampler, ImageClasses, SinusoidSampler
from minimeta.data.augmentation import Affine, AffineRanges

STILL = {"rotation": (0, 0), "shear": (0, 0), "scale": (1, 1), "shift": (0, 0), "probability": 1}


@dataclass
class Given:
    """Every episode has the same images [N, H, W, C], the first two of them as support set."""

    images: np.ndarray
    support: int = 2

    def batch(self, first, tasks):
        images = np.repeat(self.images[None], tasks, axis=0)
        labels = np.arange(tasks * len(self.images)).reshape(tasks, -1)
        cut = self.support
        return Episode(images[:, :cut], labels[:, :cut], images[:, cut:], labels[:, cut:], 5)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, np.float32)


def distorted(images, tasks=1, seed=0, **ranges):
    """All images of `tasks` episodes, support and queries, [tasks * N, H, W, C]."""
    episode = Affine(Given(images), seed, AffineRanges(**ranges)).batch(0, tasks)
    together = np.concatenate([episode.xs, episode.xq], axis=1)
    assert together.dtype == np.float32
    return together.reshape(-1, *images.shape[1:])


def test_nothing_drawn_changes_nothing():
    images = noise(4, 7, 5, 2)
    np.testing.assert_array_equal(distorted(images, probability=0), images)


@pytest.mark.parametrize("quarters", [1, 2, 3])
@pytest.mark.parametrize("side", [6, 7])
def test_quarter_turns(quarters, side):
    images = noise(3, side, side, 2)
    turned = distorted(images, **{**STILL, "rotation": (90 * quarters, 90 * quarters)})
    np.testing.assert_allclose(turned, np.rot90(images, quarters, axes=(1, 2)), atol=1e-5)


@pytest.mark.parametrize("by", [0.25, -0.25, 2])
def test_shifts_by_whole_pixels_are_relative_to_the_side(by):
    images, (down, right) = noise(3, 8, 4, 1), (int(8 * by), int(4 * by))
    expected = np.zeros_like(images)
    for row in range(8):
        for column in range(4):
            if 0 <= row - down < 8 and 0 <= column - right < 4:
                expected[:, row, column] = images[:, row - down, column - right]
    np.testing.assert_allclose(distorted(images, **{**STILL, "shift": (by, by)}), expected, atol=1e-6)


@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3)),
    st.floats(-180, 180),
    st.floats(-1, 1),
    st.floats(0.3, 3),
    st.floats(-0.5, 0.5),
)
def test_any_map_is_its_steps_one_after_the_other(shape, angle, shear, scale, shift):
    images = noise(2, *shape)
    ranges = {"rotation": (angle, angle), "shear": (shear, shear), "scale": (scale, scale), "shift": (shift, shift)}
    height, width, _ = shape
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    steps = [  # in homogeneous coordinates (row, column, 1), the last first
        [[1, 0, shift * height + (height - 1) / 2], [0, 1, shift * width + (width - 1) / 2], [0, 0, 1]],
        [[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]],
        [[1, shear, 0], [0, 1, 0], [0, 0, 1]],
        [[1, 0, 0], [shear, 1, 0], [0, 0, 1]],
        [[scale, 0, 0], [0, scale, 0], [0, 0, 1]],
        [[1, 0, -(height - 1) / 2], [0, 1, -(width - 1) / 2], [0, 0, 1]],
    ]
    back = np.linalg.inv(np.linalg.multi_dot([np.array(step, float) for step in steps]))
    expected = np.empty_like(images)
    for n, c in np.ndindex(2, shape[2]):
        expected[n, ..., c] = ndimage.affine_transform(images[n, ..., c], back, order=1, mode="grid-constant")
    np.testing.assert_allclose(distorted(images, **ranges, probability=1), expected, atol=1e-4)


@given(st.integers(0, 2**70), st.integers(0, 1000))
def test_values_stay_within_0_and_1(seed, first):
    images = np.round(noise(3, 6, 6, 1, seed=first) * 1.5).clip(0, 1) * np.float32(1)
    changed = distorted(images, tasks=3, seed=seed)
    assert changed.min() >= 0
    assert changed.max() <= 1


def dataset():
    return ImageClasses("noise", "toy", noise(8, 6, 9, 9, 1), tuple("abcdefgh"))


@settings(max_examples=30)
@given(st.integers(0, 2**70), st.integers(0, 1000))
def test_any_chunking_gives_the_same_episodes(seed, first):
    affine = Affine(EpisodeSampler(dataset(), way=3, shot=2, query=2), seed)
    whole = affine.batch(first, 4)
    parts = [affine.batch(first, 1), affine.batch(first + 1, 3)]
    for i, array in enumerate(whole[:4]):
        np.testing.assert_array_equal(array, np.concatenate([part[i] for part in parts]))


def test_labels_and_the_images_behind_are_left_alone():
    sampler = EpisodeSampler(dataset(), way=3, shot=2, query=2)
    before = sampler.dataset.images.copy()
    plain, changed = sampler.batch(5, 2), Affine(sampler, seed=0).batch(5, 2)
    for name in ("ys", "yq", "n_way"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(changed, name))
    np.testing.assert_array_equal(sampler.dataset.images, before)


def test_every_image_episode_and_seed_has_a_map_of_its_own():
    images = np.repeat(noise(1, 9, 9, 1), 6, axis=0)
    always = {"probability": 1}
    maps = np.concatenate([distorted(images, tasks=5, seed=seed, **always) for seed in (0, 1)])
    assert len({image.tobytes() for image in maps}) == 60


def test_each_shift_takes_part_in_half_of_the_images():
    dot = np.zeros((20, 8, 8, 1), np.float32)
    dot[:, 3, 3] = 1
    moved = distorted(dot, tasks=200, **{**STILL, "shift": (0.25, 0.25), "probability": 0.5})
    _, rows, columns, _ = np.nonzero(moved > 0.5)
    counts = np.unique(np.stack([rows, columns]), axis=1, return_counts=True)
    assert counts[0].T.tolist() == [[3, 3], [3, 5], [5, 3], [5, 5]]
    assert (np.abs(counts[1] - 1000) < 5 * np.sqrt(1000)).all()


def test_components_fill_their_ranges_independently():
    ranges = AffineRanges()
    numbers = ranges.components(np.random.default_rng(0).random((4000, 7, 2)))
    rest = np.array([0, 0, 0, 1, 1, 0, 0])
    half = np.array([10, 0.3, 0.3, 0.2, 0.2, 2 / 105, 2 / 105])
    unit = (numbers - rest) / half
    taken = unit != 0
    assert (np.abs(taken.mean(axis=0) - 0.5) < 5 * 0.5 / np.sqrt(4000)).all()
    # a uniform number in -1..1, half of the time: mean 0, variance 1/6, no correlations
    assert (np.abs(unit) <= 1).all()
    assert (np.abs(unit).max(axis=0) > 0.99).all()
    np.testing.assert_allclose(unit.mean(axis=0), 0, atol=0.035)
    np.testing.assert_allclose(np.cov(unit.T), np.eye(7) / 6, atol=0.02)


def test_ink_is_kept_but_for_scaling():
    row, column = np.indices((28, 28)) - 13.5
    blob = np.exp(-(row**2 + column**2 / 3) / 20).astype(np.float32)
    images = np.repeat(blob[None, ..., None], 20, axis=0)
    ink = distorted(images, tasks=20, scale=(1, 1)).sum(axis=(1, 2, 3)) / blob.sum()
    np.testing.assert_allclose(ink, 1, atol=0.02)
    scaled = distorted(images, tasks=20).sum(axis=(1, 2, 3)) / blob.sum()
    assert scaled.min() > 0.8**2 * 0.98
    assert scaled.max() < 1.2**2 * 1.02
    assert scaled.std() > 0.05
    assert scaled.mean() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({"rotation": (5, -5)}, r"affine: rotation=\(5, -5\): a range is"),
        ({"shift": (0, np.inf)}, r"affine: shift=\(0, inf\): a range is"),
        ({"shear": (np.nan, 0)}, r"affine: shear=\(nan, 0\): a range is"),
        ({"scale": (-1, 1)}, r"affine: scale=\(-1, 1\): scales must be positive"),
        ({"probability": 1.5}, "affine: probability=1.5: need a number from 0 to 1"),
    ],
)
def test_impossible_ranges_are_refused(ranges, message):
    with pytest.raises(DataError, match=message):
        AffineRanges(**ranges)


def test_what_is_no_image_is_refused():
    with pytest.raises(DataError, match=r"float32 of shape \(1, 3, 1\)"):
        Affine(SinusoidSampler(3, 3), seed=0).batch(0, 1)
    with pytest.raises(DataError, match=r"float64 of shape"):
        Affine(Given(noise(2, 4, 4, 1).astype(float)), seed=0).batch(0, 1)
