"""Reading an untrusted archive of drawings, a zip file or its extracted folder, into memory: nothing is extracted.

Limits are far above what Omniglot needs (32,460 drawings of at most 522 bytes) and far below what would hurt.
"""

import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from minimeta.data.errors import DataError

MEMBERS = 50_000
MEMBER_BYTES = 64 * 1024
TOTAL_BYTES = 64 * 1024 * 1024
RATIO = 100  # of a member's size to its compressed size; a PNG file hardly compresses at all


def read_members(source: Path) -> dict[str, bytes]:
    """Path inside the archive (with forward slashes) -> content, for every regular file of a zip file or a folder.

    Directory entries and the debris of file managers are left out. Raises DataError, naming `source`, for anything
    damaged or suspicious: paths or links that lead outside, sizes over the limits, encryption, repeated names.
    """
    read = _folder_members if source.is_dir() else _zip_members
    members: dict[str, bytes] = {}
    total = 0
    try:
        for name, content in read(source):
            total += len(content)
            if name in members:
                raise DataError(f"{source}: member {name!r} appears twice")
            if total > TOTAL_BYTES or len(members) == MEMBERS:
                raise DataError(f"{source}: more than {MEMBERS} members or {TOTAL_BYTES} bytes")
            members[name] = content
    except DataError:
        raise
    # RuntimeError: encryption and unknown compression; ValueError and struct.error: nonsense in the directory
    except (OSError, EOFError, RuntimeError, ValueError, struct.error, zlib.error, zipfile.BadZipFile) as error:
        raise DataError(f"{source}: cannot be read: {str(error) or type(error).__name__}") from error
    return members


def _zip_members(source: Path) -> Iterator[tuple[str, bytes]]:
    # the directory of a zip file is read as a whole, so bound it first
    if source.stat().st_size > TOTAL_BYTES:
        raise DataError(f"{source}: larger than {TOTAL_BYTES} bytes")
    with zipfile.ZipFile(source) as archive:
        for entry in archive.infolist():
            name = entry.filename
            if "\\" in name or re.match(r"/|[A-Za-z]:", name) or ".." in name.split("/"):
                raise DataError(f"{source}: member path {name!r} leads outside the archive")
            if entry.is_dir() or _is_debris(name):
                continue
            if entry.file_size > RATIO * max(entry.compress_size, 1):
                raise DataError(f"{source}: member {name!r} claims {entry.file_size} bytes from {entry.compress_size}")
            with archive.open(entry) as file:
                yield name, _read_bounded(file, f"{source}: member {name!r}")


def _folder_members(source: Path) -> Iterator[tuple[str, bytes]]:
    home = source.resolve()
    for folder, subfolders, files in os.walk(source, onerror=_raise):
        for name in subfolders + files:
            path = Path(folder, name)
            if path.is_symlink() and not path.resolve().is_relative_to(home):
                raise DataError(f"{path}: leads outside {source}")
        for name in files:
            path = Path(folder, name)
            member = path.relative_to(source.parent).as_posix()
            if _is_debris(member):
                continue
            # opening a named pipe would wait for ever
            if not stat.S_ISREG(path.stat().st_mode):
                raise DataError(f"{path}: not a regular file")
            with path.open("rb") as file:
                yield member, _read_bounded(file, str(path))


def _raise(error: OSError) -> None:
    raise error


def _is_debris(name: str) -> bool:
    return name.startswith("__MACOSX/") or name.rsplit("/", 1)[-1] in (".DS_Store", "Thumbs.db", "desktop.ini")


def _read_bounded(file: IO[bytes], label: str) -> bytes:
    content = file.read(MEMBER_BYTES + 1)
    if len(content) > MEMBER_BYTES:
        raise DataError(f"{label}: larger than {MEMBER_BYTES} bytes")
    return content
