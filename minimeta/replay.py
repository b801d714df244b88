"""A training step as a CUDA graph: recorded once, then launched as a whole, instead of one kernel after another.

A graph does the same work on the same memory each time, with every number that the host had when it was recorded. So
what changes from step to step lies in buffers that a replay finds as they are then: parameters and the optimizer's
state, which a step leaves there for the next one, its task, and on the device too its learning rate and the like.

CuPy lets no call of cuBLAS into a graph: matrix products in one are by minimeta's own kernel, which is the slower one
where they are large (`minimeta_kernels.cuda.products`). Nor can a step be recorded in which the host waits for a value.
"""

from __future__ import annotations

import contextlib
import gc
import traceback
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import minimeta_kernels
from minimeta import backend, tree

#: The most forms of tasks, such as lengths of sequences, that have a graph: each holds the memory of a step.
MOST_FORMS = 32

#: From (carried, task, numbers) to (carried, results): a step as a function of trees. What it takes over from the step
#: before comes first and goes to the next; the results are one number each.
Step = Callable[[Any, Any, Sequence[Any]], tuple[Any, Any]]

_PACKAGES = tuple(Path(str(module.__file__)).parent for module in (backend, minimeta_kernels))
_OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation


class RecordingError(RuntimeError):
    """Work that cannot be recorded as a CUDA graph; the message says what stands in the way, and where.

    >>> issubclass(RecordingError, RuntimeError)
    True
    """


class Replay:
    """A step that is called as `step` is, and replays a graph of it: one for each form that tasks have.

    Of `carried` the first leaf is an array of CuPy, whose dtype the `numbers` take. Arrays come back in the buffers of
    this object, good until its next call; numbers have to go through a step unchanged. Results are new arrays, float64.
    After MOST_FORMS forms of tasks, shapes and dtypes, those of further forms take their steps unrecorded.

    Raises ValueError for another `device` than "cupy", RecordingError for a step that cannot be recorded.
    """

    def __init__(self, step: Step, device: str) -> None:
        if device != "cupy":
            raise ValueError(f"a graph on device {device!r}: only 'cupy' records CUDA graphs")
        self.step = step
        self.carried: Any = None  # the buffers
        self.numbers: list[Any] = []
        self.graphs: dict[Hashable, tuple[Any, Callable[[], Any]]] = {}  # by form: the task's buffers, and the replay

    def __call__(self, carried: Any, task: Any, numbers: Sequence[float]) -> tuple[Any, Any]:
        form = tuple(map(_form, tree.leaves(task)))
        if form not in self.graphs and len(self.graphs) == MOST_FORMS:
            return self.step(carried, task, numbers)
        self._fill(carried, numbers)
        if form not in self.graphs:
            carried, buffers = _copy(carried), _copy(task)
            self.graphs[form] = buffers, record(partial(_once, self.step, self.carried, buffers, self.numbers))
            _write(self.carried, carried)  # again, as steps were taken to get ready
        buffers, replay = self.graphs[form]
        _write(buffers, task)
        results, values = replay()
        carried = tree.map(lambda buffer, leaf: buffer if _is_array(leaf) else leaf, self.carried, carried)
        return carried, tree.unflatten(results, list(values.copy()))

    def _fill(self, carried: Any, numbers: Sequence[float]) -> None:
        if self.carried is None:
            self.carried = _copy(carried)
            first = tree.leaves(carried)[0]
            self.numbers = list(backend.namespace(first).empty(len(numbers), first.dtype))
        _write(self.carried, carried)
        for scalar, number in zip(self.numbers, numbers, strict=True):
            scalar.fill(number)


def _once(step: Step, carried: Any, task: Any, numbers: Sequence[Any]) -> tuple[Any, Any]:
    """What is recorded: a step from buffers to buffers; the tree of its results, and their values in one array."""
    after, results = step(carried, task, numbers)
    for (path, old), new in zip(tree.items(carried), tree.leaves(after), strict=True):
        if _form(old) != _form(new):
            raise RecordingError(f"{'/'.join(path)} goes from {_form(old)} to {_form(new)} in a step")
    leaves = tree.leaves(results)
    values = backend.module("cupy").empty(len(leaves), "float64")
    for i, leaf in enumerate(leaves):
        values[i] = leaf
    _write(carried, after)
    return tree.map(lambda leaf: 0, results), values


def check(name: str, values: Any) -> None:
    """Raise ValueError where a tree of the learner `name`, on a device, holds numbers that the host changes.

    >>> check("Reptile", {"running": {"step": 0.0}})
    Traceback (most recent call last):
    ValueError: Reptile counts running/step on the host, which no CUDA graph sees: leave out graph
    """
    counted = ["/".join(path) for path, leaf in tree.items(values) if not _is_array(leaf)]
    if counted:
        raise ValueError(f"{name} counts {', '.join(counted)} on the host, which no CUDA graph sees: leave out graph")


def record(run: Callable[[], Any]) -> Callable[[], Any]:
    """`run`, done three times, the last time recorded: what replays it, and returns the same arrays with new values.

    A replay is queued on the current stream. What it leaves in the arrays that it returns is there until the next one.
    It keeps `run`, and so what that works on.

    Raises RecordingError for work that cannot be recorded, MemoryError where there is not enough for it.
    """
    xp = backend.module("cupy")
    cuda = xp.cuda
    with minimeta_kernels.recordable(), _uncollected():
        run()  # constants that it caches shall outlive the graph and its memory
        xp.get_default_memory_pool().free_all_blocks()
        cuda.Device().synchronize()  # what was made on the current stream is read on another
        # the memory of a graph is nobody else's: it is in use whenever the graph runs, not only now
        pool, stream = cuda.MemoryPool(partial(_allocate, cuda)), cuda.Stream(non_blocking=True)
        with cuda.using_allocator(pool.malloc), stream:
            run()  # now the pool has the memory for it, and its kernels are loaded
            graph, result = _captured(stream, run)
        stream.synchronize()

    def replay(kept: Any = (run, pool)) -> Any:  # whose memory has to last
        graph.launch()
        return result

    return replay


def _captured(stream: Any, run: Callable[[], Any]) -> tuple[Any, Any]:
    stream.begin_capture()
    try:
        result = run()
        return stream.end_capture(), result
    except BaseException as error:
        with contextlib.suppress(Exception):  # it fails too, and what counts is why
            stream.end_capture()
        if isinstance(error, MemoryError | RecordingError) or not isinstance(error, Exception):
            raise
        raise RecordingError(f"cannot be recorded as a CUDA graph: {error} (in {_place(error)})") from error


def _allocate(cuda: Any, size: int) -> Any:
    """Memory for a pool, that where there is no more must not give up what a graph in the making works on."""
    try:
        return cuda.MemoryPointer(cuda.Memory(size), 0)
    except cuda.runtime.CUDARuntimeError as error:
        if error.status != _OUT_OF_MEMORY:
            raise
        raise MemoryError(f"no {size} bytes more on the GPU, to record a step") from error


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Here the garbage collector, which would free memory of other steps at any moment, rests."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _place(error: BaseException | None) -> str:
    """The innermost line of ours that led to it, or to what caused it."""
    innermost = None
    while error is not None:
        ours = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_ours(Path(frame.filename))]
        innermost, error = ours[-1] if ours else innermost, error.__cause__
    assert innermost is not None  # at the least it came through here
    return f"{Path(innermost.filename).name}, line {innermost.lineno}, {innermost.name}"


def _is_ours(file: Path) -> bool:
    return any(file.is_relative_to(package) for package in _PACKAGES)


def _is_array(leaf: Any) -> bool:
    return backend.namespace(leaf) is not np


def _form(leaf: Any) -> Hashable:
    """Of an array shape and dtype; a number itself."""
    return (leaf.shape, str(leaf.dtype)) if _is_array(leaf) else leaf


def _copy(values: Any) -> Any:
    return tree.map(lambda leaf: leaf.copy() if _is_array(leaf) else leaf, values)


def _write(buffers: Any, values: Any) -> None:
    """Copy arrays over others of their form; numbers stay."""
    copyto = backend.module("cupy").copyto
    for buffer, value in zip(tree.leaves(buffers), tree.leaves(values), strict=True):
        if _is_array(value) and value is not buffer:
            copyto(buffer, value)
