"""Omniglot: 1623 characters of 50 alphabets, 20 drawings each (Lake, Salakhutdinov and Tenenbaum 2015).

Files are looked for in `<data_dir>/omniglot` (the argument, else $MINIMETA_DATA), then in the cache folder, and are
else downloaded from their official places into the cache folder:

    images_background.zip or the folder images_background, images_evaluation.zip or the folder images_evaluation,
    splits/vinyals/{train,val,trainval,test}.txt

Whatever the place, drawings are used only after their content has been verified; the decoded, resized images are
then cached as one file per archive and size.
"""

import hashlib
import os
from pathlib import Path

import numpy as np

from minimeta.data.cache import cache_folder, fetch, read_arrays, write_arrays, write_file
from minimeta.data.drawings import DRAWINGS, RESAMPLING, SIDE, Archive, read_drawings, resize
from minimeta.data.episodes import ImageClasses
from minimeta.data.errors import DataError
from minimeta.data.splits import PARTS, SCHEMES, alphabet_of, lake, listed, random1200

FORMAT = 1  # of the cached arrays: raise it whenever the same archive would give other ones
SMALLEST = 8

_REPOSITORY = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python"
BACKGROUND = Archive(
    "images_background",
    characters=964,
    digest="a124c5a5a976a2325d0833f6ed0f099009f18539b78de62d281d2188a44c0646",
    url=f"{_REPOSITORY}/images_background.zip",
    md5="68d2efa1b9178cc56df9314c21c6e718",
)
EVALUATION = Archive(
    "images_evaluation",
    characters=659,
    digest="aea28c3ae3e13f70f5ca1e76e5dc886e9f9958b67730065a5efab5629664ea76",
    url=f"{_REPOSITORY}/images_evaluation.zip",
    md5="6b91aef0f799c5bb55b94e3f2daec811",
)

LISTS_URL = "https://raw.githubusercontent.com/jakesnell/prototypical-networks/master/data/omniglot/splits/vinyals"
LISTS_SHA256 = {
    "train": "984522c194c30fb678ce53304a160a42faf5403ad4f9a67010f32dd3a35738e0",
    "val": "11f99e54faee3e26f53d3231c1cceac5bf7b8730e9be31cb6dab256551dc0c1a",
    "trainval": "5276ae50c755596d0bff7f2284e85625695549a85ee6e36b6491ad1e5d1cc26a",
    "test": "845264cc5c156180828ccf17915668b17ee21424d0170df6e7d81676aa5d1204",
}


def load(
    part: str,
    *,
    split: str | None = None,
    size: int = 28,
    data_dir: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> ImageClasses:
    """Characters of `part` ("train", "val", "trainval", "test"), uint8 [characters, 20, size, size, 1], ink 255.

    `split` is "vinyals", "random1200" or "lake" (see `minimeta.data.splits`), by default "vinyals" where its lists
    are at hand and "random1200" where not; `seed` draws "random1200" and the validation alphabets of "lake".
    `size` is 8 to 105 pixels. Names are "Alphabet/characterNN", groups are alphabets, rotations are the sampler's.

    Raises DataError for an unknown part or split, for files that are damaged or not Omniglot's, and where a download
    fails; then the cache is as it was before.

    >>> load("dev")
    Traceback (most recent call last):
    minimeta.data.errors.DataError: omniglot has no part 'dev': choose from train, val, trainval, test
    """
    if part not in PARTS:
        raise DataError(f"omniglot has no part {part!r}: choose from {', '.join(PARTS)}")
    if split is not None and split not in SCHEMES:
        raise DataError(f"omniglot has no split {split!r}: choose from {', '.join(SCHEMES)}")
    if not SMALLEST <= size <= SIDE:
        raise DataError(f"omniglot: size must be {SMALLEST} to {SIDE} pixels, got {size}")
    home = _home(data_dir)
    if split is None:
        split = "vinyals" if all(_list_at_hand(name, home) for name in PARTS) else "random1200"
    archives = [BACKGROUND, EVALUATION]
    if split == "lake":
        archives = [EVALUATION] if part == "test" else [BACKGROUND]
    available = {
        name: images for archive in archives for name, images in zip(*load_archive(archive, size, home), strict=True)
    }
    if split == "vinyals":
        chosen = listed(_read_list(part, home))
    else:
        chosen = {"random1200": random1200, "lake": lake}[split](list(available), part, seed)
    images = np.stack([available[name] for name in chosen])
    groups = tuple(alphabet_of(name) for name in chosen)
    return ImageClasses("omniglot", f"{split}/{part}", images[..., None], tuple(chosen), groups)


def load_archive(archive: Archive, size: int, home: Path | None) -> tuple[list[str], np.ndarray]:
    """Names and images uint8 [characters, 20, size, size] of an archive: from the cache, else decoded and cached.

    `home` is the folder that may hold the archive; DataError as for `load`.
    """
    # the content's digest is in the name: one array for every source of the same drawings, none for other drawings
    key = f"{archive.name}-{archive.digest[:16]}-{size}px-{RESAMPLING}-v{FORMAT}.npz"
    cached = cache_folder() / "omniglot" / key
    arrays = read_arrays(cached)
    if arrays is None or not _fits(arrays, archive, size):
        names, ink = read_drawings(_archive_path(archive, home), archive)
        arrays = {"names": np.array(names), "images": resize(ink, size)}
        write_arrays(cached, **arrays)
    return arrays["names"].tolist(), arrays["images"]


def _fits(arrays: dict[str, np.ndarray], archive: Archive, size: int) -> bool:
    """Whether cached arrays are what this archive gives; their checksums have been tested by reading them."""
    expected = {
        "names": ((archive.characters,), "U"),
        "images": ((archive.characters, DRAWINGS, size, size), "u"),
    }
    return {name: (array.shape, array.dtype.kind) for name, array in arrays.items()} == expected


def _home(data_dir: str | os.PathLike[str] | None) -> Path | None:
    """The folder `omniglot` of the user's data folder, if there is one."""
    folder = data_dir or os.environ.get("MINIMETA_DATA")
    if not folder:
        return None
    home = Path(folder) / "omniglot"
    if data_dir and not home.is_dir():
        raise DataError(f"{home}: no such folder; data_dir must be the folder that holds omniglot/")
    return home


def _archive_path(archive: Archive, home: Path | None) -> Path:
    if home:
        for path in (home / f"{archive.name}.zip", home / archive.name):
            if path.exists():
                return path
    file = f"{archive.name}.zip"
    return fetch(cache_folder() / "omniglot" / file, archive.url, f"md5:{archive.md5}", _advice(file))


def _list_at_hand(part: str, home: Path | None) -> bool:
    return any((folder / _list_file(part)).exists() for folder in (home, cache_folder() / "omniglot") if folder)


def _read_list(part: str, home: Path | None) -> str:
    """The text of a published list of characters, verified."""
    file = _list_file(part)
    path, cached = home / file if home else None, cache_folder() / "omniglot" / file
    if path is None or not path.exists():
        path = fetch(cached, f"{LISTS_URL}/{part}.txt", f"sha256:{LISTS_SHA256[part]}", _advice(file))
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != LISTS_SHA256[part]:
        raise DataError(f"{path}: not the published list of characters")
    if not cached.exists():  # like the drawings: a model trained from a folder can be tested without it
        write_file(cached, lambda out: out.write(content))
    return content.decode()


def _list_file(part: str) -> str:
    return f"splits/vinyals/{part}.txt"


def _advice(file: str) -> str:
    return f"offline, put it at DIR/omniglot/{file} and name DIR by data_dir, --data-dir or $MINIMETA_DATA"
