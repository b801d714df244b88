"""CUDA's streams, graphs and pools of memory, for `device_double`: what is captured happens when a graph is launched.

While a stream captures, nothing is done: what would have been is written down, with the arrays it reads and those it
writes, and these are full of NaN until a launch. It does as CuPy does: no copy to or from the host, no call of cuBLAS.

What a GPU would leave to chance is an error here: memory that a graph works on and that is nobody's any more or is
handed out a second time, and work of two streams on the same memory, of which none has been waited for.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np


class DeviceError(AssertionError):
    """Something that may go well on a GPU, or end in wrong numbers."""


class CUDARuntimeError(RuntimeError):
    def __init__(self, status: int, name: str) -> None:
        super().__init__(name)
        self.status = status


class Memory:
    """What an array and all views of it lie in: whose it is, and the last work on it of each stream, by its time."""

    def __init__(self, owner: np.ndarray) -> None:
        self.owner = owner
        self.pool = _allocators[-1].take(owner.nbytes)
        self.read: dict[Stream, int] = {}
        self.written = {current(): current().time}

    def use(self, stream: Stream, writes: bool) -> None:
        if self.pool() is None:
            raise DeviceError("memory of a pool that is gone")
        for other, moment in (*self.written.items(), *(self.read.items() if writes else ())):
            if other is not stream and moment > other.done:
                raise DeviceError(f"{stream} works on what {other} may be working on")
        if writes:
            self.written = {stream: stream.time}
        else:
            self.read[stream] = stream.time


_memories: weakref.WeakValueDictionary[int, Memory] = weakref.WeakValueDictionary()


def memory_of(host: np.ndarray) -> Memory:
    """The memory of an array, new or a view of another."""
    owner = _owner(host)
    memory = _memories.get(id(owner))
    if memory is None:
        memory = _memories[id(owner)] = Memory(owner)
    return memory


def _owner(host: Any) -> Any:
    while (base := getattr(host, "base", None)) is not None:
        host = base
    return host


def alive() -> int:
    """How many arrays there are that are no views."""
    return len(_memories)


class MemoryPool:
    """Its memory is a graph's own from the moment on that it is captured."""

    def __init__(self, allocator: Callable[[int], Any] | None = None) -> None:
        self.allocator = allocator
        self.closed = False

    def malloc(self, size: int) -> None:
        if self.closed:
            raise DeviceError("memory of a graph is handed out again")
        if self.allocator is not None:
            self.allocator(size)

    def take(self, size: int) -> weakref.ref[MemoryPool]:
        self.malloc(size)
        return weakref.ref(self)

    def free_all_blocks(self) -> None:
        pass


default_pool = MemoryPool()
_allocators = [default_pool]

#: How many bytes of memory there are for a pool that asks for them.
free_bytes = float("inf")


def allocated(size: int) -> int:
    if size > free_bytes:
        raise CUDARuntimeError(2, "cudaErrorMemoryAllocation: out of memory")
    return size


@contextmanager
def using_allocator(malloc: Any) -> Iterator[None]:
    _allocators.append(malloc.__self__)
    try:
        yield
    finally:
        _allocators.pop()


class Graph:
    def __init__(self, pool: MemoryPool) -> None:
        self.work: list[Callable[[], None]] = []
        self.pool = weakref.ref(pool)
        self.made: dict[int, np.ndarray] = {}  # in its own memory
        self.memories: dict[int, tuple[weakref.ref[Memory], bool]] = {}  # those of others, and whether they are written

    def touch(self, memory: Memory, writes: bool) -> None:
        if id(memory.owner) not in self.made:
            writes = writes or self.memories.get(id(memory), (None, False))[1]
            self.memories[id(memory)] = weakref.ref(memory), writes

    def launch(self) -> None:
        if self.pool() is None:
            raise DeviceError("a graph is launched whose pool is gone")
        stream = current()
        stream.time += 1
        for reference, writes in self.memories.values():
            if (memory := reference()) is None:
                raise DeviceError("a graph works on memory that was freed")
            memory.use(stream, writes)
        for work in self.work:
            work()


class Stream:
    def __init__(self, non_blocking: bool = False) -> None:
        self.non_blocking = non_blocking
        self.graph: Graph | None = None
        self.time = self.done = 0  # of the last work, and the last that was waited for
        _known.add(self)

    def __enter__(self) -> Stream:
        _streams.append(self)
        return self

    def __exit__(self, *exception: object) -> None:
        _streams.pop()

    def synchronize(self) -> None:
        if self.is_capturing():
            raise CUDARuntimeError(900, "cudaErrorStreamCaptureUnsupported")
        self.done = self.time

    def is_capturing(self) -> bool:
        return self.graph is not None

    def begin_capture(self) -> None:
        if not self.non_blocking:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        if _allocators[-1] is default_pool:
            raise DeviceError("captured in memory that others will be given too")
        self.graph = Graph(_allocators[-1])

    def end_capture(self) -> Graph:
        graph, self.graph = self.graph, None
        assert graph is not None
        _allocators[-1].closed = True
        return graph


_known: weakref.WeakSet[Stream] = weakref.WeakSet()
null = Stream()
_streams = [null]


def current() -> Stream:
    return _streams[-1]


def _synchronize() -> None:
    for stream in _known:
        stream.synchronize()


#: Whether a kernel of minimeta is at work, which may multiply matrices, not NumPy's functions by CuPy's names.
_own = False


@contextmanager
def own_kernel() -> Iterator[None]:
    global _own
    before, _own = _own, True
    try:
        yield
    finally:
        _own = before


def wait() -> None:
    """The host waits for what the current stream has done."""
    current().synchronize()


def refuse(what: str) -> None:
    """Here is something that no stream captures."""
    if current().is_capturing():
        raise RuntimeError(f"the current stream is capturing, so {what} are disallowed")


def refuse_library(name: str) -> None:
    if current().is_capturing() and not _own:
        raise NotImplementedError(f"calling {name} API during stream capture is currently unsupported")


def perform(work: Callable[[], Any], given: Sequence[Memory], changed: Memory | None = None) -> Any:
    """Do work on arrays, or let a capturing stream write it down; it returns new ones or views, or changes one."""
    stream = current()
    if stream.graph is not None:
        return _written_down(stream.graph, work, given, changed)
    stream.time += 1
    for memory in given:
        memory.use(stream, writes=memory is changed)
    return work()


def _written_down(graph: Graph, work: Callable[[], Any], given: Sequence[Memory], changed: Memory | None) -> Any:
    for memory in given:
        graph.touch(memory, writes=memory is changed)
    if changed is not None:
        graph.work.append(work)
        return None
    found = work()
    result = list(map(_as_array, found)) if isinstance(found, tuple | list) else _as_array(found)
    owners = {id(memory.owner) for memory in given}
    for i, array in enumerate(result if isinstance(result, list) else [result]):
        if isinstance(array, np.ndarray) and id(owner := _owner(array)) not in owners:
            graph.made[id(owner)] = owner
            graph.work.append(partial(_again, work, array, i if isinstance(result, list) else None))
            array[...] = np.nan if array.dtype.kind == "f" else 0
    return result


def _as_array(value: Any) -> Any:
    """Of NumPy's numbers an array, which can be written to."""
    return np.asarray(value) if isinstance(value, np.generic) else value


def _again(work: Callable[[], Any], array: np.ndarray, part: int | None) -> None:
    found = work()
    array[...] = found if part is None else found[part]


cuda = SimpleNamespace(
    Device=lambda: SimpleNamespace(synchronize=_synchronize),
    Memory=allocated,
    MemoryPointer=lambda memory, offset: memory,
    MemoryPool=MemoryPool,
    Stream=Stream,
    get_current_stream=current,
    is_available=lambda: True,
    runtime=SimpleNamespace(
        CUDARuntimeError=CUDARuntimeError, getDeviceProperties=lambda number: {"name": b"a double"}
    ),
    using_allocator=using_allocator,
)
