"""Which characters of Omniglot are for training, validation and test: the splits of the literature.

| scheme | train | val | trainval | test | unit |
|---|---|---|---|---|---|
| vinyals | 1028 | 172 | 1200 | 423 | characters, from the published lists (Vinyals et al. 2016, Snell et al. 2017) |
| random1200 | 1100 | 100 | 1200 | 423 | characters, a seeded shuffle of all 1623 (Finn et al. 2017) |
| lake | 25 | 5 | 30 | 20 | alphabets, background and evaluation set (Lake et al. 2015), 5 of the 30 drawn by seed |
"""

from collections.abc import Sequence

import numpy as np

from minimeta.data.errors import DataError

SCHEMES = ("vinyals", "random1200", "lake")
PARTS = ("train", "val", "trainval", "test")


def parse_split(text: str) -> tuple[str | None, str | None]:
    """(scheme, part) of "SCHEME/PART", "SCHEME" or "PART"; None for what is not said; DataError for anything else.

    >>> parse_split("vinyals/test"), parse_split("lake"), parse_split("val")
    (('vinyals', 'test'), ('lake', None), (None, 'val'))
    """
    if text in PARTS:
        return None, text
    scheme, slash, part = text.partition("/")
    if scheme not in SCHEMES or (slash and part not in PARTS):
        raise DataError(
            f"unknown split {text!r}: need PART, SCHEME or SCHEME/PART, "
            f"scheme one of {', '.join(SCHEMES)}, part one of {', '.join(PARTS)}"
        )
    return scheme, part or None


def random1200(characters: Sequence[str], part: str, seed: int) -> list[str]:
    """Characters of `part` by a seeded shuffle: 1200 for training, 100 of them for validation, the rest for test.

    >>> all_of_them = [f"A/character{k:04d}" for k in range(1623)]
    >>> [len(random1200(all_of_them, part, seed=0)) for part in PARTS]
    [1100, 100, 1200, 423]
    """
    shuffled = [characters[i] for i in np.random.default_rng(seed).permutation(len(characters))]
    first, last = {"train": (0, 1100), "val": (1100, 1200), "trainval": (0, 1200), "test": (1200, None)}[part]
    return shuffled[first:last]


def lake(characters: Sequence[str], part: str, seed: int) -> list[str]:
    """Characters of `part`, given those of the background set, or of the evaluation set where `part` is "test".

    >>> background = [f"{alphabet}/character{k:02d}" for alphabet in "ABCDEFGHIJ" for k in (1, 2, 3)]
    >>> [len(lake(background, part, seed=0)) for part in PARTS]
    [15, 15, 30, 30]
    """
    if part in ("trainval", "test"):
        return list(characters)
    alphabets = sorted({alphabet_of(character) for character in characters})
    held_out = set(np.random.default_rng(seed).permutation(alphabets)[:5].tolist())
    return [character for character in characters if (alphabet_of(character) in held_out) == (part == "val")]


def listed(text: str) -> list[str]:
    """Characters of a published list, whose lines are `Alphabet/characterNN/rotNNN` with four rotations of each.

    >>> listed("A/character01/rot000\\nA/character01/rot090\\nB/character07/rot000\\n")
    ['A/character01', 'B/character07']
    """
    return [line.removesuffix("/rot000") for line in text.split() if line.endswith("/rot000")]


def alphabet_of(character: str) -> str:
    """The alphabet of a character.

    >>> alphabet_of("Hebrew/character03")
    'Hebrew'
    """
    return character.partition("/")[0]
