"""How kernels are compiled: without the GIL, kept on disk, and with a word to the user who waits for it."""

from __future__ import annotations

import contextlib
import hashlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba import njit
from numba.core import caching, event

if numba.version_info.short < (0, 62):
    raise ImportError(
        f"minimeta_kernels: the compiled kernels need numba 0.62 or newer, found {numba.__version__}; "
        "upgrade it, or set MINIMETA_KERNELS=reference"
    )

#: Never "nnan" or "ninf": they would delete NaN checks and the meaning of -inf.
FASTMATH = {"reassoc", "contract", "nsz", "arcp"}


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a loop kernel on its first call for each dtype, and keep the machine code on disk.

    Numba's own cache looks at the kernel's file only; a kernel is also made of the functions it calls from other
    files, so here the whole package decides whether what lies on disk is still true.
    """
    dispatcher = njit(nogil=True, fastmath=FASTMATH, error_model="numpy")(function)
    with contextlib.suppress(RuntimeError):  # nowhere to write: then every process compiles for itself
        dispatcher._cache = _Cache(function)
    _announce.kernels.add(dispatcher)
    return dispatcher


def inlined(function: Callable[..., Any]) -> Any:
    """Compile a piece that kernels are made of; it lives in their machine code."""
    return njit(nogil=True, forceinline=True, fastmath=FASTMATH, error_model="numpy")(function)


def _digest() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


_DIGEST = _digest()


class _Stamp:
    def get_source_stamp(self) -> str:
        return _DIGEST


class _InTree(_Stamp, caching.InTreeCacheLocator):  # type: ignore[misc]
    pass


class _UserWide(_Stamp, caching.UserWideCacheLocator):  # type: ignore[misc]
    pass


class _Chosen(_Stamp, caching.UserProvidedCacheLocator):  # type: ignore[misc]
    """Where NUMBA_CACHE_DIR points."""


class _CacheImplementation(caching.CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes = (_Chosen, _InTree, _UserWide)


class _Cache(caching.FunctionCache):  # type: ignore[misc]
    _impl_class = _CacheImplementation


class _Announce(event.Listener):  # type: ignore[misc]
    """One line on stderr for every kernel that is being compiled, with its seconds when it is done."""

    def __init__(self) -> None:
        self.kernels: set[Any] = set()
        self._start = 0.0

    def on_start(self, found: Any) -> None:
        dispatcher = found.data["dispatcher"]
        if dispatcher in self.kernels:
            self._start = time.perf_counter()
            name = dispatcher.py_func.__name__.lstrip("_")
            print(f"minimeta_kernels: compiling {name} (once, kept on disk) ...", end="", file=sys.stderr, flush=True)

    def on_end(self, found: Any) -> None:
        if found.data["dispatcher"] in self.kernels:
            print(f" {time.perf_counter() - self._start:.1f} s", file=sys.stderr, flush=True)


_announce = _Announce()
event.register("numba:compile", _announce)
