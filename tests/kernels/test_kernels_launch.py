"""The way to the loops: layout, refusals, threads, work shared among them, errors, and processes that fork."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minimeta_kernels
from minimeta_kernels import launch

ROOT = Path(__file__).parents[2]
LARGE = float(launch.SMALL)


@pytest.fixture
def use_threads(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    return lambda count: monkeypatch.setenv(launch.VARIABLE, str(count))


def unaligned(a: np.ndarray) -> np.ndarray:
    found = np.empty(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
    found[...] = a
    return found


def read_only(a: np.ndarray) -> np.ndarray:
    a = a.copy()
    a.flags.writeable = False
    return a


ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.mark.parametrize(
    "given",
    [
        np.asfortranarray(ROWS), np.repeat(ROWS, 2, axis=1)[:, ::2], ROWS[::-1, ::-1].copy()[::-1, ::-1],
        ROWS.astype(">f4"), unaligned(ROWS), read_only(ROWS), np.broadcast_to(ROWS[:1], (2, 3)),
    ],
    ids=["transposed", "strided", "backwards", "swapped", "unaligned", "read-only", "broadcast"],
)  # fmt: skip
def test_any_layout_becomes_the_one_that_kernels_are_compiled_for(given: np.ndarray) -> None:
    before = given.copy()
    [ready] = launch.contiguous(given)
    assert ready.flags.c_contiguous
    assert ready.flags.behaved
    assert ready.dtype == np.dtype("=f4")
    np.testing.assert_array_equal(ready, given)
    ready[:] = -1
    np.testing.assert_array_equal(given, before)


def test_what_is_ready_is_not_copied() -> None:
    empty = np.zeros((0, 3), np.float32)
    assert all(a is b for a, b in zip(launch.contiguous(ROWS, empty), (ROWS, empty), strict=True))


def test_the_widest_dtype_is_for_all() -> None:
    found = launch.contiguous(ROWS, ROWS.astype(np.float64), ROWS.T)
    assert [a.dtype for a in found] == [np.float64] * 3


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ((ROWS, ROWS.astype(np.float16)), "takes float32 and float64, got float16"),
        ((ROWS, ROWS > 1), "takes float32 and float64, got bool"),
        ((ROWS, (ROWS, ROWS.astype(complex))), "takes float32 and float64, got complex128"),
        ((np.ma.array(ROWS),), "takes numpy.ndarray, got MaskedArray"),
        ((1.0,), "takes numpy.ndarray, got float"),
        (((ROWS, ROWS.astype(np.float64)), ROWS), None),
        ((), None),
    ],
    ids=str,
)
def test_refusals(given: tuple[object, ...], reason: str | None) -> None:
    assert launch.refuses(*given, eps=3) == reason


def test_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(launch.VARIABLE, raising=False)
    assert 1 <= launch.threads() <= (os.cpu_count() or 1)
    monkeypatch.setenv(launch.VARIABLE, "7")
    assert launch.threads() == 7


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "", " 2"])
def test_what_is_no_number_of_threads(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(launch.VARIABLE, text)
    with pytest.raises(ValueError, match=f"MINIMETA_NUM_THREADS='{text}'; need a whole number of threads, 1 or more"):
        launch.threads()
    with pytest.raises(ValueError, match="need a whole number of threads"):
        launch.parallel(lambda begin, end: None, 2, LARGE)


@settings(max_examples=60)
@given(st.integers(0, 40), st.integers(1, 9), st.sampled_from([0.0, LARGE]))
def test_every_index_comes_once(count: int, threads: int, work: float) -> None:
    times = np.zeros(count, int)

    def visit(begin: int, end: int, factor: int) -> None:
        assert begin < end
        times[begin:end] += factor

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(launch.VARIABLE, str(threads))
        launch.parallel(visit, count, work, 1)
    assert times.tolist() == [1] * count


def test_no_work_calls_nobody() -> None:
    def never(begin: int, end: int) -> None:
        raise AssertionError

    launch.parallel(never, 0, LARGE)


def names(count: int, work: float) -> list[str]:
    """The threads that do so many pieces of work, once per piece; each waits for a second one, a while."""
    found = []
    meeting = threading.Event()

    def note(begin: int, end: int) -> None:
        found.append(threading.current_thread().name)
        if len(set(found)) > 1:
            meeting.set()
        meeting.wait(0.2)

    launch.parallel(note, count, work)
    return found


def test_large_work_is_shared(use_threads: Callable[[int], None]) -> None:
    use_threads(3)
    assert len(set(names(24, LARGE))) > 1


@pytest.mark.parametrize(("count", "work", "threads"), [(24, LARGE - 1, 3), (1, LARGE, 3), (24, LARGE, 1)])
def test_small_work_stays_in_the_calling_thread(
    count: int, work: float, threads: int, use_threads: Callable[[int], None]
) -> None:
    use_threads(threads)
    assert names(count, work) == [threading.current_thread().name]


@pytest.mark.parametrize("here", [True, False], ids=["in the calling thread", "in a helper"])
@pytest.mark.parametrize("error", [ArithmeticError, KeyboardInterrupt])
def test_an_error_in_a_piece_reaches_the_caller(
    here: bool, error: type[BaseException], use_threads: Callable[[int], None]
) -> None:
    use_threads(2)
    caller, both = threading.current_thread(), threading.Barrier(2)
    met = set()

    def fail(begin: int, end: int) -> None:
        me = threading.current_thread()
        if me not in met:
            met.add(me)
            both.wait(10)
        if (me is caller) == here:
            raise error("planted")

    with pytest.raises(error, match="planted"):
        launch.parallel(fail, 8, LARGE)
    times = np.zeros(8, int)

    def visit(begin: int, end: int) -> None:
        times[begin:end] += 1

    launch.parallel(visit, 8, LARGE)  # the helpers are still there
    assert times.tolist() == [1] * 8


def test_waiting_threads_keep_nothing_alive(use_threads: Callable[[int], None]) -> None:
    use_threads(3)
    held = np.zeros(10)
    gone = weakref.ref(held)
    launch.parallel(lambda begin, end, a: None, 10, LARGE, held)
    del held
    for _ in range(100):  # a helper reports before it lets go
        if gone() is None:
            break
        threading.Event().wait(0.01)
    gc.collect()
    assert gone() is None


def problem(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(8, 50, 16)), rng.normal(size=(8, 60, 16))


def test_callers_in_several_threads_get_their_own_results(use_threads: Callable[[int], None]) -> None:
    use_threads(3)
    problems = [problem(seed) for seed in range(6)]
    expected = [np.abs(x[:, :, None] - y[:, None]).sum(-1) for x, y in problems]

    def distances(k: int) -> np.ndarray:
        return np.asarray(minimeta_kernels.call("l1", *problems[k % 6]))

    with ThreadPoolExecutor(4) as callers:
        for k, found in enumerate(callers.map(distances, range(60))):
            np.testing.assert_allclose(found, expected[k % 6])


FORK = """
import os, sys, warnings
import numpy as np
from minimeta_kernels import call, launch

warnings.simplefilter("ignore", DeprecationWarning)  # of forks in processes with threads, from Python 3.12 on
x, y = np.random.default_rng(0).normal(size=(2, 8, 100, 16))
expected = call("l1", x, y)
assert 2 * expected.size * 16 > launch.SMALL
child = os.fork()
if child == 0:
    np.testing.assert_array_equal(call("l1", x, y), expected)
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_has_threads_of_its_own() -> None:
    paths = os.pathsep.join([str(ROOT / "kernels"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, launch.VARIABLE: "3"}
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
