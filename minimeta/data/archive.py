"""Reading an untrusted archive of drawings, a zip file or its extracted folder, into memory: nothing is extracted.

Limits are far above what Omniglot needs (32,460 drawings of at most 522 bytes) and far below what would hurt.
"""

import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from minimeta.data.errors import DataError
from minimeta.data.files import children, is_debris, read_bounded, read_file

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
            if entry.is_dir() or is_debris(name):
                continue
            if entry.file_size > RATIO * max(entry.compress_size, 1):
                raise DataError(f"{source}: member {name!r} claims {entry.file_size} bytes from {entry.compress_size}")
            with archive.open(entry) as file:
                yield name, read_bounded(file, MEMBER_BYTES, f"{source}: member {name!r}")


def _folder_members(source: Path) -> Iterator[tuple[str, bytes]]:
    for path in _files(source, source):
        yield path.relative_to(source.parent).as_posix(), read_file(path, MEMBER_BYTES)


def _files(folder: Path, home: Path) -> Iterator[Path]:
    for path in children(folder, home):
        if path.is_dir():
            yield from _files(path, home)
        else:
            yield path
