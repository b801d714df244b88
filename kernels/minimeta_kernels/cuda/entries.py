"""How functions become entries of the registry: of CuPy's arrays as "cuda", of NumPy's, by the shim, as "shim"."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minimeta_kernels.cuda.source import Dual, shared_limit
from minimeta_kernels.reference.modules import array_module
from minimeta_kernels.registry import register

Kernel = Callable[..., Any]


def _takes_all(*arrays: Any, **options: Any) -> str | None:
    return None


def differentiable(name: str, forward: Kernel, vjp: Kernel, refused: Kernel = _takes_all) -> None:
    """Register NAME, NAME_vjp(g, *arrays) and NAME_vjp2(cotangents, g, *arrays).

    Both must take `Dual` arrays. Then the gradient of the gradient is the gradient along its cotangents: the derivative
    of `forward` that way is what belongs to g, that of `vjp` what belongs to the arrays, as the Hessian of
    <g, forward> is symmetric.
    """

    def vjp2(cotangents: Any, g: Any, *arrays: Any, **options: Any) -> tuple[Any, ...]:
        moved = [Dual(a, c) for a, c in zip(arrays, cotangents, strict=True)]
        of_g, of_arrays = forward(*moved, **options), vjp(g, *moved, **options)
        return of_g.tangent, *(found.tangent for found in of_arrays)

    for kernel, function in ((name, forward), (f"{name}_vjp", vjp), (f"{name}_vjp2", vjp2)):
        enter(kernel, function, refused)


def enter(name: str, function: Kernel, refused: Kernel = _takes_all) -> None:
    """Register a function of arrays, which reach it C-contiguous and of one dtype; `refused` may say why it cannot."""

    def ready(*arrays: Any, **options: Any) -> Any:
        return function(*_contiguous(arrays), **options)

    def refusal(module: str) -> Kernel:
        return lambda *arrays, **options: refuses(module, arrays) or refused(*arrays, **options)

    register(name, "cuda", refusal("cupy"))(ready)
    register(name, "shim", refusal("numpy"))(ready)


def _leaves(arrays: Any) -> list[Any]:
    return [leaf for a in arrays for leaf in (_leaves(a) if isinstance(a, tuple) else [a])]


def refuses(module: str, arrays: Any) -> str | None:
    """Why these cannot be a kernel's arrays on a device of `module`, "cupy" or "numpy"."""
    for a in _leaves(arrays):
        if a is None:
            continue
        if type(a).__module__.partition(".")[0] != module:
            return f"takes arrays of {module}, got {type(a).__name__}"
        if a.dtype.char not in "fd" and a.dtype != np.int64:
            return f"takes float32 and float64, got {a.dtype}"
    return None


def too_large(held: int, array: Any) -> str | None:
    """Why a block cannot have so many numbers like the array's in shared memory."""
    size, limit = held * array.dtype.itemsize, shared_limit(array)
    return f"needs {size} bytes of shared memory, of {limit} that a block can have" if size > limit else None


def _contiguous(arrays: Any) -> Any:
    given = [a for a in _leaves(arrays) if a is not None]
    dtype, xp = np.result_type(*(a.dtype for a in given if a.dtype.kind == "f")), array_module(given[0])

    def ready(a: Any) -> Any:
        if isinstance(a, tuple):
            return tuple(map(ready, a))
        return None if a is None else xp.ascontiguousarray(a, dtype=dtype if a.dtype.kind == "f" else None)

    return tuple(map(ready, arrays))
