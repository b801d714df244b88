"""Untrusted files and folders: what a folder holds, and reading no more of a file than it may have."""

import re
import stat
from pathlib import Path
from typing import IO

from minimeta.data.errors import DataError

_DEBRIS = re.compile(r"(^|/)(\.[^/.]|__MACOSX(/|$)|(Thumbs\.db|desktop\.ini)$)")


def is_debris(name: str) -> bool:
    """Whether a path (with forward slashes) is hidden or something that file managers leave behind.

    >>> [is_debris(name) for name in ("cats/.DS_Store", "__MACOSX/cats/1.png", "cats/Thumbs.db", "cats/1.png")]
    [True, True, True, False]
    """
    return _DEBRIS.search(name) is not None


def children(folder: Path, home: Path) -> list[Path]:
    """What lies in `folder`, sorted by name, without debris.

    Raises DataError where the folder cannot be read, and for a link to anything but a file inside `home`.
    """
    try:
        found = sorted((path for path in folder.iterdir() if not is_debris(path.name)), key=lambda path: path.name)
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}") from error
    for path in found:
        # links to folders could go round in circles
        if path.is_symlink() and (path.is_dir() or not path.resolve().is_relative_to(home.resolve())):
            raise DataError(f"{path}: leads outside {home} or to a folder; a link may lead to a file inside")
    return found


def read_file(path: Path, limit: int) -> bytes:
    """The content of a regular file; DataError, naming it, where it cannot be read or has more than `limit` bytes."""
    try:
        # opening a named pipe would wait for ever
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError(f"{path}: not a regular file")
        with path.open("rb") as file:
            return read_bounded(file, limit, str(path))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def read_bounded(file: IO[bytes], limit: int, label: str) -> bytes:
    """The rest of an open file; DataError, naming `label`, where that is more than `limit` bytes.

    >>> import io
    >>> read_bounded(io.BytesIO(b"12345"), limit=4, label="five.txt")
    Traceback (most recent call last):
    minimeta.data.errors.DataError: five.txt: larger than 4 bytes
    """
    content = file.read(limit + 1)
    if len(content) > limit:
        raise DataError(f"{label}: larger than {limit} bytes")
    return content
