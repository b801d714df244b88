"""Untrusted archives: each kind of damage has its error, and none leaves a trace in the cache."""

import io
import os
import struct
import zipfile
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minimeta.data import DataError, archive, omniglot
from minimeta.data.drawings import DRAWINGS, SIDE, Archive, content_digest, read_drawings

Image = pytest.importorskip("PIL.Image", reason="decoding drawings needs Pillow")

CHARACTERS = ("Elvish/character01", "Elvish/character02", "Runes/character01")


def png(ink, mode="1"):
    """The PNG file of one drawing, dark ink on white."""
    file = io.BytesIO()
    Image.fromarray(np.where(ink, 0, 255).astype(np.uint8)).convert(mode).save(file, "PNG")
    return file.getvalue()


@cache
def drawings():
    """name -> ink of the tiny archive's drawings."""
    rng = np.random.default_rng(0)
    return {
        f"tiny/{character}/{number:04d}_{drawing:02d}.png": np.kron(rng.random((21, 21)) < 0.3, np.ones((5, 5))) > 0
        for number, character in enumerate(CHARACTERS, start=1)
        for drawing in range(1, DRAWINGS + 1)
    }


@cache
def tiny_files():
    return {name: png(ink) for name, ink in drawings().items()}


@pytest.fixture
def files():
    """Member name -> content of a genuine tiny archive, to be tampered with."""
    return dict(tiny_files())


@pytest.fixture
def tiny():
    digest = content_digest(list(drawings()), np.stack(list(drawings().values())))
    # nothing listens on port 9 of this machine: a test that reaches for the net fails at once
    return Archive("tiny", len(CHARACTERS), digest, "http://127.0.0.1:9/tiny.zip", "0" * 32)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The data folder's `omniglot`, with an empty cache folder beside."""
    monkeypatch.setenv("MINIMETA_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data" / "omniglot").mkdir(parents=True)
    return tmp_path / "data" / "omniglot"


def pack(path, files, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return path


def unpack(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def snapshot(folder):
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


@pytest.fixture
def refused(home, tiny):
    """Loading fails with an error that names the file and says `message`; the cache stays as it was."""
    cache_folder = Path(os.environ["MINIMETA_CACHE"])
    keep = cache_folder / "omniglot" / "something-of-mine.npz"
    keep.parent.mkdir(parents=True)
    keep.write_bytes(b"mine")

    def check(message, names="tiny"):
        before = snapshot(cache_folder)
        with pytest.raises(DataError, match=message) as caught:
            omniglot.load_archive(tiny, 28, home)
        assert names in str(caught.value)
        assert snapshot(cache_folder) == before

    return check


# genuine archives, however packed


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_genuine_zip_is_read(home, tiny, files, compression):
    names, ink = read_drawings(pack(home / "tiny.zip", files, compression), tiny)
    assert names == CHARACTERS
    assert np.array_equal(ink.reshape(-1, SIDE, SIDE), np.stack(list(drawings().values())))


def test_neither_packing_nor_png_encoding_matters(home, tiny, files):
    expected = read_drawings(pack(home / "tiny.zip", files), tiny)[1]
    grey = {name: png(ink, "L") for name, ink in reversed(drawings().items())}
    debris = {"tiny/": b"", "tiny/Elvish/": b"", "__MACOSX/tiny/._x": b"x", "tiny/Elvish/.DS_Store": b"x"}
    assert np.array_equal(read_drawings(pack(home / "other.zip", debris | grey), tiny)[1], expected)


def test_an_extracted_folder_is_read(home, tiny, files):
    unpack(home, files)
    (home / "tiny" / ".DS_Store").write_bytes(b"x")
    names, images = omniglot.load_archive(tiny, 28, home)
    assert names == list(CHARACTERS)
    assert images.shape == (3, DRAWINGS, 28, 28)


def test_ink_is_bright_and_full_size_is_exact(home, tiny, files):
    pack(home / "tiny.zip", files)
    _, images = omniglot.load_archive(tiny, SIDE, home)
    assert np.array_equal(images.reshape(-1, SIDE, SIDE) == 255, np.stack(list(drawings().values())))
    assert set(np.unique(images)) == {0, 255}


def test_resizing_keeps_the_mean_and_commutes_with_rotation(home, tiny, files):
    pack(home / "tiny.zip", files)
    large, small = (omniglot.load_archive(tiny, size, home)[1].astype(float) for size in (SIDE, 28))
    assert abs(large.mean() - small.mean()) < 3
    turned = {name: png(np.rot90(ink)) for name, ink in drawings().items()}
    other = Archive(
        "tiny",
        3,
        content_digest(list(turned), np.stack([np.rot90(i) for i in drawings().values()])),
        tiny.url,
        tiny.md5,
    )
    pack(home / "tiny.zip", turned)
    again = omniglot.load_archive(other, 28, home)[1]
    assert np.abs(np.rot90(small, axes=(2, 3)) - again).max() <= 1


# the cache


def test_the_second_load_needs_no_archive(home, tiny, files):
    path = pack(home / "tiny.zip", files)
    first = omniglot.load_archive(tiny, 28, home)
    path.unlink()
    second = omniglot.load_archive(tiny, 28, home)
    assert first[0] == second[0]
    assert np.array_equal(first[1], second[1])


def test_each_size_and_each_content_has_its_own_cache_file(home, tiny, files):
    pack(home / "tiny.zip", files)
    assert omniglot.load_archive(tiny, 28, home)[1].shape[-1] == 28
    assert omniglot.load_archive(tiny, 20, home)[1].shape[-1] == 20
    assert len(snapshot(os.environ["MINIMETA_CACHE"])) == 2
    with pytest.raises(DataError, match="not those published"):
        omniglot.load_archive(Archive("tiny", 3, "0" * 64, tiny.url, tiny.md5), 28, home)


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "other", "shape"])
def test_a_damaged_cache_file_is_made_again(home, tiny, files, damage):
    pack(home / "tiny.zip", files)
    expected = omniglot.load_archive(tiny, 28, home)[1]
    [(path, content)] = snapshot(os.environ["MINIMETA_CACHE"]).items()
    if damage == "flip":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    elif damage == "truncate":
        path.write_bytes(content[:-100])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "other":
        path.write_bytes(b"<html>404</html>")
    else:
        np.savez(path, names=np.array(CHARACTERS), images=expected[:, :, :20, :20])
    assert np.array_equal(omniglot.load_archive(tiny, 28, home)[1], expected)
    assert list(snapshot(os.environ["MINIMETA_CACHE"])) == [path]
    (home / "tiny.zip").unlink()
    assert np.array_equal(omniglot.load_archive(tiny, 28, home)[1], expected)


class Payload:
    """An object whose pickle runs code of its own when read: here, making a folder."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_a_pickle_in_the_cache_is_never_run(home, tmp_path, tiny, files):
    pack(home / "tiny.zip", files)
    images = omniglot.load_archive(tiny, 28, home)[1]
    [path] = snapshot(os.environ["MINIMETA_CACHE"])
    np.savez(path, names=np.array([Payload(tmp_path / "run")], object), images=images)
    assert omniglot.load_archive(tiny, 28, home)[0] == list(CHARACTERS)
    assert not (tmp_path / "run").exists()


def test_a_cache_folder_that_cannot_be_written_says_so(home, tiny, files, monkeypatch, tmp_path):
    pack(home / "tiny.zip", files)
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("MINIMETA_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="MINIMETA_CACHE"):
        omniglot.load_archive(tiny, 28, home)


def test_an_interrupted_write_leaves_nothing(home, tiny, files, monkeypatch):
    pack(home / "tiny.zip", files)

    def interrupted(file, **arrays):
        file.write(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", interrupted)
    with pytest.raises(KeyboardInterrupt):
        omniglot.load_archive(tiny, 28, home)
    assert snapshot(os.environ["MINIMETA_CACHE"]) == {}


# wrong content


def test_a_missing_drawing_is_refused(home, files, refused):
    del files["tiny/Runes/character01/0003_07.png"]
    pack(home / "tiny.zip", files)
    refused("Runes/character01 has 19 drawings, expected 20")


def test_a_missing_character_is_refused(home, files, refused):
    pack(home / "tiny.zip", {name: content for name, content in files.items() if "Runes" not in name})
    refused("has 2 characters, expected 3")


def test_an_unexpected_member_is_refused(home, files, refused):
    pack(home / "tiny.zip", files | {"tiny/notes.txt": b"hello"})
    refused("unexpected member 'tiny/notes.txt'")


def test_a_changed_pixel_is_refused(home, files, refused):
    name, ink = next(iter(drawings().items()))
    changed = ink.copy()
    changed[50, 50] ^= True
    pack(home / "tiny.zip", files | {name: png(changed)})
    refused("names or pixels are not those published")


def test_swapped_drawings_are_refused(home, files, refused):
    a, b = list(files)[:2]
    files[a], files[b] = files[b], files[a]
    pack(home / "tiny.zip", files)
    refused("names or pixels are not those published")


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_header(width, height):
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a PNG file"),
        (b"GIF89a" + bytes(40), "not a PNG file"),
        (b"<html><body>404 Not Found</body></html>", "not a PNG file"),
        (png(np.zeros((SIDE, 28), bool)), "28x105 pixels, expected 105x105"),
        (png_header(200_000, 200_000), "200000x200000 pixels, expected 105x105"),
        (png_header(SIDE, SIDE), "cannot be decoded"),
        (png(np.zeros((SIDE, SIDE), bool))[:-30], "cannot be decoded"),
        (png_header(SIDE, SIDE) + chunk(b"IDAT", zlib.compress(b"\0" * 9)) + chunk(b"IEND", b""), "cannot be decoded"),
        (png(np.zeros((SIDE, SIDE), bool), "RGB"), "PNG mode RGB"),
        (png(np.zeros((SIDE, SIDE), bool), "P"), "PNG mode P"),
    ],
)
def test_a_bad_image_is_refused(home, files, refused, content, message):
    pack(home / "tiny.zip", files | {"tiny/Elvish/character02/0002_03.png": content})
    refused(message, names="tiny.zip: tiny/Elvish/character02/0002_03.png")


def test_shades_of_grey_are_refused(home, files, refused):
    file = io.BytesIO()
    Image.fromarray(np.full((SIDE, SIDE), 128, np.uint8)).save(file, "PNG")
    pack(home / "tiny.zip", files | {"tiny/Elvish/character02/0002_03.png": file.getvalue()})
    refused("shades of grey")


# hostile packing


def test_a_truncated_zip_is_refused(home, files, refused):
    path = pack(home / "tiny.zip", files)
    path.write_bytes(path.read_bytes()[:-500])
    refused("cannot be read", names="tiny.zip")


def test_a_web_page_is_refused(home, refused):
    (home / "tiny.zip").write_bytes(b"<html>404 Not Found</html>")
    refused("cannot be read: File is not a zip file", names="tiny.zip")


def test_a_corrupted_member_is_refused(home, files, refused):
    path = pack(home / "tiny.zip", files)
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(content)
    refused("cannot be read: Bad CRC-32")


@pytest.mark.parametrize("name", ["../evil.png", "/etc/evil.png", "tiny/../../evil.png", "C:/evil.png", "tiny\\..\\e"])
def test_a_path_that_leads_outside_is_refused(home, files, refused, name):
    pack(home / "tiny.zip", files | {name: b"x"})
    refused("leads outside the archive")


def test_a_repeated_member_is_refused(home, files, refused):
    path = pack(home / "tiny.zip", files)
    name = next(iter(files))
    with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr(name, b"x")
    refused(f"member '{name}' appears twice")


def test_a_highly_compressed_member_is_refused(home, files, refused):
    pack(home / "tiny.zip", files | {"tiny/bomb": bytes(10_000_000)}, zipfile.ZIP_DEFLATED)
    refused("member 'tiny/bomb' claims 10000000 bytes")


def test_a_large_member_is_refused(home, files, refused):
    pack(home / "tiny.zip", files | {"tiny/large": bytes(archive.MEMBER_BYTES + 1)})
    refused(f"member 'tiny/large': larger than {archive.MEMBER_BYTES} bytes")


def test_a_member_larger_than_it_claims_is_refused(home, files, refused):
    noise = np.random.default_rng(0).bytes(3000)
    path = pack(home / "tiny.zip", files | {"tiny/liar": noise}, zipfile.ZIP_DEFLATED)
    content = path.read_bytes()
    path.write_bytes(content.replace(struct.pack("<I", 3000), struct.pack("<I", 30)))
    refused("cannot be read: Bad CRC-32")


def test_too_much_in_total_is_refused(home, files, refused, monkeypatch):
    unpack(home, files)
    total = sum(map(len, files.values()))
    monkeypatch.setattr(archive, "TOTAL_BYTES", total - 1)
    refused(f"more than 50000 members or {total - 1} bytes")


def test_too_many_members_are_refused(home, files, refused, monkeypatch):
    pack(home / "tiny.zip", files)
    monkeypatch.setattr(archive, "MEMBERS", len(files) - 1)
    refused(f"more than {len(files) - 1} members")


def test_a_huge_zip_is_refused_unread(home, refused):
    with (home / "tiny.zip").open("wb") as file:
        file.truncate(archive.TOTAL_BYTES + 1)
    refused("larger than")


def test_an_encrypted_member_is_refused(home, files, refused):
    path = pack(home / "tiny.zip", files)
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.find(signature) + offset] |= 1
    path.write_bytes(content)
    refused("encrypted")


def test_a_link_out_of_the_folder_is_refused(home, tmp_path, files, refused):
    unpack(home, files)
    secret = tmp_path / "secret"
    secret.write_bytes(b"x")
    (home / "tiny" / "Runes" / "character01" / "0003_21.png").symlink_to(secret)
    refused("leads outside")


def test_a_linked_folder_outside_is_refused(home, tmp_path, files, refused):
    unpack(home, files)
    (home / "tiny" / "Futhark").symlink_to(tmp_path)
    refused("leads outside")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_the_folder_is_refused(home, files, refused):
    unpack(home, files)
    os.mkfifo(home / "tiny" / "Runes" / "character01" / "0003_21.png")
    refused("not a regular file")


def test_a_large_file_in_the_folder_is_refused(home, files, refused):
    unpack(home, files | {"tiny/Runes/character01/0003_20.png": bytes(archive.MEMBER_BYTES + 1)})
    refused(f"larger than {archive.MEMBER_BYTES} bytes")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_no_damage_raises_anything_else(tmp_path, tiny, data):
    """Random bytes written anywhere over a small archive (too small to be accepted) give DataError and nothing else."""
    path = pack(tmp_path / "tiny.zip", dict(list(tiny_files().items())[:2]), zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        patch = data.draw(st.binary(min_size=1, max_size=4))
        content[at : at + len(patch)] = patch
    path.write_bytes(content)
    with pytest.raises(DataError):
        read_drawings(path, tiny)
