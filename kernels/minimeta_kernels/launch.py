"""The way from arrays to compiled loops: layout, threads, empty work. No other module makes arrays contiguous."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import numpy as np

VARIABLE = "MINIMETA_NUM_THREADS"

#: Operations below which waking a second thread, some 20 us, costs more than it saves.
SMALL = 400_000

#: Pieces per thread: more than one, so that a thread that was held up leaves its share to the others.
_PIECES = 4


def threads() -> int:
    """How many threads a kernel may use: $MINIMETA_NUM_THREADS, or every core this process may run on.

    Raises ValueError for a value that is no count.
    """
    text = os.environ.get(VARIABLE)
    if text is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{VARIABLE}={text!r}; need a whole number of threads, 1 or more")
    return int(text)


def contiguous(*arrays: Any) -> tuple[Any, ...]:
    """The arrays C-contiguous, aligned, writeable and of one floating dtype, the widest among them.

    Copied only where needed. One layout means one compiled version of every kernel per dtype.
    """
    dtype = np.result_type(*arrays)
    ready = (np.ascontiguousarray(a, dtype=dtype) for a in arrays)
    return tuple(a if a.flags.behaved else a.copy() for a in ready)


def refuses(*arrays: Any, **options: Any) -> str | None:
    """Why loops over host memory do not take these arrays: they are for NumPy's float32 and float64 alone."""
    for a in arrays:
        if type(a) is tuple:
            reason = refuses(*a)
            if reason is not None:
                return reason
            continue
        if type(a) is not np.ndarray:
            return f"takes numpy.ndarray, got {type(a).__name__}"
        if a.dtype.char not in "fd":
            return f"takes float32 and float64, got {a.dtype}"
    return None


def parallel(kernel: Callable[..., None], count: int, work: float, *args: Any) -> None:
    """Run `kernel(begin, end, *args)` over [0, count) in pieces, on as many threads as allowed.

    The kernel must release the GIL and own what it writes for every index, so that neither the number of threads nor
    their order changes a bit of the result. `work`, in operations of a plain loop (about 0.1 ns each), decides whether
    threads pay.
    """
    if count == 0:
        return
    helpers = min(threads(), count) - 1 if work >= SMALL and count > 1 else 0
    if helpers == 0:
        kernel(0, count, *args)
        return
    pieces = min(count, (helpers + 1) * _PIECES)
    bounds = [count * i // pieces for i in range(pieces + 1)]
    turn = itertools.count()

    def take_pieces() -> None:
        while (i := next(turn)) < pieces:
            kernel(bounds[i], bounds[i + 1], *args)

    done: SimpleQueue[BaseException | None] = SimpleQueue()
    for _ in range(helpers):
        _pool.submit(take_pieces, done)
    errors: list[BaseException | None] = []
    try:
        take_pieces()
    finally:
        errors += [done.get() for _ in range(helpers)]
    for error in errors:
        if error is not None:
            raise error


class _Pool:
    """Threads that wait for work; started when first needed, and again in a forked child, which inherits none."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._jobs: SimpleQueue[tuple[Callable[[], None], SimpleQueue[BaseException | None]]] = SimpleQueue()
        self._started = 0
        self._lock = threading.Lock()

    def submit(self, job: Callable[[], None], done: SimpleQueue[BaseException | None]) -> None:
        if self._started < threads() - 1:
            with self._lock:
                if self._started < threads() - 1:
                    threading.Thread(target=self._serve, args=(self._jobs,), daemon=True).start()
                    self._started += 1
        self._jobs.put((job, done))

    @staticmethod
    def _serve(jobs: SimpleQueue[Any]) -> None:
        while True:
            job, done = jobs.get()
            try:
                job()
                done.put(None)
            except BaseException as error:
                done.put(error)
            del job, done  # a waiting thread must not keep the last job's arrays alive


_pool = _Pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.reset)
