"""Reading one image file of unknown origin: bounded before it is decoded, then square, grey or RGB, 0..1."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from minimeta.data.errors import DataError
from minimeta.data.files import read_file
from minimeta.data.lazy import require

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
FILE_BYTES = 64 * 1024 * 1024
PIXELS = 64 * 1024 * 1024  # a large photograph has 50 million; in memory these take 256 MB


def read_image(path: str | os.PathLike[str], size: int, channels: int, ink: bool = False) -> np.ndarray:
    """An image file as float32 [size, size, channels] in 0..1: grey (luma) for 1 channel, RGB for 3.

    Formats are FORMATS, of several frames the first; turned upright as its EXIF data say, transparency over white,
    16 bits rounded to 8, resized by Lanczos' filter to a square (the aspect is not kept). With `ink` values are
    1 - value: dark on light becomes ink = 1 on paper = 0, as in Omniglot and the glyphs.

    Raises DataError, naming the file, for one that is missing, damaged, no image, or over FILE_BYTES or PIXELS, and for
    size < 1 or channels other than 1 and 3; ImportError without Pillow.

    >>> import PIL.Image, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     PIL.Image.new("RGB", (40, 30), "red").save(f"{folder}/red.png")
    ...     read_image(f"{folder}/red.png", size=2, channels=3)[0, 0]
    array([1., 0., 0.], dtype=float32)
    """
    check_shape(size, channels)
    picture = _decode(Path(path)).convert("L" if channels == 1 else "RGB")
    lanczos = require("PIL.Image", "Pillow", "resizing images").Resampling.LANCZOS
    # in floating point: in bytes, the horizontal pass would be clipped before the vertical one
    bands = [np.asarray(band.convert("F").resize((size, size), lanczos)) for band in picture.split()]
    pixels: np.ndarray = np.stack(bands, axis=-1).clip(0, 255) / np.float32(255)
    return 1 - pixels if ink else pixels


def check_shape(size: int, channels: int) -> None:
    """DataError for a size or a number of channels that no image can have."""
    if size < 1:
        raise DataError(f"size must be at least 1 pixel, got {size}")
    if channels not in (1, 3):
        raise DataError(f"channels must be 1 (grey) or 3 (RGB), got {channels}")


def is_colour(path: str | os.PathLike[str]) -> bool:
    """Whether any pixel of an image file is other than grey; DataError as for `read_image`."""
    pixels = np.asarray(_decode(Path(path)))
    return bool((pixels != pixels[..., :1]).any())


def _decode(path: Path) -> Image:
    """The picture of a file: upright, opaque, 8-bit RGB."""
    image = require("PIL.Image", "Pillow", "reading images")
    operations = require("PIL.ImageOps", "Pillow", "reading images")
    content = read_file(path, FILE_BYTES)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", image.DecompressionBombWarning)
            picture = image.open(io.BytesIO(content), formats=FORMATS)
        width, height = picture.size
        if width * height > PIXELS:
            raise DataError(f"{path}: {width}x{height} pixels, the limit is {PIXELS} in all")
        operations.exif_transpose(picture, in_place=True)
        return _opaque(_eight_bit(picture))
    except DataError:
        raise
    except image.UnidentifiedImageError as error:
        raise DataError(f"{path}: not an image of a known format ({', '.join(FORMATS)})") from error
    # a decoder fed with hostile bytes may raise anything
    except Exception as error:
        raise DataError(f"{path}: cannot be decoded: {error}") from error


def _eight_bit(picture: Image) -> Image:
    """A picture with 16-bit grey levels, which Pillow would clip, scaled to 8 bits; any other as it is."""
    if picture.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    if not picture.mode.startswith("I"):
        return picture
    grey = np.asarray(picture).astype(np.float32)
    if grey.min() < 0 or grey.max() > 65535:
        raise ValueError(f"grey levels {grey.min():.0f}..{grey.max():.0f}, expected 16 bits")
    grey[grey == picture.info.get("transparency", -1)] = 65535
    scaled: Image = require("PIL.Image", "Pillow", "reading images").fromarray(np.rint(grey / 257).astype(np.uint8))
    return scaled


def _opaque(picture: Image) -> Image:
    """The picture in RGB, over white where it is transparent."""
    if picture.mode[-1] in "Aa" or "transparency" in picture.info:
        image = require("PIL.Image", "Pillow", "reading images")
        white = image.new("RGBA", picture.size, "white")
        picture = image.alpha_composite(white, picture.convert("RGBA"))
    return picture.convert("RGB")
