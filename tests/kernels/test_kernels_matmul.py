"""Matrix products: compiled against NumPy's in float64, in every layout, and what the compiled one leaves to NumPy."""

from __future__ import annotations

import ctypes
import mmap
import sys
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import minimeta_kernels
from tests.autodiff.numeric import close
from tests.kernels import compare

# called directly: through the table, most shapes that are quick to test are left to NumPy
matmul = pytest.importorskip("minimeta_kernels.numba_cpu.matmul", exc_type=ImportError).matmul


def pair(a: tuple[int, ...], b: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=a), rng.normal(size=b)


def transposed(x: np.ndarray) -> np.ndarray:
    """The same values as a view of the transposed matrices."""
    return np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2)


def reversed_(x: np.ndarray) -> np.ndarray:
    """The same values at negative strides."""
    return np.flip(np.flip(x).copy())


def unaligned(x: np.ndarray) -> np.ndarray:
    """The same values one byte further on than they should be."""
    raw = np.zeros(x.nbytes + 1, np.uint8)
    view = raw[1:].view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


def inside(x: np.ndarray) -> np.ndarray:
    """The same values amid not-a-numbers."""
    wide = np.full([n + 2 for n in x.shape], np.nan, x.dtype)
    view = wide[tuple(slice(1, n + 1) for n in x.shape)]
    view[...] = x
    return view


LAYOUTS = (*compare.LAYOUTS, transposed, reversed_, unaligned, inside)


def agrees(a: np.ndarray, b: np.ndarray) -> None:
    """Both dtypes, every layout of either side."""
    expected = np.matmul(a, b)
    for dtype, rtol in ((np.float64, 1e-12), (np.float32, 2e-5)):
        for of_a, of_b in _arranged(a.astype(dtype), b.astype(dtype)):
            found = matmul(of_a, of_b)
            assert found.dtype == dtype
            close(found, expected, rtol)


def _arranged(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for i, arrange in enumerate(LAYOUTS):
        yield arrange(a), arrange(b)
        yield arrange(a), LAYOUTS[i - 1](b)
        yield LAYOUTS[i - 1](a), arrange(b)


@settings(max_examples=15)
@example(3, 17, 16, 33)  # whole vectors and one column
@example(2, 65, 1, 5)
@example(1, 1, 40, 1)
@given(st.integers(0, 3), st.integers(0, 40), st.integers(0, 40), st.integers(0, 80))
def test_agrees_with_numpy(batch: int, m: int, k: int, n: int) -> None:
    agrees(*pair((batch, m, k), (batch, k, n)))


@pytest.mark.parametrize(
    ("m", "k", "n"),
    [(500, 7, 150), (20, 600, 130), (16, 300, 100), (17, 513, 130), (101, 1100, 140)],
    ids=["blocks", "depths", "turned", "turned in depths", "depths of panels"],
)
def test_agrees_with_numpy_when_cut(m: int, k: int, n: int) -> None:
    agrees(*pair((m, k), (k, n)))


@pytest.mark.parametrize("left", [(3, 97, 20), (1, 97, 20)], ids=["each", "shared"])
def test_left_matrices_that_are_turned(left: tuple[int, ...]) -> None:
    agrees(*pair(left, (3, 20, 130)))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((4, 3, 5), (5, 20)),
        ((3, 5), (4, 5, 20)),
        ((1, 3, 5), (4, 5, 20)),
        ((4, 3, 5), (1, 5, 20)),
        ((2, 3, 4, 5), (2, 3, 5, 20)),
        ((2, 1, 4, 5), (3, 5, 20)),
        ((2, 3, 4, 5), (5, 20)),
        ((1, 1, 4, 5), (2, 2, 3, 5, 20)),
        ((0, 4, 5), (1, 5, 20)),
        ((3, 4, 300), (300, 70)),
        ((17, 300), (3, 300, 130)),
        ((3, 17, 300), (3, 300, 130)),
    ],
)
def test_leading_axes_are_broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    agrees(*pair(a, b))


def test_broadcast_views_are_read_in_place() -> None:
    a, b = (x.astype(np.float32) for x in pair((1000, 4, 64), (64, 64)))
    for left, right in ((a, np.broadcast_to(b, (1000, 64, 64))), (np.broadcast_to(a[0], (1000, 4, 64)), b)):
        expected = np.matmul(left, right)
        tracemalloc.start()
        found = matmul(left, right)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        close(found, expected, 1e-5)
        assert peak < found.nbytes + 100_000


def test_panels_that_begin_at_one_place_are_told_apart() -> None:
    """Where rows overlap, the last terms of one panel may begin where the first ones of the next do."""
    rng = np.random.default_rng(0)
    a, numbers = rng.normal(size=(200, 300)), rng.normal(size=300 + 8 * 69)
    b = np.lib.stride_tricks.sliding_window_view(numbers, 300)[::8].T
    close(matmul(a, b), a @ b, 1e-12)


def test_no_terms_sum_to_zero() -> None:
    np.full((6, 7), np.nan)  # what it leaves in memory is what an empty array of its size begins with
    assert not matmul(np.empty((6, 0)), np.empty((0, 7))).any()


def test_mixed_dtypes_give_the_wider_one() -> None:
    a, b = pair((3, 4), (4, 5))
    found = matmul(a.astype(">f4"), b)
    assert found.dtype == np.float64
    close(found, a.astype(np.float32) @ b, 1e-12)
    assert matmul(a.astype(">f4"), b.astype(">f4")).dtype == np.dtype(np.float32)


@pytest.mark.parametrize(("a", "b"), [((3, 4), (5, 6)), ((2, 3, 4), (3, 4, 5))])
def test_shapes_that_do_not_fit_raise(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"inner sizes|broadcast"):
        matmul(np.zeros(a), np.zeros(b))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("a", "b"),
    [((700, 300), (300, 300)), ((64, 3000), (3000, 64)), ((40, 90, 60), (40, 60, 70))],
    ids=["large", "one panel", "stack"],
)
def test_any_number_of_threads_gives_the_same_bits(
    a: tuple[int, ...], b: tuple[int, ...], dtype: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = pair(a, b)
    assert "numba      runs" in minimeta_kernels.explain("matmul", *arrays)
    compare.repeatable("matmul", arrays, monkeypatch=monkeypatch, dtype=dtype)


@pytest.mark.parametrize(
    ("a", "b", "reason"),
    [
        ((2, 3), (3, 4), "launch"),
        ((1000, 1000), (1000, 1), "vectors"),
        ((1, 1000), (1000, 1000), "vectors"),
        ((500, 500), (500,), "matrices"),
    ],
)
def test_what_numpy_does_faster_is_left_to_it(a: tuple[int, ...], b: tuple[int, ...], reason: str) -> None:
    arrays = pair(a, b)
    verdict = minimeta_kernels.explain("matmul", *arrays)
    assert reason in verdict.splitlines()[0]
    assert "reference  runs" in verdict
    close(minimeta_kernels.call("matmul", *arrays), np.matmul(*arrays), 1e-12)


def test_nan_stays_in_its_row() -> None:
    a, b = (x.astype(np.float32) for x in pair((20, 70), (70, 30)))
    a[3, 2] = np.nan
    assert np.isnan(matmul(a, b)).all(axis=1).tolist() == [i == 3 for i in range(20)]
    assert np.isnan(matmul(a, b)).any(axis=1).tolist() == [i == 3 for i in range(20)]


@pytest.mark.skipif(sys.platform == "win32", reason="needs mprotect")
@pytest.mark.parametrize("n", [5, 16, 40, 65])
def test_nothing_is_read_behind_the_last_row(n: int) -> None:
    """The right matrix ends where readable memory ends: one number too many ends the process."""
    a, b = (x.astype(np.float32) for x in pair((2, 7, 30), (2, 30, n)))
    size = -(-b.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, size + mmap.PAGESIZE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None).mprotect
    assert protect(ctypes.c_void_p(start + size), ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    last = np.frombuffer(memory, np.float32, b.size, size - b.nbytes).reshape(b.shape)
    last[...] = b
    close(matmul(a, last), np.matmul(a, b), 1e-5)
    close(matmul(a, last[:, ::-1]), np.matmul(a, b[:, ::-1]), 1e-5)
