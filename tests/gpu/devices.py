"""The places that the tests of this folder run in: the double on any machine, CuPy where there is a GPU."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minimeta_kernels
import minimeta_kernels.cuda  # for the names of its kernels; nothing is compiled
from minimeta import backend, tree
from minimeta_kernels import registry
from tests import device_double, device_graphs


class Device:
    """What both have in common."""

    xp: Any

    def put(self, values: Any) -> Any:
        """A tree with its arrays on the device."""
        return backend.to_device(values, "cupy")

    def assert_close(self, found: Any, expected: Any, tolerance: float) -> None:
        """Trees of equal numbers: `found` on this device, `expected` on the host."""
        for (path, a), (_, b) in zip(tree.items(found), tree.items(expected), strict=True):
            assert type(a) is self.xp.ndarray or not np.shape(b), f"{path}: a {type(a)}"
            a, b = backend.asnumpy(a), np.asarray(b)
            assert (a.shape, a.dtype) == (b.shape, b.dtype), f"{path}: {a.dtype}{a.shape}, expected {b.dtype}{b.shape}"
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1, np.abs(b).max(initial=0)))


class Double(Device):
    """CuPy played by NumPy."""

    xp = device_double.xp

    @contextmanager
    def no_copies_to_host(self) -> Iterator[None]:
        with device_double.forbidden(device_double.TO_HOST):
            yield

    @contextmanager
    def copies_to_device(self) -> Iterator[Callable[[], int]]:
        """A function that says how many there have been."""
        before = device_double.copies[device_double.TO_DEVICE]
        yield lambda: device_double.copies[device_double.TO_DEVICE] - before


class CuPy(Device):
    """The device itself."""

    def __init__(self) -> None:
        try:
            self.xp = backend.module("cupy")
        except RuntimeError as error:
            pytest.skip(str(error))

    @contextmanager
    def no_copies_to_host(self) -> Iterator[None]:
        import cupyx

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            with cupyx.allow_synchronize(False):
                yield

    @contextmanager
    def copies_to_device(self) -> Iterator[Callable[[], int]]:
        """As the double's: each copy of an array takes a buffer of pinned memory first.

        Of more than 8 arrays that CuPy joins it sends the addresses, which is nobody's copy.
        """
        pool = self.xp.cuda.PinnedMemoryPool()
        sizes: list[int] = []

        def allocate(size: int) -> Any:
            if Path(sys._getframe(1).f_code.co_filename).name != "join.py":
                sizes.append(size)
            return pool.malloc(size)

        self.xp.cuda.set_pinned_memory_allocator(allocate)
        try:
            yield lambda: len(sizes)
        finally:
            self.xp.cuda.set_pinned_memory_allocator(self.xp.get_default_pinned_memory_pool().malloc)


@contextmanager
def at_work(name: str) -> Iterator[Device]:
    """The device by its name, "double" or "cupy"; skips the test that asks for it where there is none."""
    if name == "cupy":
        yield CuPy()
        return
    with pytest.MonkeyPatch.context() as patch, minimeta_kernels.use("reference"):
        patch.setitem(sys.modules, "cupy", device_double.xp)
        patch.setitem(backend.NAMESPACES, device_double.Array, device_double.xp)
        for name in _with_cuda():
            patch.setitem(registry._table[name], "reference", _own(registry._table[name]["reference"]))
        yield Double()


def _with_cuda() -> list[str]:
    """The kernels that a GPU has of its own, which the reference's are for here."""
    registry._load("reference")
    return [name for name, found in registry._table.items() if {"cuda", "reference"} <= found.keys()]


def _own(implementation: registry.Implementation) -> registry.Implementation:
    """The same, known as a kernel of ours to who captures it."""

    def function(*arrays: Any, **options: Any) -> Any:
        with device_graphs.own_kernel():
            return implementation.function(*arrays, **options)

    return registry.Implementation(function, implementation.refuses)
