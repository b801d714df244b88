"""Omniglot: downloads and offline errors on this machine alone, splits on the real data where it is present."""

import hashlib
import os
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from minimeta.data import PARTS, DataError, EpisodeSampler, load, omniglot, parse_split
from minimeta.data.cache import cache_folder, fetch

DATA = os.environ.get("MINIMETA_DATA")
real = pytest.mark.skipif(
    not (DATA and Path(DATA, "omniglot", "images_background.zip").exists() and find_spec("PIL")),
    reason="needs Pillow and the real Omniglot: set MINIMETA_DATA to the folder that holds omniglot/",
)


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    """One cache folder for this module: the real archives are decoded once."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIMETA_CACHE", str(folder))
        yield folder


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIMETA_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MINIMETA_DATA", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def server(tmp_path):
    """A web server on this machine: (folder it serves, its address)."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{http.server_address[1]}"
        http.shutdown()
        thread.join()


def files_under(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


# downloading


def test_a_download_is_verified_and_kept(server, empty_cache):
    pytest.importorskip("pooch", reason="downloading needs pooch")
    folder, address = server
    (folder / "list.txt").write_bytes(b"right")
    known = f"sha256:{hashlib.sha256(b'right').hexdigest()}"
    path = fetch(empty_cache / "omniglot" / "list.txt", f"{address}/list.txt", known, "advice")
    assert path.read_bytes() == b"right"
    (folder / "list.txt").unlink()
    assert fetch(path, f"{address}/list.txt", known, "advice") == path
    assert files_under(empty_cache) == [path]


def test_a_damaged_file_in_the_cache_is_fetched_again(server, empty_cache):
    pytest.importorskip("pooch", reason="downloading needs pooch")
    folder, address = server
    (folder / "list.txt").write_bytes(b"right")
    empty_cache.mkdir()
    (empty_cache / "list.txt").write_bytes(b"wrong")
    known = f"md5:{hashlib.md5(b'right').hexdigest()}"
    assert fetch(empty_cache / "list.txt", f"{address}/list.txt", known, "advice").read_bytes() == b"right"


@pytest.mark.parametrize("served", [b"<html>Sorry</html>", None])
def test_a_wrong_download_never_enters_the_cache(server, empty_cache, served):
    pytest.importorskip("pooch", reason="downloading needs pooch")
    folder, address = server
    if served:
        (folder / "a.zip").write_bytes(served)
    with pytest.raises(DataError, match=r"cannot download http://127.*a\.zip: .*; do this instead"):
        fetch(empty_cache / "a.zip", f"{address}/a.zip", f"md5:{'0' * 32}", "do this instead")
    assert files_under(empty_cache) == []


def test_without_a_network_the_error_says_where_to_put_the_files(empty_cache, monkeypatch):
    pytest.importorskip("pooch", reason="downloading needs pooch")
    nowhere = omniglot.Archive("images_background", 964, "0" * 64, "http://127.0.0.1:9/images_background.zip", "0" * 32)
    monkeypatch.setattr(omniglot, "BACKGROUND", nowhere)
    with pytest.raises(DataError) as caught:
        load("omniglot", "train", split="lake")
    for hint in (nowhere.url, "DIR/omniglot/images_background.zip", "data_dir", "--data-dir", "$MINIMETA_DATA"):
        assert hint in str(caught.value)
    assert files_under(empty_cache) == []


def test_without_pooch_the_error_names_the_extra(empty_cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match=r"needs pooch: pip install 'minimeta\[train\]'"):
        load("omniglot", "train", split="lake")


# what is asked for


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"part": "dev"}, "omniglot has no part 'dev': choose from train, val, trainval, test"),
        ({"split": "mine"}, "omniglot has no split 'mine': choose from vinyals, random1200, lake"),
        ({"size": 7}, "size must be 8 to 105 pixels, got 7"),
        ({"size": 106}, "size must be 8 to 105 pixels, got 106"),
        ({"data_dir": "no/such/folder"}, "no/such/folder/omniglot: no such folder"),
        ({"name": "mnist"}, "unknown dataset 'mnist': choose from omniglot, glyphs"),
        ({"name": "glyphs", "split": "lake"}, "glyphs has no split schemes"),
    ],
)
def test_impossible_requests_are_refused(empty_cache, options, message):
    with pytest.raises(DataError, match=message):
        load(**{"name": "omniglot", "part": "train"} | options)


@pytest.mark.parametrize("text", ["", "/", "vinyals/", "/test", "vinyals/dev", "mine/test", "test/vinyals", "a/b/c"])
def test_malformed_splits_are_refused(text):
    with pytest.raises(DataError, match="unknown split"):
        parse_split(text)


def test_the_cache_folder_follows_the_environment(monkeypatch):
    monkeypatch.delenv("MINIMETA_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "elsewhere")
    assert cache_folder() == Path("elsewhere/minimeta")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache_folder() == Path.home() / ".cache" / "minimeta"


def test_importing_and_generating_need_numpy_alone():
    program = (
        "import sys, numpy.random, minimeta; before = set(sys.modules); import minimeta.data as d;"
        "d.EpisodeSampler(d.load('glyphs', 'val'), 5, 1, 1).batch(0, 1);"
        "new = {m.partition('.')[0] for m in set(sys.modules) - before} - set(sys.stdlib_module_names);"
        "print(*sorted(new - {'numpy', 'minimeta'}))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.split() == []


# the real data


@real
def test_split_sizes():
    assert [len(load("omniglot", part, split="vinyals")) for part in PARTS] == [1028, 172, 1200, 423]
    assert [len(load("omniglot", part, split="random1200")) for part in PARTS] == [1100, 100, 1200, 423]
    lake = [load("omniglot", part, split="lake") for part in PARTS]
    assert [len(set(part.groups)) for part in lake] == [25, 5, 30, 20]
    assert (len(lake[2]), len(lake[3])) == (964, 659)


@real
@pytest.mark.parametrize("scheme", ["vinyals", "random1200", "lake"])
@pytest.mark.parametrize("seed", [0, 1])
def test_parts_are_disjoint_and_trainval_is_train_and_val(scheme, seed):
    train, val, trainval, test = (set(load("omniglot", part, split=scheme, seed=seed).names) for part in PARTS)
    assert train | val == trainval
    assert not train & val
    assert not trainval & test


@real
def test_only_gurmukhi_is_in_both_train_and_test_of_vinyals():
    train, val, _, test = (set(load("omniglot", part, split="vinyals").groups) for part in PARTS)
    assert train & test == {"Gurmukhi"}
    assert not val & (train | test)
    assert (len(train), len(val), len(test)) == (33, 5, 13)


@real
def test_the_published_lists_have_four_rotations_of_each_character():
    for part in PARTS:
        lines = Path(DATA, "omniglot", "splits", "vinyals", f"{part}.txt").read_text().split()
        names = load("omniglot", part, split="vinyals").names
        assert sorted(lines) == sorted(f"{name}/rot{turn}" for name in names for turn in ("000", "090", "180", "270"))


@real
def test_vinyals_is_the_default_where_its_lists_are_at_hand(tmp_path):
    (tmp_path / "omniglot").mkdir()
    shutil.rmtree(cache_folder() / "omniglot" / "splits", ignore_errors=True)
    assert load("omniglot", "val", data_dir=tmp_path).split == "random1200/val"
    for part in PARTS:  # a list that was read once is at hand from then on
        assert load("omniglot", part, split="vinyals").split == f"vinyals/{part}"
    assert load("omniglot", "val", data_dir=tmp_path).split == "vinyals/val"


@real
def test_a_changed_list_is_refused(tmp_path):
    lists = tmp_path / "omniglot" / "splits" / "vinyals"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("Hebrew/character01/rot000\n")
    with pytest.raises(DataError, match=r"val\.txt: not the published list"):
        load("omniglot", "val", split="vinyals", data_dir=tmp_path)


@real
def test_seeds_change_random_splits_alone():
    for scheme, changes in (("vinyals", False), ("random1200", True), ("lake", True)):
        a, b = (load("omniglot", "val", split=scheme, seed=seed).names for seed in (0, 1))
        assert (a != b) is changes


@real
def test_a_character_is_the_same_in_every_split():
    by_split = [load("omniglot", "trainval", split=scheme) for scheme in ("vinyals", "random1200", "lake")]
    pictures = [dict(zip(d.names, d.images, strict=True)) for d in by_split]
    common = set.intersection(*map(set, pictures))
    assert len(common) > 500
    for name in common:
        assert np.array_equal(pictures[0][name], pictures[1][name])
        assert np.array_equal(pictures[0][name], pictures[2][name])


@real
def test_images_are_bright_ink_on_black_and_feed_the_sampler():
    dataset = load("omniglot", "test", split="vinyals")
    assert dataset.images.shape == (423, 20, 28, 28, 1)
    assert dataset.images.dtype == np.uint8
    assert 0.05 < dataset.images.mean() / 255 < 0.12
    assert dataset.names[0].partition("/")[0] == dataset.groups[0]
    episode = EpisodeSampler(dataset, 20, 1, 5, rotations="fixed_classes").batch(0, 2)
    assert episode.xs.shape == (2, 20, 28, 28, 1)
    with pytest.raises(DataError, match="needs 26 drawings per class, split 'vinyals/test' has 20"):
        EpisodeSampler(dataset, 5, 1, 25)


@real
def test_what_was_read_from_a_folder_is_at_hand_without_it(monkeypatch, tmp_path):
    monkeypatch.setenv("MINIMETA_CACHE", str(tmp_path))
    here = omniglot.load("val", split="vinyals")
    monkeypatch.delenv("MINIMETA_DATA")
    again = omniglot.load("val", split="vinyals")
    assert again.names == here.names
    np.testing.assert_array_equal(again.images, here.images)
