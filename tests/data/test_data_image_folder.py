"""Folders of class folders: which images end up where, and everything that has no place in one."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimeta import sources
from minimeta.data import PARTS, DataError, EpisodeSampler, image_folder, load, read_image
from minimeta.data.image_folder import channels_of, class_files

Image = pytest.importorskip("PIL.Image", reason="reading images needs Pillow")

CLASSES = ("ant", "bat", "cat", "dog", "elk", "fox", "gnu", "hen")
ENDINGS = ("png", "jpg", "bmp")


def put(path, level=100, size=(9, 9), colour=False):
    """One image of one level, its red half of it if in colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    value = (level // 2, level, level) if colour else level
    Image.new("RGB" if colour else "L", size, value).save(path)


def zoo(home, classes=CLASSES, images=3, colour=False):
    """A folder in which class k has images + k % 2 images of level 20 * k + i."""
    for k, name in enumerate(classes):
        for i in range(images + k % 2):
            put(home / name / f"{i}.{ENDINGS[k % 3]}", 20 * k + i, (9 + k, 9 + i), colour)
    return home


def test_classes_and_images_are_in_order_of_their_names(tmp_path):
    put(tmp_path / ".DS_Store" / "not-a-class.png")
    (tmp_path / "Thumbs.db").write_bytes(b"x")
    home = zoo(tmp_path)
    (home / "cat" / ".hidden").write_bytes(b"x")
    seen = {}
    for part in ("train", "val", "test"):
        data = image_folder.load(home, part, size=4)
        assert (data.name, data.split, data.images.dtype) == (tmp_path.name, part, np.uint8)
        assert data.images.shape == (len(data), max(data.counts), 4, 4, 1)
        assert list(data.names) == sorted(data.names)
        seen |= {name: (images, n) for name, images, n in zip(data.names, data.images, data.counts, strict=True)}
    assert sorted(seen) == list(CLASSES)
    for k, name in enumerate(CLASSES):
        images, n = seen[name]
        assert n == 3 + k % 2
        expected = [20 * k + i for i in range(n)] + [0] * (len(images) - n)
        assert np.abs(images.astype(int) - np.reshape(expected, (-1, 1, 1, 1))).max() <= 1


def test_images_are_those_that_read_image_gives(tmp_path):
    home = zoo(tmp_path, colour=True)
    data = load(str(home), "test", size=5, channels=3)
    for name, images in zip(data.names, data.images, strict=True):
        for i, path in enumerate(sorted((home / name).iterdir())):
            np.testing.assert_allclose(images[i] / 255, read_image(path, 5, 3), atol=0.51 / 255)


@given(st.integers(6, 200), st.integers(0, 2**32))
def test_classes_are_divided_by_seed(classes, seed):
    names = {f"class{k}": [] for k in range(classes)}
    parts = image_folder._divide(names, seed, "zoo")
    assert parts == image_folder._divide(names, seed, "zoo")
    assert sorted(itertools.chain(*parts.values())) == sorted(names)
    assert len({*itertools.chain(*parts.values())}) == classes
    for part, share in (("train", 0.64), ("val", 0.16), ("test", 0.2)):
        assert len(parts[part]) >= 2
        if classes > 12:
            assert abs(len(parts[part]) - share * classes) <= 1


def test_the_seed_matters_and_trainval_is_both(tmp_path):
    home = zoo(tmp_path)
    names = {part: set(image_folder.load(home, part).names) for part in PARTS}
    assert names["trainval"] == names["train"] | names["val"]
    assert names["trainval"] | names["test"] == set(CLASSES)
    assert any(set(image_folder.load(home, "test", seed=seed).names) != names["test"] for seed in range(1, 5))


def test_a_division_of_your_own_is_kept(tmp_path):
    own = {"train": CLASSES[:4], "val": CLASSES[4:5], "test": CLASSES[5:]}
    for part, classes in own.items():
        zoo(tmp_path / part, classes)
    for part, classes in own.items():
        assert image_folder.load(tmp_path, part).names == classes
    assert image_folder.load(tmp_path, "trainval").names == CLASSES[:5]


def test_channels_are_three_where_any_image_is_in_colour(tmp_path):
    home = zoo(tmp_path)
    assert channels_of(home) == 1
    put(home / "hen" / "9.png", colour=True)
    assert channels_of(home) == 3
    assert load(str(home), "train", channels=3).images.shape[-1] == 3


def test_channels_are_sought_in_every_part(tmp_path):
    for part, classes in (("train", ["ant"]), ("val", ["bat"]), ("test", ["cat"])):
        zoo(tmp_path / part, classes, colour=part == "test")
    assert channels_of(tmp_path) == 3


def test_episodes_come_from_a_folder(tmp_path):
    episodes, split = sources.source(str(zoo(tmp_path)), "train", 4, 1, 2, size=16)
    assert episodes.batch(0, 2).xq.shape == (2, 8, 16, 16, 1)
    assert split == "train"
    zoo(tmp_path, colour=True)
    colour = sources.source(str(tmp_path), "train", 4, 1, 2, channels=3).episodes.batch(0, 1).xs
    assert (colour[..., 0] < colour[..., 1]).all()


# what has no place


@pytest.mark.parametrize(
    ("episodes", "message"),
    [
        ((9, 1, 1), "9-way needs 9 classes, split 'trainval' has 6"),
        ((2, 1, 3), "1-shot with 3 queries needs 4 drawings per class, split 'trainval' has 3 of class '[a-z]{3}'"),
    ],
)
def test_too_little_for_the_episodes_is_refused(tmp_path, episodes, message):
    with pytest.raises(DataError, match=message):
        EpisodeSampler(load(str(zoo(tmp_path)), "trainval"), *episodes)


def refused(folder, message, part="train"):
    with pytest.raises(DataError, match=message) as caught:
        image_folder.load(folder, part)
    assert str(folder) in str(caught.value)


def test_too_few_classes_are_refused(tmp_path):
    refused(zoo(tmp_path, CLASSES[:1]), r"too few classes, 1 \(ant\), .* need at least 6, 2 for each")
    refused(zoo(tmp_path, CLASSES[:5]), r"too few classes, 5 \(ant, bat, cat, dog, elk\)")


def test_a_folder_without_class_folders_is_refused(tmp_path):
    refused(tmp_path, "no class folders; need one folder of images per class")
    put(tmp_path / "1.png")
    refused(tmp_path, "1.png: a file where class folders belong")


def test_stray_files_are_refused(tmp_path):
    (zoo(tmp_path) / "labels.csv").write_text("ant,1")
    refused(tmp_path, "labels.csv: a file where class folders belong")


def test_an_empty_class_folder_is_refused(tmp_path):
    (zoo(tmp_path) / "cow").mkdir()
    refused(tmp_path, "cow: no images in this class folder")


def test_a_folder_among_the_images_is_refused(tmp_path):
    put(zoo(tmp_path) / "ant" / "more" / "1.png")
    refused(tmp_path, "more: a folder where the images of class 'ant' belong")


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_an_unreadable_file_is_named(tmp_path, part):
    home = zoo(tmp_path)
    name = image_folder.load(home, part).names[0]
    (home / name / "9.png").write_text("no image")
    refused(home, f"{name}/9.png: not an image of a known format", part)
    with pytest.raises(DataError, match=r"9\.png"):
        channels_of(home)


def test_a_division_in_part_is_refused(tmp_path):
    zoo(tmp_path / "train")
    zoo(tmp_path / "test", ["yak"])
    refused(tmp_path, "has test, train; a division of your own needs train, val, test")
    zoo(tmp_path / "val", ["zho"])
    zoo(tmp_path / "extra", ["yak"])
    refused(tmp_path, "put them into train/, val/ and test/, and nothing beside")


def test_a_class_in_two_parts_is_refused(tmp_path):
    for part, classes in (("train", CLASSES), ("val", ["yak"]), ("test", ["bat", "zho"])):
        zoo(tmp_path / part, classes)
    for part in PARTS:
        refused(tmp_path, "class 'bat' is both in train and in test", part)


def test_links_out_of_the_folder_are_refused(tmp_path):
    home = zoo(tmp_path / "zoo")
    put(tmp_path / "secret.png")
    link = home / "ant" / "8.png"
    link.symlink_to(home / "bat" / "0.jpg")
    assert link in class_files(home)["ant"]
    link.unlink()
    link.symlink_to(tmp_path / "secret.png")
    refused(home, "8.png: leads outside")
    link.unlink()
    (home / "cow").symlink_to(home / "ant")
    refused(home, "cow: leads outside .* or to a folder")


def test_wrong_requests_are_refused(tmp_path):
    home = str(zoo(tmp_path))
    with pytest.raises(DataError, match="no part 'dev': choose from train, val, trainval, test"):
        load(home, "dev")
    with pytest.raises(DataError, match="has no split schemes, got split='lake'"):
        load(home, "train", split="lake")
    with pytest.raises(DataError, match=r"channels must be 1 \(grey\) or 3 \(RGB\), got 2"):
        load(home, "train", channels=2)
    with pytest.raises(DataError, match="size must be at least 1 pixel, got -1"):
        load(home, "train", size=-1)


@pytest.mark.parametrize("name", ["glyphs", "omniglot"])
def test_drawings_have_one_channel(name):
    with pytest.raises(DataError, match=f"{name} has 1 channel, got channels=3"):
        load(name, "val", channels=3)


def test_a_name_that_is_known_wins_over_a_folder(tmp_path, monkeypatch):
    zoo(tmp_path / "glyphs")
    monkeypatch.chdir(tmp_path)
    assert load("glyphs", "val").name == "glyphs"
    assert len(load("./glyphs", "trainval")) == 6


def test_what_is_neither_a_name_nor_a_folder_is_refused(tmp_path):
    for name in ("mnist", str(tmp_path / "none")):
        with pytest.raises(ValueError, match=r"unknown data .*, sinusoid, .* or name a folder"):
            sources.check(name)
        with pytest.raises(DataError, match="unknown dataset"):
            load(name, "train")
    for name in ("sinusoid", str(tmp_path)):
        sources.check(name)
