"""Reading image files: every kind to the same pixels, and nothing hostile gets further than an error."""

import io
import os
import struct
import sys
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from minimeta.data import DataError, images, read_image
from minimeta.data.images import FORMATS, is_colour

Image = pytest.importorskip("PIL.Image", reason="reading images needs Pillow")

SIDE = 12
LUMA = np.array([0.299, 0.587, 0.114])
LOSSLESS = {"png": {}, "bmp": {}, "tiff": {}, "ppm": {}, "webp": {"lossless": True}}
in_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
grey_levels = arrays(np.uint8, (SIDE, SIDE))
colours = arrays(np.uint8, (SIDE, SIDE, 3))


@pytest.fixture
def save(tmp_path):
    def save(pixels, name="image.png", **options):
        picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
        picture.save(tmp_path / name, **options)
        return tmp_path / name

    return save


def photograph(height=SIDE, width=SIDE):
    """Smooth colours, as lossy formats like them."""
    y, x = np.mgrid[:height, :width] / [[[height]], [[width]]]
    return np.rint(255 * np.stack([x, y, (x + y) / 2], axis=-1)).astype(np.uint8)


@in_folder
@given(colours, st.sampled_from(sorted(LOSSLESS)))
def test_at_their_own_size_colours_are_exact(save, pixels, ending):
    path = save(pixels, f"image.{ending}", **LOSSLESS[ending])
    read = read_image(str(path), SIDE, 3)
    assert (read.dtype, read.shape) == (np.float32, (SIDE, SIDE, 3))
    np.testing.assert_allclose(read, pixels / 255, rtol=1e-6)
    np.testing.assert_allclose(read_image(path, SIDE, 1)[..., 0], pixels @ LUMA / 255, atol=0.51 / 255)
    assert is_colour(path) == bool(np.ptp(pixels, axis=-1).any())


@in_folder
@given(grey_levels, st.sampled_from(["png", "bmp", "tiff", "gif"]))
def test_grey_is_exact_in_one_channel_and_in_three(save, pixels, ending):
    path = save(pixels, f"image.{ending}")
    for channels in (1, 3):
        expected = np.repeat(pixels[..., None], channels, axis=-1) / 255
        np.testing.assert_allclose(read_image(path, SIDE, channels), expected, rtol=1e-6)
        np.testing.assert_allclose(read_image(path, SIDE, channels, ink=True), 1 - expected, atol=1e-6)
    assert not is_colour(path)


@pytest.mark.parametrize("ending", ["jpg", "webp", "gif"])
def test_lossy_formats_come_close(save, ending):
    pixels = photograph(40, 40)
    path = save(pixels, f"image.{ending}")
    assert np.abs(read_image(path, 40, 3) - pixels / 255).mean() < 0.05
    assert is_colour(path)


def test_a_grey_jpeg_saved_as_colour_is_grey(save):
    assert not is_colour(save(np.repeat(photograph()[..., :1], 3, axis=-1), "image.jpg"))


@pytest.mark.parametrize("name", ["image.png", "image.tiff", "image.pgm"])
def test_sixteen_bits_keep_their_range(save, name):
    levels = np.linspace(0, 65535, SIDE * SIDE).reshape(SIDE, SIDE).astype(np.uint16)
    np.testing.assert_allclose(read_image(save(levels, name), SIDE, 1)[..., 0], levels / 65535, atol=0.51 / 255)


def test_a_palette_is_looked_up(save):
    picture = Image.fromarray(np.eye(SIDE, dtype=np.uint8), "P")
    picture.putpalette([0, 255, 0, 255, 0, 0])
    read = read_image(save(picture), SIDE, 3)
    np.testing.assert_array_equal(read[0, :2], [[1, 0, 0], [0, 1, 0]])


def test_black_and_white_is_read(save):
    picture = Image.fromarray(np.eye(SIDE, dtype=np.uint8) * 255).convert("1")
    np.testing.assert_array_equal(read_image(save(picture), SIDE, 1)[..., 0], np.eye(SIDE))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_over_white(save, mode):
    alpha = np.linspace(0, 255, SIDE * SIDE).reshape(SIDE, SIDE).astype(np.uint8)
    colour = np.full((SIDE, SIDE), 51, np.uint8)
    picture = Image.merge(mode, [Image.fromarray(band) for band in [colour] * (len(mode) - 1) + [alpha]])
    expected = 0.2 * (alpha / 255) + (1 - alpha / 255)
    np.testing.assert_allclose(read_image(save(picture), SIDE, 1)[..., 0], expected, atol=1.01 / 255)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_transparent_grey_level_is_white(save, dtype):
    levels = np.zeros((SIDE, SIDE), dtype)
    levels[3:] = 90
    read = read_image(save(levels, transparency=0), SIDE, 1)
    assert (read[:3] == 1).all()
    assert (read[3:] < 0.5).all()


def test_a_transparent_palette_entry_is_white(save):
    picture = Image.fromarray(np.eye(SIDE, dtype=np.uint8), "P")
    picture.putpalette([0, 0, 0, 255, 0, 0])
    np.testing.assert_array_equal(read_image(save(picture, transparency=0), SIDE, 3)[0, :2], [[1, 0, 0], [1, 1, 1]])


# what EXIF's eight values say of the upright picture: how it was stored
STORED = {
    1: lambda x: x,
    2: np.fliplr,
    3: lambda x: np.rot90(x, 2),
    4: np.flipud,
    5: lambda x: x.swapaxes(0, 1),
    6: np.rot90,
    7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
    8: lambda x: np.rot90(x, -1),
}


@pytest.mark.parametrize("name", ["image.png", "image.tiff"])
@pytest.mark.parametrize("orientation", STORED)
def test_pictures_are_turned_upright(save, orientation, name):
    upright, exif = photograph(), Image.Exif()
    exif[0x0112] = orientation
    path = save(np.ascontiguousarray(STORED[orientation](upright)), name, exif=exif)
    np.testing.assert_allclose(read_image(path, SIDE, 3), upright / 255, rtol=1e-6)


@pytest.mark.parametrize("name", ["image.gif", "image.webp", "image.png", "image.tiff"])
def test_of_several_frames_the_first_counts(save, name):
    black, white = (Image.new("L", (SIDE, SIDE), level) for level in (0, 255))
    assert read_image(save(black, name, save_all=True, append_images=[white]), SIDE, 1).max() < 0.02


def lanczos(n, size):
    """The matrix [size, n] that resizes by Lanczos' filter with three lobes, from its definition."""
    scale = max(n / size, 1)
    at = ((np.arange(n) + 0.5) - (np.arange(size)[:, None] + 0.5) * n / size) / scale
    weights = np.where(np.abs(at) < 3, np.sinc(at) * np.sinc(at / 3), 0)
    return weights / weights.sum(axis=1, keepdims=True)


@in_folder
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 30), st.integers(0, 99))
def test_resizing_is_lanczos_and_does_not_keep_the_aspect(save, height, width, size, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)
    expected = (lanczos(height, size) @ pixels @ lanczos(width, size).T).clip(0, 255) / 255
    np.testing.assert_allclose(read_image(save(pixels), size, 1)[..., 0], expected, atol=1e-4)


# files that are refused


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def claims(width, height):
    """A PNG file that claims to be large."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def encoded(kind, size=40, **options):
    file = io.BytesIO()
    Image.fromarray(photograph(size, size)).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an image of a known format"),
        (b"cat,dog\n1,2\n", "not an image of a known format"),
        (encoded("ICO"), "not an image of a known format"),
        (encoded("EPS"), "not an image of a known format"),
        (encoded("PNG")[:-40], "cannot be decoded"),
        (encoded("JPEG", size=200)[:-200], "cannot be decoded: image file is truncated"),
        (encoded("GIF")[:-200], "cannot be decoded"),
        (encoded("TIFF")[:-200], "cannot be decoded"),
        (encoded("WEBP")[:-40], "cannot be decoded"),
        (claims(8200, 8200), "8200x8200 pixels, the limit is 67108864 in all"),
        (claims(12_000, 12_000), "exceeds limit"),
        (claims(200_000, 200_000), "exceeds limit"),
        (claims(0, 5), "not an image of a known format"),
    ],
)
def test_a_bad_file_is_refused(tmp_path, content, message):
    path = tmp_path / "bad.png"
    path.write_bytes(content)
    for read in (lambda: read_image(path, 8, 1), lambda: is_colour(path)):
        with pytest.raises(DataError, match=message) as caught:
            read()
        assert str(caught.value).startswith(f"{path}: ")


def test_a_large_claim_is_refused_before_decoding(tmp_path, monkeypatch):
    path = tmp_path / "bomb.png"
    path.write_bytes(claims(8200, 8200))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("decoded"))
    with pytest.raises(DataError, match="8200x8200"):
        read_image(path, 8, 1)


def test_a_large_file_is_refused(save, monkeypatch):
    path = save(photograph())
    monkeypatch.setattr(images, "FILE_BYTES", path.stat().st_size - 1)
    with pytest.raises(DataError, match=f"image.png: larger than {path.stat().st_size - 1} bytes"):
        read_image(path, 8, 1)
    monkeypatch.setattr(images, "FILE_BYTES", path.stat().st_size)
    read_image(path, 8, 1)


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        (np.ones((4, 4), np.float32), "floating-point pixels have no known range"),
        (np.full((4, 4), 70_000, np.int32), "grey levels 70000..70000, expected 16 bits"),
        (np.full((4, 4), -1, np.int32), "grey levels -1..-1, expected 16 bits"),
    ],
)
def test_levels_of_no_known_range_are_refused(save, levels, message):
    with pytest.raises(DataError, match=message):
        read_image(save(levels, "image.tiff"), 8, 1)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"none\.png: cannot be read: No such file"):
        read_image(tmp_path / "none.png", 8, 1)
    with pytest.raises(DataError, match="not a regular file"):
        read_image(tmp_path, 8, 1)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DataError, match="not a regular file"):
        read_image(tmp_path / "pipe.png", 8, 1)


@pytest.mark.parametrize(
    ("size", "channels", "message"),
    [(0, 1, "size must be at least 1 pixel, got 0"), (8, 2, r"channels must be 1 \(grey\) or 3 \(RGB\), got 2")],
)
def test_impossible_requests_are_refused(save, size, channels, message):
    with pytest.raises(DataError, match=message):
        read_image(save(photograph()), size, channels)


def test_without_pillow_the_extra_is_named(save, monkeypatch):
    path = save(photograph())
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ImportError, match=r"reading images needs Pillow: pip install 'minimeta\[train\]'"):
        read_image(path, 8, 1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(st.data())
def test_no_damage_raises_anything_else(tmp_path, data):
    """Random bytes written anywhere give an image all the same or a DataError, and nothing else."""
    content = bytearray(encoded(data.draw(st.sampled_from(FORMATS)), size=16))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        patch = data.draw(st.binary(min_size=1, max_size=4))
        content[at : at + len(patch)] = patch
    path = tmp_path / "damaged"
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))] if data.draw(st.booleans()) else content)
    try:
        read = read_image(path, 8, 3)
    except DataError:
        return
    assert read.shape == (8, 8, 3)
    assert 0 <= read.min() <= read.max() <= 1
