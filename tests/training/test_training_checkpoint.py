"""Checkpoints: round trips, and every kind of damage named."""

import json
import re

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minimeta import checkpoint, tree
from minimeta.checkpoint import CheckpointError

arrays = hnp.arrays(
    st.sampled_from([np.float32, np.float64, np.int64, np.uint8, np.bool_]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)
keys = st.text(min_size=1, max_size=5).filter(lambda key: "/" not in key)
trees = st.recursive(
    arrays, lambda children: st.dictionaries(keys, children, max_size=3) | st.lists(children, max_size=3), max_leaves=6
)
metadata = st.dictionaries(st.text(max_size=5), st.none() | st.integers() | st.floats(allow_nan=False) | st.text())


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("checkpoints") / "model.safetensors"


@settings(max_examples=50)
@given(values=trees, record=metadata)
def test_round_trip(path, values, record):
    checkpoint.save(path, values, record)
    first = path.read_bytes()
    loaded, found = checkpoint.load(path, like=values)
    assert found == record
    assert tree.map(lambda leaf: 0, loaded) == tree.map(lambda leaf: 0, values)
    for a, b in zip(tree.leaves(loaded), tree.leaves(values), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    checkpoint.save(path, loaded, found)
    assert path.read_bytes() == first
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_numbers_tuples_and_views_are_kept_by_value(path):
    base = np.arange(12.0).reshape(3, 4)
    checkpoint.save(path, {"step": 3, "views": (base.T, base[:, ::2], base.astype(">f4"))})
    loaded, _ = checkpoint.load(path)
    assert loaded["step"].shape == ()
    for a, b in zip(loaded["views"], (base.T, base[:, ::2], base), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("values", [{"a/b": np.ones(1)}, {"x": {1: np.ones(1)}}])
def test_keys_that_cannot_be_names_are_refused(path, values):
    with pytest.raises(ValueError, match="keys are strings without '/'"):
        checkpoint.save(path, values)


PARAMS = {"net": {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros(3, np.float32)}}


@pytest.fixture
def saved(tmp_path):
    file = tmp_path / "model.safetensors"
    checkpoint.save(file, PARAMS, {"step": 1})
    return file


def test_every_truncation_is_an_error_that_names_the_file(saved):
    whole = saved.read_bytes()
    for size in range(0, len(whole), 7):
        saved.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match=re.escape(str(saved))):
            checkpoint.load(saved)
    saved.write_bytes(whole + b"x")
    with pytest.raises(CheckpointError, match="bytes"):
        checkpoint.load(saved)


def damage(file):
    """What `load` finds wrong with the file, or None: then it holds what was saved."""
    try:
        values, _ = checkpoint.load(file, like=PARAMS)
    except CheckpointError as error:
        return str(error)
    tree.map(np.testing.assert_array_equal, values, PARAMS)
    return None


def test_every_flipped_bit_is_an_error_that_names_the_file(saved):
    whole = saved.read_bytes()
    rng = np.random.default_rng(0)
    header = int.from_bytes(whole[:8], "little")
    unharmed = []
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(rng.integers(8))
        saved.write_bytes(damaged)
        message = damage(saved)
        if message is None:  # blank padding of the header, say: then the content is what was saved
            unharmed.append(position)
        else:
            assert str(saved) in message
    assert all(position < 8 + header for position in unharmed)
    assert len(unharmed) < 16


@pytest.mark.parametrize(
    ("like", "message"),
    [
        ({"net": {**PARAMS["net"], "v": np.ones(1)}}, "tensor 'net/v' is missing"),
        ({"net": {"w": PARAMS["net"]["w"]}}, "tensor 'net/b' is one too many"),
        ({"net": {**PARAMS["net"], "w": np.ones((3, 2))}}, r"tensor 'net/w' has shape \(2, 3\); need \(3, 2\)"),
        ({"net": {**PARAMS["net"], "w": np.ones((2, 3))}}, "tensor 'net/w' has dtype float32; need float64"),
    ],
)
def test_another_tree_than_expected_names_the_tensor(saved, like, message):
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(saved, like=like)


def test_missing_and_foreign_files(tmp_path):
    with pytest.raises(CheckpointError, match=r"no\.safetensors: cannot be read: No such file"):
        checkpoint.load(tmp_path / "no.safetensors")
    with pytest.raises(CheckpointError, match="cannot be read: Is a directory"):
        checkpoint.load(tmp_path)
    file = tmp_path / "page.html"
    file.write_text("<html>not found</html>")
    with pytest.raises(CheckpointError, match=r"damaged or no safetensors file \(22 bytes\)"):
        checkpoint.load(file)
    file.write_bytes(safetensors.numpy.save({"w": np.ones(2)}))
    with pytest.raises(CheckpointError, match="none written by minimeta"):
        checkpoint.load(file)


def _rewrite(file, change):
    """Change the minimeta entry of a file in a way that safetensors itself accepts."""
    content = file.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    tensors = safetensors.numpy.load(content)
    record = json.loads(header["__metadata__"]["minimeta"])
    change(record, tensors)
    file.write_bytes(safetensors.numpy.save(tensors, {"minimeta": json.dumps(record)}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record, tensors: tensors.pop("net/b"), "tensor 'net/b' is missing"),
        (lambda record, tensors: tensors["net/w"].fill(0), "digest"),
        (lambda record, tensors: record["metadata"].update(step=2), "digest"),
        (lambda record, tensors: record.pop("digest"), "lacks 'digest'"),
        (lambda record, tensors: record.update(format=99), "format 99"),
    ],
)
def test_tampered_content_is_named(saved, change, message):
    _rewrite(saved, change)
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(saved)


def test_a_failed_write_leaves_the_old_file(saved, monkeypatch):
    before = saved.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(saved, {"w": np.ones(3)})
    assert saved.read_bytes() == before


def test_json_round_trip_and_damage(tmp_path):
    file = tmp_path / "config.json"
    checkpoint.write_json(file, {"lr": 0.1 + 0.2})
    assert checkpoint.read_json(file) == {"lr": 0.1 + 0.2}
    file.write_text('{"lr": 0.')
    with pytest.raises(CheckpointError, match=r"config.json: damaged: not JSON"):
        checkpoint.read_json(file)
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint.read_json(tmp_path / "none.json")
