"""One table: kernel name -> implementations, best first; and the choice among them for the arrays at hand."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

#: Implementations by the name a user knows them by, the first that accepts the arrays runs.
AUTOMATIC = ("numba", "cuda", "reference")
#: Some run only where they are asked for: "numba_cuda" is there to be read, "shim" is "cuda" on the processor, checked.
BACKENDS = ("numba", "cuda", "numba_cuda", "shim", "reference")

#: Which package holds them, and what must be installed before it is imported: a module, or the compiler g++.
_PACKAGES = {
    "numba": ("minimeta_kernels.numba_cpu", "numba"),
    "cuda": ("minimeta_kernels.cuda", "cupy"),
    "numba_cuda": ("minimeta_kernels.numba_cuda", "numba"),
    "reference": ("minimeta_kernels.reference", "numpy"),
    "shim": ("minimeta_kernels.cuda", "g++"),
}
VARIABLE = "MINIMETA_KERNELS"

Kernel = Callable[..., Any]
Refusal = Callable[..., str | None]


@dataclass(frozen=True)
class Implementation:
    """A function, and the rule that says why it does not take given arrays (None: it does)."""

    function: Kernel
    refuses: Refusal


_table: dict[str, dict[str, Implementation]] = {}
_loaded: set[str] = set()
_forced: str | None = None
_recordable = False


def register(name: str, backend: str, refuses: Refusal = lambda *arrays, **options: None) -> Callable[[Kernel], Kernel]:
    """Decorator: the function is kernel `name` as `backend` implements it.

    `refuses(*arrays, **options)` returns the reason why this implementation does not take them, or None.
    """
    if backend not in BACKENDS:
        raise ValueError(f"minimeta_kernels: unknown backend {backend!r}; choose one of {', '.join(BACKENDS)}")

    def decorate(function: Kernel) -> Kernel:
        _table.setdefault(name, {})[backend] = Implementation(function, refuses)
        return function

    return decorate


def call(name: str, *arrays: Any, **options: Any) -> Any:
    """Run kernel `name` by the best implementation that takes these arrays.

    >>> call("l1", np.zeros((1, 2, 3)), np.ones((1, 4, 3))).shape
    (1, 2, 4)
    """
    for backend in _choices():
        found = _implementations(name, backend)
        if found is not None and found.refuses(*arrays, **options) is None:
            return found.function(*arrays, **options)
    verdicts = explain(name, *arrays, **options)
    raise TypeError(f"minimeta_kernels: no implementation of {name!r} takes these arrays:\n{verdicts}")


def explain(name: str, *arrays: Any, **options: Any) -> str:
    """Which implementation of kernel `name` runs on these arrays, one line per implementation; the first to say "runs".

    >>> with use("reference"):
    ...     print(explain("l1", np.zeros((1, 2, 3)), np.ones((1, 4, 3))))
    l1: numba      not asked: use('reference') is in force
    l1: cuda       not asked: use('reference') is in force
    l1: numba_cuda not asked: use('reference') is in force
    l1: shim       not asked: use('reference') is in force
    l1: reference  runs
    """
    against = {backend: _against(name, backend, arrays, options) for backend in BACKENDS}
    chosen = next((backend for backend in _choices() if against[backend] is None), None)
    verdicts = {b: reason or ("runs" if b == chosen else "would run too") for b, reason in against.items()}
    return "\n".join(f"{name}: {backend:<10} {verdict}" for backend, verdict in verdicts.items())


def _against(name: str, backend: str, arrays: Any, options: Any) -> str | None:
    """Why `backend` does not run kernel `name` on these arrays; None where it can."""
    if backend not in _choices():
        return f"not asked: {_origin()}"
    if (missing := _missing(backend)) is not None:
        return f"not installed: {missing}"
    if (found := _implementations(name, backend)) is None:
        return "does not implement it"
    reason = found.refuses(*arrays, **options)
    return reason and f"refuses: {reason}"


def table() -> dict[str, list[str]]:
    """Every kernel by name, with the backends that implement it here, best first."""
    for backend in BACKENDS:
        _load(backend)
    return {name: [b for b in BACKENDS if b in found and b in _loaded] for name, found in sorted(_table.items())}


def order() -> tuple[str, ...]:
    """The backends asked for a kernel, the first first: those installed that `use` and MINIMETA_KERNELS allow.

    >>> with use("reference"):
    ...     order()
    ('reference',)
    """
    return tuple(backend for backend in _choices() if _missing(backend) is None)


class use:  # noqa: N801 - called like a function, usable as a context manager
    """Take kernels from `backend` where it has them, from "reference" otherwise; `use(None)` chooses freely again.

    In force at once, for all threads; as a context manager until its end. The variable MINIMETA_KERNELS sets the same
    from outside. Raises ValueError for an unknown backend, ModuleNotFoundError for one whose package is missing.

    >>> with use("reference"):
    ...     pass
    """

    def __init__(self, backend: str | None) -> None:
        global _forced
        if backend is not None:
            _check(backend, "use")
        self._before = _forced
        _forced = backend

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exception: object) -> None:
        global _forced
        _forced = self._before


@contextmanager
def recordable() -> Iterator[None]:
    """Here kernels run on a GPU as they do while a CUDA graph is recorded: so that they are ready before it is.

    In force for all threads.

    >>> with recordable():
    ...     is_recordable()
    True
    """
    global _recordable
    before, _recordable = _recordable, True
    try:
        yield
    finally:
        _recordable = before


def is_recordable() -> bool:
    """Whether `recordable` is in force."""
    return _recordable


def _choices() -> tuple[str, ...]:
    backend = _forced or _from_environment()
    if backend is None:
        return AUTOMATIC
    return (backend,) if backend == "reference" else (backend, "reference")


def _origin() -> str:
    """What keeps a backend from being asked."""
    if _forced:
        return f"use({_forced!r}) is in force"
    backend = _from_environment()
    return f"{VARIABLE}={backend} is in force" if backend else "it runs where use(...) names it"


def _from_environment() -> str | None:
    backend = os.environ.get(VARIABLE) or None
    if backend is not None and backend not in _loaded:
        _check(backend, VARIABLE)
    return backend


def _check(backend: str, where: str) -> None:
    if backend not in BACKENDS:
        raise ValueError(f"minimeta_kernels: {where}: unknown backend {backend!r}; choose one of {', '.join(BACKENDS)}")
    missing = _missing(backend)
    if missing is not None:
        raise ModuleNotFoundError(f"minimeta_kernels: {where}: backend {backend!r} needs {missing}: install it")


def _missing(backend: str) -> str | None:
    """The package that `backend` needs and that is not installed."""
    package = _PACKAGES[backend][1]
    return None if _installed(package) else package


@functools.cache  # a search through all of sys.path, and asked for at every call where the package is missing
def _installed(package: str) -> bool:
    return bool(shutil.which(package)) if package == "g++" else importlib.util.find_spec(package) is not None


def _implementations(name: str, backend: str) -> Implementation | None:
    _load(backend)
    return _table.get(name, {}).get(backend) if backend in _loaded else None


def _load(backend: str) -> None:
    """Import the package of `backend` once, if what it needs is installed.

    Always before the table is looked up: while another thread is at it, the table holds functions of half a module.
    """
    if backend not in _loaded and _missing(backend) is None:
        importlib.import_module(_PACKAGES[backend][0])
        _loaded.add(backend)
