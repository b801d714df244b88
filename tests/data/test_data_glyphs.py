"""Properties of the procedural alphabet."""

import numpy as np
import pytest

from minimeta.data import DataError, EpisodeSampler, glyphs


def nearest_neighbour_accuracy(dataset, episodes=400):
    """5-way 1-shot accuracy of Euclidean distance between raw pixels."""
    xs, _, xq, yq, _ = EpisodeSampler(dataset, 5, 1, 5).batch(0, episodes)
    xs, xq = xs.reshape(episodes, 5, -1), xq.reshape(episodes, 25, -1)
    squared = (xs**2).sum(axis=-1)[:, None] - 2 * xq @ xs.transpose(0, 2, 1)
    return (squared.argmin(axis=-1) == yq).mean()


@pytest.fixture(scope="module")
def test_part():
    return glyphs.load("test")


def test_shape_range_and_names(test_part):
    assert test_part.images.shape == (200, 20, 28, 28, 1)
    assert test_part.images.dtype == np.uint8
    assert (test_part.images.max(axis=(2, 3, 4)) > 200).all()
    assert (test_part.split, test_part.names[-1]) == ("test", "test-00199")
    # ink on paper: a character covers a small part of its image, and leaves the border nearly clear
    assert 0.05 < test_part.images.mean() / 255 < 0.2
    border = np.concatenate([test_part.images[:, :, 0], test_part.images[:, :, -1]])
    assert border.mean() / 255 < 0.02


def test_raw_pixels_are_a_poor_guide_but_a_guide(test_part):
    assert 0.5 < nearest_neighbour_accuracy(test_part) < 0.7


def test_drawings_of_a_class_differ(test_part):
    flat = test_part.images.reshape(200 * 20, -1)
    assert len(np.unique(flat, axis=0)) == 200 * 20


def test_a_class_does_not_depend_on_how_much_is_asked_for(test_part):
    few = glyphs.load("test", classes=37, drawings=6)
    assert np.array_equal(few.images, test_part.images[:37, :6])
    assert glyphs.load("val", classes=150).images.shape[0] == 150


def test_parts_and_seeds_share_no_character():
    classes = [glyphs.load(part, classes=40, drawings=1, seed=seed) for part in glyphs.PARTS for seed in (0, 1)]
    flat = np.concatenate([part.images.reshape(40, -1) for part in classes])
    assert len(np.unique(flat, axis=0)) == len(flat)


def test_trainval_is_both_parts():
    both = glyphs.load("trainval", drawings=1)
    train, val = glyphs.load("train", drawings=1), glyphs.load("val", drawings=1)
    assert np.array_equal(both.images, np.concatenate([train.images, val.images]))
    assert both.names == train.names + val.names
    assert glyphs.load("trainval", classes=3, drawings=1).names == train.names[:3]


def test_a_steady_hand_draws_the_same_twice_and_sizes_agree():
    steady = glyphs.Hand(wobble=0, turn=0, slant=0, stretch=0, shift=0, pressure=0)
    large = glyphs.load("val", classes=8, drawings=2, size=56, hand=steady).images
    assert np.array_equal(large[:, 0], large[:, 1])
    small = glyphs.load("val", classes=8, drawings=1, size=28, hand=steady).images
    averaged = large[:, :1].reshape(8, 1, 28, 2, 28, 2, 1).mean(axis=(3, 5))
    assert np.abs(averaged - small).mean() < 5


@pytest.mark.parametrize(
    ("part", "options", "message"),
    [
        ("dev", {}, "no part 'dev': choose from train, val, trainval, test"),
        ("train", {"classes": 0}, "classes must be at least 1, got 0"),
        ("trainval", {"classes": -1}, "classes must be at least 1, got -1"),
        ("train", {"drawings": 0}, "drawings must be at least 1"),
        ("train", {"size": 0}, "size must be at least 1"),
        ("trainval", {"classes": 1101}, "trainval has 1100 classes, got classes=1101"),
    ],
)
def test_impossible_requests_are_refused(part, options, message):
    with pytest.raises(DataError, match=message):
        glyphs.load(part, **options)
