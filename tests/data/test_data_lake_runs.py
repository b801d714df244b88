"""Lake's one-shot runs: read from a zip file and a folder, and every kind of damage named with its run and file."""

import io
import re
import zipfile
from functools import cache
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimeta.data import DataError
from minimeta.data.drawings import SIDE
from minimeta.data.lake_runs import CLASSES, ITEMS, LakeRuns

if not find_spec("PIL"):
    pytest.skip("decoding drawings needs Pillow", allow_module_level=True)

RUNS = 3


def png(ink, mode="1"):
    """The PNG file of a drawing, dark ink on white."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.where(ink, 0, 255).astype(np.uint8)).convert(mode).save(file, "PNG")
    return file.getvalue()


@cache
def drawings():
    """Ink of each run's classes and items [RUNS, 40, SIDE, SIDE], in blocks of 5 pixels so that resizing keeps it."""
    return np.kron(np.random.default_rng(0).random((RUNS, 40, 21, 21)) < 0.3, np.ones((5, 5))) > 0


@cache
def answers():
    """The class [RUNS, 20] of each item."""
    return np.stack([np.random.default_rng(run).permutation(20) for run in range(RUNS)])


@cache
def genuine():
    made = {}
    for run in range(RUNS):
        name = f"run{run + 1:02d}"
        for file, ink in zip(CLASSES + ITEMS, drawings()[run], strict=True):
            made[f"{name}/{file}"] = png(ink)
        lines = [f"{name}/{ITEMS[i]} {name}/{CLASSES[c]}\n" for i, c in enumerate(answers()[run])]
        made[f"{name}/class_labels.txt"] = "".join(lines).encode()
    return made


@pytest.fixture
def files():
    """Path -> content of three genuine runs, to be tampered with."""
    return dict(genuine())


def pack(path, files):
    with zipfile.ZipFile(path, "w") as file:
        for name, content in files.items():
            file.writestr(name, content)
    return path


def unpack(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def under(top, files):
    return {f"{top}/{name}": content for name, content in files.items()}


def same(a, b):
    return a.n_way == b.n_way and all(np.array_equal(x, y) for x, y in zip(a[:4], b[:4], strict=True))


def test_each_run_is_an_episode_with_the_drawings_as_they_are(tmp_path, files):
    runs = LakeRuns(pack(tmp_path / "all_runs.zip", files), size=SIDE)
    assert len(runs) == RUNS
    episode = runs.batch(0, RUNS)
    assert [array.shape for array in episode[:4]] == [(3, 20, 105, 105, 1), (3, 20)] * 2
    assert (episode.xs.dtype, episode.yq.dtype, episode.n_way) == (np.float32, np.int64, 20)
    np.testing.assert_array_equal(episode.xs[..., 0], drawings()[:, :20])
    np.testing.assert_array_equal(episode.xq[..., 0], drawings()[:, 20:])
    np.testing.assert_array_equal(episode.ys, np.tile(np.arange(20), (RUNS, 1)))
    np.testing.assert_array_equal(episode.yq, answers())
    assert same(runs.batch(1, 2), episode.tasks(slice(1, 3)))


def test_drawings_become_as_small_as_asked(tmp_path, files):
    episode = LakeRuns(pack(tmp_path / "all_runs.zip", files), size=21).batch(0, RUNS)
    blocks = drawings()[:, :20, 2::5, 2::5, None]
    assert episode.xs.shape == blocks.shape
    assert episode.xs.min() == 0
    assert episode.xs.max() == 1
    assert np.corrcoef(episode.xs.ravel(), blocks.ravel())[0, 1] > 0.95


def test_wherever_they_lie_they_are_the_same(tmp_path, files):
    expected = LakeRuns(pack(tmp_path / "all_runs.zip", files), size=28).batch(0, RUNS)
    beside = {"README.txt": b"", "run01/notes.txt": b"", "__MACOSX/run01/training/._class01.png": b""}
    for source in (
        unpack(tmp_path / "all_runs", files),
        unpack(tmp_path / "outer", under("all_runs", files)),
        unpack(tmp_path / "run07", under("runs", files)),
        pack(tmp_path / "top.zip", under("all_runs", files | beside)),
    ):
        assert same(LakeRuns(source, size=28).batch(0, RUNS), expected), source


@pytest.mark.parametrize("prefix", ["", "all_runs/run02/", "./run02/", "/somewhere else/run02/"])
def test_labels_may_name_other_folders_or_none(tmp_path, files, prefix):
    content = files["run02/class_labels.txt"].decode().replace("run02/", prefix).replace("\n", "\r\n")
    files["run02/class_labels.txt"] = content.encode()
    source = pack(tmp_path / "runs.zip", files)
    if " " in prefix:
        with pytest.raises(DataError, match=r"run02/class_labels.txt: '.*' is not run02/test/itemMM.png"):
            LakeRuns(source, size=8)
    else:
        np.testing.assert_array_equal(LakeRuns(source, size=8).batch(0, RUNS).yq, answers())


def test_for_learners_in_sequence_every_support_set_has_an_order_of_its_own(tmp_path, files):
    source = pack(tmp_path / "runs.zip", files)
    plain, shuffled = (
        LakeRuns(source, size=8).batch(0, RUNS),
        LakeRuns(source, size=8, shuffle_support=True).batch(0, RUNS),
    )
    assert len({tuple(labels) for labels in [*shuffled.ys, *plain.ys]}) == RUNS + 1
    for run in range(RUNS):
        np.testing.assert_array_equal(shuffled.xs[run], plain.xs[run][shuffled.ys[run]])
    np.testing.assert_array_equal(shuffled.xq, plain.xq)
    np.testing.assert_array_equal(shuffled.yq, plain.yq)
    assert same(LakeRuns(source, size=8, shuffle_support=True).batch(0, RUNS), shuffled)


@given(st.sampled_from(sorted(genuine())))
def test_no_file_may_be_missing(tmp_path_factory, name):
    source = pack(tmp_path_factory.mktemp("lake") / "runs.zip", {n: c for n, c in genuine().items() if n != name})
    with pytest.raises(DataError, match=rf"runs\.zip: {re.escape(name)} is missing"):
        LakeRuns(source, size=8)


def without_run(run, files):
    return {name: content for name, content in files.items() if not name.startswith(run)}


def relabelled(files, old, new):
    return {"run02/class_labels.txt": re.sub(old, new, files["run02/class_labels.txt"].decode()).encode()}


BLANK = np.zeros((SIDE, SIDE), bool)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda files: {"run02/training/class21.png": png(BLANK)}, r"unexpected run02/training/class21\.png"),
        (lambda files: {"run02/test/deep/item01.png": b""}, r"unexpected run02/test/deep/item01\.png"),
        (lambda files: {"run03/test/item05.png": b"GIF89a"}, r"run03/test/item05\.png: not a PNG file"),
        (
            lambda files: {"run03/test/item05.png": files["run03/test/item05.png"][:60]},
            r"run03/test/item05\.png: cannot",
        ),
        (lambda files: {"run01/training/class02.png": png(BLANK[:28, :28])}, r"class02\.png: 28x28 pixels"),
        (lambda files: {"run01/training/class02.png": png(BLANK, "RGB")}, r"run01/training/class02\.png: PNG mode RGB"),
        (lambda files: {"run01/training/class02.png": bytes(70_000)}, r"run01/training/class02\.png'?: larger"),
        (lambda files: {"run02/class_labels.txt": b""}, r"run02/class_labels\.txt: 0 items of 0 classes"),
        (
            lambda files: {"run02/class_labels.txt": b"\xff\xfe\x00"},
            r"run02/class_labels\.txt: '.*' is not run02/test/",
        ),
        (lambda files: relabelled(files, "item07", "item08"), r"run02/class_labels\.txt: 19 items of 19 classes"),
        (lambda files: relabelled(files, "class07", "class08"), r"run02/class_labels\.txt: 20 items of 19 classes"),
        (lambda files: relabelled(files, "class07", "class77"), r"run02/class_labels\.txt: '.*class77\.png' is not"),
        (
            lambda files: relabelled(files, "run02", "run03"),
            r"run02/class_labels\.txt: 'run03/test/item01.png .*' is not",
        ),
        (
            lambda files: relabelled(files, r"item07\.png .*", "item07.png"),
            r"run02/class_labels\.txt: '.*item07\.png' is",
        ),
        (lambda files: {"copy/run01/class_labels.txt": b""}, "has runs in several folders: "),
    ],
)
def test_damage_is_named_by_run_and_file(tmp_path, files, damage, message):
    files.update(damage(files))
    for source in (pack(tmp_path / "runs.zip", files), unpack(tmp_path / "all", files)):
        with pytest.raises(DataError, match=message) as caught:
            LakeRuns(source, size=8)
        assert str(source) in str(caught.value)


def test_runs_are_numbered_from_1_and_at_least_2(tmp_path, files):
    with pytest.raises(DataError, match="has run03 but no run02"):
        LakeRuns(pack(tmp_path / "gap.zip", without_run("run02", files)), size=8)
    with pytest.raises(DataError, match="has run02 but no run01"):
        LakeRuns(pack(tmp_path / "late.zip", without_run("run01", files)), size=8)
    alone = without_run("run02", without_run("run03", files))
    with pytest.raises(DataError, match=r"has 1 runs .*, need at least 2"):
        LakeRuns(pack(tmp_path / "one.zip", alone), size=8)
    with pytest.raises(DataError, match="has 0 runs"):
        LakeRuns(unpack(tmp_path / "other", {"cats/1.png": b""}), size=8)
    with pytest.raises(DataError, match=r"none\.zip: cannot be read"):
        LakeRuns(tmp_path / "none.zip", size=8)
