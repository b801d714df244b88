"""Properties of episode sampling."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimeta.data import ROTATIONS, DataError, EpisodeSampler, ImageClasses

CLASSES, DRAWINGS = 12, 10


def tell_tale(side=4, dtype=np.uint8, counts=None):
    """Images that tell who they are: corner pixels (class, drawing), the other corner marks the rotation."""
    images = np.zeros((CLASSES, DRAWINGS, side, side, 1), np.uint8)
    images[..., 0, 0, 0] = 100 + np.arange(CLASSES)[:, None]
    images[..., 1, 1, 0] = 1 + np.arange(DRAWINGS)
    if dtype == np.float32:
        images = images * np.float32(1 / 255)
    return ImageClasses("tell-tale", "toy/test", images, tuple(map(str, range(CLASSES))), counts=counts)


def read(images):
    """(class, drawing, quarter turns) of images [..., 4, 4, 1] of tell_tale()."""
    grey = np.rint(images[..., 0] * 255).astype(int)
    corners = np.stack([grey[..., 0, 0], grey[..., -1, 0], grey[..., -1, -1], grey[..., 0, -1]], axis=-1)
    inner = np.stack([grey[..., 1, 1], grey[..., -2, 1], grey[..., -2, -2], grey[..., 1, -2]], axis=-1)
    assert ((corners > 0).sum(axis=-1) == 1).all()
    return corners.max(axis=-1) - 100, inner.max(axis=-1) - 1, corners.argmax(axis=-1)


@st.composite
def samplers(draw, rotations=None):
    counts = draw(st.none() | st.tuples(*[st.integers(2, DRAWINGS)] * CLASSES))
    fewest = min(counts or [DRAWINGS])
    shot = draw(st.integers(1, fewest - 1))
    return EpisodeSampler(
        tell_tale(dtype=draw(st.sampled_from([np.uint8, np.float32])), counts=counts),
        way=draw(st.integers(2, CLASSES)),
        shot=shot,
        query=draw(st.integers(1, fewest - shot)),
        rotations=rotations or draw(st.sampled_from(ROTATIONS)),
        shuffle_support=draw(st.booleans()),
        seed=draw(st.integers(0, 2**70)),
    )


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@given(samplers(), st.integers(0, 1000), st.integers(1, 3))
def test_shapes_dtypes_and_range(sampler, first, tasks):
    xs, ys, xq, yq, n_way = sampler.batch(first, tasks)
    support, query = sampler.way * sampler.shot, sampler.way * sampler.query
    assert (xs.shape, ys.shape) == ((tasks, support, 4, 4, 1), (tasks, support))
    assert (xq.shape, yq.shape) == ((tasks, query, 4, 4, 1), (tasks, query))
    assert (xs.dtype, ys.dtype, xq.dtype, yq.dtype) == (np.float32, np.int64, np.float32, np.int64)
    assert n_way == sampler.way
    for x in (xs, xq):
        assert x.min() >= 0
        assert x.max() <= 1
    for y, count in ((ys, sampler.shot), (yq, sampler.query)):
        assert all((np.bincount(row, minlength=n_way) == count).all() for row in y)


@given(samplers(), st.integers(0, 1000))
def test_any_chunking_gives_the_same_episodes(sampler, first):
    whole = sampler.batch(first, 5)
    parts = [sampler.batch(first, 2), sampler.batch(first + 2, 1), sampler.batch(first + 3, 2)]
    assert same(whole[:4], [np.concatenate(arrays) for arrays in zip(*(part[:4] for part in parts), strict=True)])


@given(samplers(), st.integers(0, 1000))
def test_one_label_is_one_class_and_drawings_never_repeat(sampler, first):
    xs, ys, xq, yq, n_way = sampler.batch(first, 1)
    x, y = np.concatenate([xs[0], xq[0]]), np.concatenate([ys[0], yq[0]])
    kind, drawing, turn = read(x)
    identity = list(zip(kind, turn, strict=True)) if sampler.rotations == "fixed_classes" else list(kind)
    owner = {}
    for label, who in zip(y, identity, strict=True):
        assert owner.setdefault(label, who) == who
    assert len(set(owner.values())) == n_way
    assert len(set(zip(y, drawing, strict=True))) == len(y)


@given(samplers(), st.integers(0, 1000))
def test_padding_is_never_drawn(sampler, first):
    xs, _, xq, _, _ = sampler.batch(first, 2)
    kind, drawing, _ = read(np.concatenate([xs, xq], axis=1))
    assert (drawing < sampler.counts[kind]).all()


def test_every_image_of_a_small_and_of_a_large_class_comes_up_as_often():
    counts = (3, DRAWINGS) * (CLASSES // 2)
    kind, drawing, _ = read(EpisodeSampler(tell_tale(counts=counts), CLASSES, 1, 2).batch(0, 500).xq)
    for number, count in enumerate(counts):
        expected = 2 * 500 / count
        shown = np.bincount(drawing[kind == number], minlength=count)
        assert len(shown) == count
        assert (np.abs(shown - expected) < 5 * np.sqrt(expected)).all()


def test_counts_that_are_all_alike_change_nothing():
    one, other = (EpisodeSampler(tell_tale(counts=c), 5, 2, 3).batch(0, 4) for c in (None, (DRAWINGS,) * CLASSES))
    assert same(one[:4], other[:4])


@given(samplers(), st.integers(0, 1000))
def test_a_class_shares_its_rotation(sampler, first):
    xs, ys, xq, yq, n_way = sampler.batch(first, 1)
    turn = read(np.concatenate([xs[0], xq[0]]))[2]
    y = np.concatenate([ys[0], yq[0]])
    per_class = [set(turn[y == label]) for label in range(n_way)]
    assert all(len(turns) == 1 for turns in per_class)
    if sampler.rotations == "none":
        assert set(turn) == {0}
    if sampler.rotations == "per_episode":
        assert len(set(turn)) == 1


@pytest.mark.parametrize("rotations", ROTATIONS)
def test_every_class_and_rotation_comes_up_as_often(rotations):
    sampler = EpisodeSampler(tell_tale(), 5, 1, 1, rotations=rotations)
    kind, _, turn = (column.T[0] for column in read(sampler.batch(0, 4000).xs))
    table = np.zeros((CLASSES, 4))
    np.add.at(table, (kind, turn), 1)
    table = table[:, :1] if rotations == "none" else table
    expected = 4000 / table.size
    assert (np.abs(table - expected) < 5 * np.sqrt(expected)).all()
    turns = table.sum(axis=0)
    assert (np.abs(turns - turns.mean()) < 5 * np.sqrt(turns.mean())).all()


def test_fixed_classes_may_meet_a_character_twice_and_per_class_random_never():
    meets = {}
    for rotations in ("fixed_classes", "per_class_random"):
        kind = read(EpisodeSampler(tell_tale(), 8, 1, 1, rotations=rotations).batch(0, 50).xs)[0]
        meets[rotations] = any(len(set(row)) < 8 for row in kind)
    assert meets == {"fixed_classes": True, "per_class_random": False}


def test_fixed_classes_offers_four_times_the_classes():
    sampler = EpisodeSampler(tell_tale(), 4 * CLASSES, 1, 1, rotations="fixed_classes")
    kind, _, turn = read(sampler.batch(0, 1).xs)
    assert len(set(zip(kind[0], turn[0], strict=True))) == 4 * CLASSES


def test_labels_are_drawn_anew():
    kind = read(EpisodeSampler(tell_tale(), CLASSES, 1, 1).batch(0, 300).xs)[0]
    # with all classes in every episode, only the labels can differ: each class gets each label about 25 times
    counts = np.stack([np.bincount(column, minlength=CLASSES) for column in kind.T])
    assert counts.min() > 5
    assert counts.max() < 55


def test_support_is_class_major_and_shuffling_changes_order_alone():
    ordered = EpisodeSampler(tell_tale(), 5, 3, 2, seed=7).batch(0, 20)
    shuffled = EpisodeSampler(tell_tale(), 5, 3, 2, seed=7, shuffle_support=True).batch(0, 20)
    assert (ordered.ys == np.repeat(np.arange(5), 3)).all()
    assert same((ordered.xq, ordered.yq), (shuffled.xq, shuffled.yq))
    orders = set()
    for task in range(20):
        pairs = [
            sorted(zip(*(r.tolist() for r in read(e.xs[task])), e.ys[task].tolist(), strict=True))
            for e in (ordered, shuffled)
        ]
        assert pairs[0] == pairs[1]
        orders.add(tuple(shuffled.ys[task]))
    assert len(orders) > 15


def test_seeds_and_numbers_give_other_episodes():
    a, b = (EpisodeSampler(tell_tale(), 5, 1, 1, seed=seed) for seed in (0, 1))
    assert not np.array_equal(a.batch(0, 4).xs, b.batch(0, 4).xs)
    assert not np.array_equal(a.batch(0, 4).xs, a.batch(4, 4).xs)


def test_constant_scores_score_one_in_n():
    yq = EpisodeSampler(tell_tale(), 5, 1, 3).batch(0, 10).yq
    scores = np.zeros((*yq.shape, 5))
    assert (scores.argmax(axis=-1) == yq).mean() == pytest.approx(1 / 5)


def test_the_dataset_is_not_written_to():
    dataset = tell_tale(dtype=np.float32)
    before = dataset.images.copy()
    episode = EpisodeSampler(dataset, 5, 1, 1, rotations="per_class_random").batch(0, 5)
    episode.xs[:] = 9
    assert np.array_equal(dataset.images, before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"way": 20}, "20-way needs 20 classes, split 'toy/test' has 12"),
        ({"way": 49, "rotations": "fixed_classes"}, "49-way needs 49 classes, split 'toy/test' has 48"),
        ({"query": 25}, "1-shot with 25 queries needs 26 drawings per class, split 'toy/test' has 10"),
        ({"way": 1}, "way must be at least 2, got 1"),
        ({"shot": 0}, "shot must be at least 1, got 0"),
        ({"query": -1}, "query must be at least 0, got -1"),
        ({"rotations": "some"}, "unknown rotations 'some': choose from none, fixed_classes, per_class_random"),
    ],
)
def test_impossible_samplers_are_refused(options, message):
    with pytest.raises(DataError, match=message):
        EpisodeSampler(tell_tale(), **{"way": 5, "shot": 1, "query": 5} | options)


def test_the_class_that_is_too_small_is_named():
    counts = tuple(DRAWINGS - (k == 7) for k in range(CLASSES))
    with pytest.raises(DataError, match="needs 10 drawings per class, split 'toy/test' has 9 of class '7'"):
        EpisodeSampler(tell_tale(counts=counts), 5, 1, 9)
    EpisodeSampler(tell_tale(counts=counts), 5, 1, 8)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ((2, 3), "2 counts for 3 classes"),
        ((2, 5, 1), "'b' cannot have 5 of 4"),
        ((2, 3, -1), "'c' cannot have -1 of 4"),
    ],
)
def test_impossible_counts_are_refused(counts, message):
    with pytest.raises(DataError, match=message):
        ImageClasses("bad", "all", np.zeros((3, 4, 8, 8, 1), np.uint8), ("a", "b", "c"), counts=counts)


def test_rotations_need_square_images():
    wide = ImageClasses("wide", "toy/wide", np.zeros((3, 2, 4, 6, 1), np.uint8), ("a", "b", "c"))
    assert EpisodeSampler(wide, 2, 1, 1).batch(0, 1).xs.shape == (1, 2, 4, 6, 1)
    with pytest.raises(DataError, match="rotations need square images, split 'toy/wide' has 4x6 pixels"):
        EpisodeSampler(wide, 2, 1, 1, rotations="per_episode")


@pytest.mark.parametrize(("first", "tasks"), [(-1, 2), (0, 0)])
def test_impossible_batches_are_refused(first, tasks):
    with pytest.raises(DataError, match=f"got first={first}, tasks={tasks}"):
        EpisodeSampler(tell_tale(), 5, 1, 1).batch(first, tasks)


@pytest.mark.parametrize(
    ("images", "names", "message"),
    [
        (np.zeros((2, 3, 4, 4), np.uint8), ("a", "b"), "shape"),
        (np.zeros((2, 3, 4, 4, 1)), ("a", "b"), "dtype uint8 or float32, got float64"),
        (np.zeros((2, 3, 4, 4, 1), np.uint8), ("a",), "1 names for 2 classes"),
    ],
)
def test_inconsistent_image_classes_are_refused(images, names, message):
    with pytest.raises(DataError, match=message):
        ImageClasses("bad", "all", images, names)
