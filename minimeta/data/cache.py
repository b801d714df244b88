"""The cache folder: where it is, and writing to it so that a failure leaves no trace."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from minimeta.data.errors import DataError
from minimeta.data.lazy import require


def cache_folder() -> Path:
    """$MINIMETA_CACHE, else `minimeta` in the user's cache folder ($XDG_CACHE_HOME, else ~/.cache).

    >>> import os
    >>> from unittest import mock
    >>> with mock.patch.dict(os.environ, MINIMETA_CACHE="somewhere"):
    ...     cache_folder().as_posix()
    'somewhere'
    """
    own = os.environ.get("MINIMETA_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minimeta"


def write_file(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Create or replace `path` by what `write(file)` writes, whole or not at all; DataError where it cannot."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # beside its destination, since a rename is atomic only within one file system
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
        try:
            with open(descriptor, "wb") as file:
                write(file)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise DataError(f"{path}: cannot write to the cache ({error}); $MINIMETA_CACHE names another folder") from error


def write_arrays(path: Path, **arrays: Any) -> None:
    """Store arrays under their names in one .npz file, whose members carry checksums."""
    write_file(path, lambda file: np.savez(file, **arrays))


def read_arrays(path: Path) -> dict[str, np.ndarray] | None:
    """What `write_arrays` stored, or None where the file is missing or damaged, to be made again from its source."""
    try:
        # opened here, since np.load leaves a damaged file open
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    # damage shows first as a failed checksum, a broken header, an absurd size...: the answer is the same
    except Exception:
        return None


def fetch(path: Path, url: str, known_hash: str, advice: str) -> Path:
    """`path` in the cache, downloaded from `url` unless it is there with `known_hash` ("md5:..." or "sha256:...").

    Only a file with that hash enters the cache. Raises DataError, ending in `advice`, where the download fails.
    """
    algorithm, _, expected = known_hash.partition(":")
    with suppress(FileNotFoundError):
        if hashlib.new(algorithm, path.read_bytes()).hexdigest() == expected:
            return path
    pooch = require("pooch", "pooch", f"downloading {url}")
    with tempfile.TemporaryDirectory() as folder:
        try:
            downloaded = Path(pooch.retrieve(url, known_hash, fname=path.name, path=folder))
        # of requests, an OSError; of a wrong hash, a ValueError
        except (OSError, ValueError) as error:
            raise DataError(f"cannot download {url}: {error}; {advice}") from error
        write_file(path, lambda file: file.write(downloaded.read_bytes()))
    return path
