"""Trees of arrays on disk: one safetensors file, written whole or not at all, and checked when read.

A file is the only thing ever replaced: the new content is written beside it, flushed to the disk, and renamed over it.
Names of tensors are the tree's paths joined by '/'. One metadata entry, "minimeta", holds as JSON the tree's structure,
the caller's metadata and a digest of all content: a single entry, because safetensors stores several in random order
and equal checkpoints shall be equal bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from minimeta import backend, tree
from minimeta.torch_layout import from_torch_layout as from_torch_layout

FORMAT = 1
ENTRY = "minimeta"


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, foreign, or of another shape than expected; the message names the file.

    >>> issubclass(CheckpointError, ValueError)
    True
    """


def save(path: str | os.PathLike[str], values: Any, metadata: dict[str, Any] | None = None) -> None:
    """Write a tree (nested dicts and lists of arrays or numbers) and JSON-able `metadata` to `path`, atomically.

    Tuples come back as lists, numbers as 0-d arrays. Raises ValueError for a key that is no string or holds '/'.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/model.safetensors", {"w": np.ones(2), "layers": [np.zeros(1)]}, {"step": 7})
    ...     load(f"{folder}/model.safetensors")
    ({'w': array([1., 1.]), 'layers': [array([0.])]}, {'step': 7})
    """
    values = backend.asnumpy(values)
    _check_keys(values)
    # safetensors reads memory as it lies, so it must lie in order; ascontiguousarray would turn 0-d into 1-d
    tensors = {
        "/".join(place): np.array(leaf, leaf.dtype.newbyteorder("="), order="C") for place, leaf in tree.items(values)
    }
    record = {"format": FORMAT, "structure": tree.map(lambda leaf: 0, values), "metadata": metadata or {}}
    record["digest"] = _digest(tensors, record)
    write_bytes(Path(path), safetensors.numpy.save(tensors, {ENTRY: json.dumps(record)}))


def load(path: str | os.PathLike[str], like: Any = None) -> tuple[Any, dict[str, Any]]:
    """The tree and the metadata that `save` wrote; with `like`, only a tree of the same names, shapes and dtypes.

    Raises CheckpointError, naming the file and what is wrong, for anything but an intact file of `save`.
    """
    path = Path(path)
    tensors, record = _read(path)
    try:
        names = ["/".join(place) for place, _ in tree.items(record["structure"])]
        digest = record["digest"]
        intact = {key: record[key] for key in ("format", "structure", "metadata")}
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: damaged: its minimeta entry lacks {error}") from error
    if record["format"] != FORMAT:
        raise CheckpointError(f"{path}: format {record['format']!r}; this version of minimeta reads format {FORMAT}")
    missing = [name for name in names if name not in tensors]
    if missing:
        raise CheckpointError(f"{path}: damaged: tensor {missing[0]!r} is missing")
    if _digest(tensors, intact) != digest:
        raise CheckpointError(f"{path}: damaged: its content differs from what was saved (digest mismatch)")
    values = tree.unflatten(record["structure"], [tensors[name] for name in names])
    if like is not None:
        check_like(path, values, like)
    return values, record["metadata"]


def check_like(path: Path, values: Any, like: Any) -> None:
    """Raise CheckpointError naming the first tensor in which `values` differ from `like` in name, shape or dtype."""
    found = {"/".join(place): leaf for place, leaf in tree.items(values)}
    expected = {"/".join(place): leaf for place, leaf in tree.items(like)}
    for name, leaf in expected.items():
        if name not in found:
            raise CheckpointError(f"{path}: tensor {name!r} is missing")
        if found[name].shape != np.shape(leaf):
            raise CheckpointError(f"{path}: tensor {name!r} has shape {found[name].shape}; need {np.shape(leaf)}")
        if hasattr(leaf, "dtype") and found[name].dtype != leaf.dtype:
            raise CheckpointError(f"{path}: tensor {name!r} has dtype {found[name].dtype}; need {leaf.dtype}")
    for name in found:
        if name not in expected:
            raise CheckpointError(f"{path}: tensor {name!r} is one too many")


def write_bytes(path: Path, content: bytes) -> None:
    """Create or replace a file, whole or not at all, even if the process is killed or the power fails."""
    beside = path.with_name(f".{path.name}.writing")  # a rename is atomic only within one folder
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
    _sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file by `write_bytes`; floats keep every digit."""
    write_bytes(path, (json.dumps(value, indent=2) + "\n").encode())


def read_json(path: Path) -> Any:
    """What `write_json` wrote. Raises CheckpointError, naming the file, where it is missing or no JSON."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: damaged: not JSON: {error}") from error


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        tensors = safetensors.numpy.load(content)
    # KeyError: a number format that NumPy lacks
    except (SafetensorError, KeyError, ValueError) as error:
        reason = str(error).removeprefix("Error while deserializing: ")
        raise CheckpointError(f"{path}: damaged or no safetensors file ({len(content)} bytes): {reason}") from error
    try:
        # the library has just validated this header, but keeps its metadata to itself
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        return tensors, json.loads(header["__metadata__"][ENTRY])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: a safetensors file, but none written by minimeta, or damaged") from error


def _digest(tensors: dict[str, np.ndarray], record: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(record).encode())
    for name in sorted(tensors):
        array = tensors[name]
        digest.update(f"{name}:{array.dtype}:{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _check_keys(values: Any, place: tuple[Any, ...] = ()) -> None:
    if isinstance(values, dict):
        for key, child in values.items():
            if not isinstance(key, str) or "/" in key:
                raise ValueError(f"checkpoint.save: key {key!r} at {place}: keys are strings without '/'")
            _check_keys(child, (*place, key))
    elif isinstance(values, (list, tuple)):
        for i, child in enumerate(values):
            _check_keys(child, (*place, i))


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows opens no folders
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
