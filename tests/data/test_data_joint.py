"""Properties of mini-batches of all classes at once, on images that tell who they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimeta.data import DataError, EpisodeSampler, ImageClasses, JointSampler

CLASSES, DRAWINGS = 6, 5
ROTATIONS = ("none", "fixed_classes", "per_example")
COUNTS = (2, 5, 0, 1, 4, 3)


def tell_tale(dtype=np.uint8, counts=None):
    """The top left pixel says which image it is, and by the corner where it lies how the image is turned."""
    images = np.zeros((CLASSES, DRAWINGS, 3, 3, 1), np.uint8)
    images[..., 0, 0, 0] = 1 + np.arange(CLASSES * DRAWINGS).reshape(CLASSES, DRAWINGS)
    if dtype == np.float32:
        images = images * np.float32(1 / 255)
    return ImageClasses("tell-tale", "toy/train", images, tuple("abcdef"), counts=counts)


def read(images):
    """(class, drawing, quarter turns anticlockwise) of images [..., 3, 3, 1] of tell_tale()."""
    grey = np.rint(images[..., 0] * 255).astype(int)
    corners = np.stack([grey[..., 0, 0], grey[..., -1, 0], grey[..., -1, -1], grey[..., 0, -1]], axis=-1)
    assert ((corners > 0).sum(axis=-1) == 1).all()
    return *np.divmod(corners.max(axis=-1) - 1, DRAWINGS), corners.argmax(axis=-1)


@st.composite
def samplers(draw):
    counts = draw(st.none() | st.tuples(*[st.integers(1, DRAWINGS)] * CLASSES))
    rotations = draw(st.sampled_from(ROTATIONS))
    images = sum(counts or [DRAWINGS] * CLASSES) * (1 if rotations == "none" else 4)
    dataset = tell_tale(draw(st.sampled_from([np.uint8, np.float32])), counts)
    return JointSampler(dataset, draw(st.integers(1, images)), rotations=rotations, seed=draw(st.integers(0, 2**70)))


@given(samplers(), st.integers(0, 1000), st.integers(1, 3))
def test_batches_are_different_images_under_the_numbers_of_their_classes(sampler, first, tasks):
    xs, ys, xq, yq, n_way = sampler.batch(first, tasks)
    assert (xs.shape, ys.shape) == ((tasks, sampler.examples, 3, 3, 1), (tasks, sampler.examples))
    assert (xq.shape, yq.shape) == ((tasks, 0, 3, 3, 1), (tasks, 0))
    assert (xs.dtype, ys.dtype, xq.dtype, yq.dtype) == (np.float32, np.int64, np.float32, np.int64)
    kind, drawing, turn = read(xs)
    assert n_way == sampler.classes == CLASSES * (4 if sampler.rotations == "fixed_classes" else 1)
    np.testing.assert_array_equal(ys, 4 * kind + turn if sampler.rotations == "fixed_classes" else kind)
    assert sampler.rotations != "none" or not turn.any()
    assert (drawing < np.array(sampler.dataset.counts or [DRAWINGS] * CLASSES)[kind]).all()
    for task in range(tasks):
        shown = set(zip(kind[task], drawing[task], turn[task], strict=True))
        assert len(shown) == sampler.examples


@given(samplers(), st.integers(0, 1000))
def test_any_chunking_gives_the_same_batches(sampler, first):
    whole = sampler.batch(first, 5)
    parts = [sampler.batch(first, 2), sampler.batch(first + 2, 1), sampler.batch(first + 3, 2)]
    for got, *arrays in zip(whole[:4], *(part[:4] for part in parts), strict=True):
        np.testing.assert_array_equal(got, np.concatenate(arrays))


@pytest.mark.parametrize("counts", [None, COUNTS])
@pytest.mark.parametrize("rotations", ROTATIONS)
def test_every_image_and_rotation_comes_up_as_often(rotations, counts):
    sampler = JointSampler(tell_tale(counts=counts), examples=4, rotations=rotations)
    table = np.zeros((CLASSES, DRAWINGS, 4))
    np.add.at(table, tuple(column.ravel() for column in read(sampler.batch(0, 2000).xs)), 1)
    there = np.arange(DRAWINGS) < np.array(counts or [DRAWINGS] * CLASSES)[:, None]
    shown = table[there][:, : 1 if rotations == "none" else 4]
    assert shown.sum() == table.sum() == 8000
    assert (np.abs(shown - shown.mean()) < 5 * np.sqrt(shown.mean())).all()


def test_examples_come_in_random_order():
    ys = JointSampler(tell_tale(), examples=30).batch(0, 300).ys
    counts = np.stack([np.bincount(column, minlength=CLASSES) for column in ys.T])  # each class 50 times per place
    assert counts.min() > 15
    assert counts.max() < 85


def test_seeds_and_numbers_give_other_batches():
    a, b = (JointSampler(tell_tale(), 10, seed=seed) for seed in (0, 1))
    assert not np.array_equal(a.batch(0, 4).xs, b.batch(0, 4).xs)
    assert not np.array_equal(a.batch(0, 4).xs, a.batch(4, 4).xs)


def test_turned_classes_are_those_of_episodes():
    """An image that is class c turned by r quarters there is so here."""
    dataset = tell_tale()
    episode = EpisodeSampler(dataset, 24, 1, 1, rotations="fixed_classes").batch(0, 1)
    batch = JointSampler(dataset, 120, rotations="fixed_classes").batch(0, 1)
    known = {image.tobytes(): label for image, label in zip(batch.xs[0], batch.ys[0], strict=True)}
    numbers = [known[image.tobytes()] for image in episode.xs[0]]
    assert sorted(numbers) == list(range(24))


def test_the_dataset_is_not_written_to():
    dataset = tell_tale(np.float32)
    before = dataset.images.copy()
    JointSampler(dataset, 20, rotations="per_example").batch(0, 5).xs[:] = 9
    np.testing.assert_array_equal(dataset.images, before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"examples": 0}, "examples must be at least 1, got 0"),
        ({"examples": 31}, "a batch of 31 needs 31 images, split 'toy/train' has 30"),
        ({"examples": 121, "rotations": "per_example"}, "a batch of 121 needs 121 images, split 'toy/train' has 120"),
        ({"rotations": "per_class_random"}, "unknown rotations 'per_class_random': choose from none, fixed_classes"),
        ({"rotations": "per_episode"}, "unknown rotations 'per_episode'"),
    ],
)
def test_impossible_samplers_are_refused(options, message):
    with pytest.raises(DataError, match=message):
        JointSampler(tell_tale(), **{"examples": 10} | options)


def test_rotations_need_square_images():
    wide = ImageClasses("wide", "toy/wide", np.zeros((3, 2, 4, 6, 1), np.uint8), ("a", "b", "c"))
    assert JointSampler(wide, 5).batch(0, 1).xs.shape == (1, 5, 4, 6, 1)
    with pytest.raises(DataError, match="rotations need square images, split 'toy/wide' has 4x6 pixels"):
        JointSampler(wide, 5, rotations="per_example")


@pytest.mark.parametrize(("first", "tasks"), [(-1, 2), (0, 0)])
def test_impossible_batches_are_refused(first, tasks):
    with pytest.raises(DataError, match=f"got first={first}, tasks={tasks}"):
        JointSampler(tell_tale(), 5).batch(first, tasks)
