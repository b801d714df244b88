"""Omniglot's drawings: from untrusted PNG files to verified pixels."""

import hashlib
import io
import re
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minimeta.data.archive import read_members
from minimeta.data.errors import DataError
from minimeta.data.lazy import require

SIDE = 105  # pixels
DRAWINGS = 20  # per character
RESAMPLING = "lanczos"


@dataclass(frozen=True)
class Archive:
    """A published archive of drawings `<name>/<alphabet>/characterNN/MMMM_DD.png`, and how to know that it is genuine.

    `md5` is of the official zip file; `digest` is of what is in it (see `content_digest`), however it is packed.

    >>> Archive("tiny", characters=3, digest="00", url="https://example.org/tiny.zip", md5="11").characters
    3
    """

    name: str
    characters: int
    digest: str
    url: str
    md5: str


def read_drawings(source: Path, archive: Archive) -> tuple[tuple[str, ...], np.ndarray]:
    """Characters ("Alphabet/characterNN", sorted) and ink bool [characters, DRAWINGS, SIDE, SIDE] of a zip or folder.

    Raises DataError, naming `source`, unless the content is exactly that of `archive`.
    """
    members = read_members(source)
    pattern = re.compile(rf"{re.escape(archive.name)}/([A-Za-z_()-]+/character\d\d)/\d{{4}}_\d\d\.png")
    matches = {name: pattern.fullmatch(name) for name in sorted(members)}
    for name, match in matches.items():
        if match is None:
            raise DataError(f"{source}: unexpected member {name!r}, expected {archive.name}/*/character*/*.png")
    counts = Counter(match[1] for match in matches.values() if match)
    if len(counts) != archive.characters:
        raise DataError(f"{source}: has {len(counts)} characters, expected {archive.characters}")
    for character, count in counts.items():
        if count != DRAWINGS:
            raise DataError(f"{source}: {character} has {count} drawings, expected {DRAWINGS}")
    ink = np.empty((len(matches), SIDE, SIDE), bool)
    for i, name in enumerate(matches):
        ink[i] = decode(members[name], f"{source}: {name}")
    digest = content_digest(list(matches), ink)
    if digest != archive.digest:
        raise DataError(f"{source}: names or pixels are not those published (SHA-256 {digest}, not {archive.digest})")
    return tuple(counts), ink.reshape(-1, DRAWINGS, SIDE, SIDE)


def content_digest(names: list[str], ink: np.ndarray) -> str:
    """SHA-256 over each drawing's name (without the archive's), a zero byte and its pixels, eight to a byte.

    >>> blank = np.zeros((1, 8, 8), bool)
    >>> content_digest(["a/1.png"], blank) == content_digest(["b/1.png"], blank) != content_digest(["a/2.png"], blank)
    True
    """
    digest = hashlib.sha256()
    for name, pixels in zip(names, ink, strict=True):
        digest.update(name.partition("/")[2].encode() + b"\0" + np.packbits(pixels).tobytes())
    return digest.hexdigest()


def resize(ink: np.ndarray, size: int) -> np.ndarray:
    """Grey drawings uint8 [characters, DRAWINGS, size, size], ink 255, by Pillow's Lanczos filter as in MAML's code.

    Quarter turns before and after are the same up to rounding, since the filter is symmetric and the image square.
    """
    image = require("PIL.Image", "Pillow", "resizing drawings")
    resized = np.empty((ink.shape[0] * ink.shape[1], size, size), np.uint8)
    for i, drawing in enumerate(ink.reshape(-1, SIDE, SIDE)):
        # in floating point: in bytes, the horizontal pass would be clipped before the vertical one
        grey = image.fromarray(drawing * np.float32(255)).resize((size, size), image.Resampling.LANCZOS)
        resized[i] = np.asarray(grey).clip(0, 255).round()
    return resized.reshape(*ink.shape[:2], size, size)


def decode(content: bytes, label: str) -> np.ndarray:
    """Ink bool [SIDE, SIDE] of a black and white PNG file; dark is ink."""
    image = require("PIL.Image", "Pillow", "decoding drawings")
    # the header first: a decoder would make room for whatever size it claims
    if len(content) < 24 or content[:8] != b"\x89PNG\r\n\x1a\n" or content[12:16] != b"IHDR":
        raise DataError(f"{label}: not a PNG file")
    width, height = struct.unpack(">II", content[16:24])
    if (width, height) != (SIDE, SIDE):
        raise DataError(f"{label}: {width}x{height} pixels, expected {SIDE}x{SIDE}")
    try:
        with image.open(io.BytesIO(content), formats=["PNG"]) as png:
            mode, paper = png.mode, np.asarray(png)
    # a decoder fed with hostile bytes may raise anything
    except Exception as error:
        raise DataError(f"{label}: cannot be decoded: {error}") from error
    if mode not in ("1", "L"):
        raise DataError(f"{label}: PNG mode {mode}, expected black and white")
    if mode == "L" and not np.isin(paper, (0, 255)).all():
        raise DataError(f"{label}: shades of grey, expected black and white")
    ink: np.ndarray = paper == 0
    return ink
