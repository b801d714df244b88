"""From arrays to numba.cuda kernels: which arrays, results, grids."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numba import config, cuda, from_dtype

from minimeta_kernels.reference.modules import array_module
from minimeta_kernels.registry import register

#: Threads of a block along one side: few, as the simulator has a thread of Python for each.
SIDE = 8
THREADS = SIDE * SIDE

Kernel = Callable[..., Any]
Function = TypeVar("Function", bound=Kernel)


def compiled(function: Kernel) -> Any:
    """Decorator: the function is a kernel, `run` launches it."""
    return cuda.jit(function)


def device(function: Function) -> Function:
    """Decorator: kernels may call the function."""
    return cuda.jit(device=True)(function)  # type: ignore[no-any-return]


def entry(name: str) -> Callable[[Kernel], Kernel]:
    """Decorator: the function is kernel `name` as "numba_cuda" implements it; its arrays come C-contiguous."""

    def decorate(function: Kernel) -> Kernel:
        def ready(*arrays: Any, **options: Any) -> Any:
            dtype = np.result_type(*(a.dtype for a in arrays if a is not None and a.dtype.kind == "f"))
            return function(*(None if a is None else _contiguous(a, dtype) for a in arrays), **options)

        return register(name, "numba_cuda", _refuses)(ready)

    return decorate


def _contiguous(a: Any, dtype: Any) -> Any:
    return array_module(a).ascontiguousarray(a, dtype=dtype if a.dtype.kind == "f" else None)


def _refuses(*arrays: Any, **options: Any) -> str | None:
    module = "numpy" if config.ENABLE_CUDASIM else "cupy"
    for a in arrays:
        if a is None:
            continue
        if type(a) is tuple or type(a).__module__.partition(".")[0] != module:
            return f"takes arrays of {module}, got {type(a).__name__}"
        if a.dtype.char not in "fd" and a.dtype != np.int64:
            return f"takes float32 and float64, got {a.dtype}"
    return None


def run(kernel: Any, grid: tuple[int, ...], block: tuple[int, ...] | int, *args: Any) -> None:
    """Launch, unless there is nothing to do."""
    if min(grid) > 0:
        kernel[grid, block](*args)


def number(dtype: Any) -> Any:
    """What shared memory of this dtype is made of."""
    return from_dtype(dtype)


__all__ = ["SIDE", "THREADS", "compiled", "cuda", "device", "entry", "number", "run"]
