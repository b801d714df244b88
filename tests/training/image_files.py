"""Folders of image files for tests: glyphs drawn on paper, in all kinds of files."""

import numpy as np
import pytest

from minimeta.data import glyphs

Image = pytest.importorskip("PIL.Image", reason="writing images needs Pillow")

ENDINGS = ("png", "jpg", "gif", "bmp")


def write_glyphs(folder, part="train", classes=20, drawings=8, colour=False):
    """One folder per character with its drawings, dark on light, in files of several formats and sizes."""
    alphabet = glyphs.load(part, classes=classes, drawings=drawings, size=32)
    for name, images in zip(alphabet.names, alphabet.images, strict=True):
        (folder / name).mkdir(parents=True)
        for i, ink in enumerate(images):
            write(folder / name / f"{i}.{ENDINGS[i % 4]}", ink, 28 + 4 * (i % 3), colour)
    return folder


def write(path, ink, side=32, colour=False):
    """One drawing [H, W, 1] uint8, ink 255, as a file of dark ink on paper that is white or, in colour, light blue."""
    paper = 255 - ink[..., 0]
    if colour:
        paper = np.stack([paper // 2, paper // 4 * 3, paper], axis=-1)
    Image.fromarray(paper).resize((side, side)).save(path)
    return path
