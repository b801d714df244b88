"""What every kernel is held to: the reference, finite differences, symmetry, and the same bits whatever the threads.

Imported as `from tests.kernels import compare`. A kernel is NAME with, where it has them, NAME_vjp(g, *arrays) and
NAME_vjp2(cotangents, g, *arrays).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import minimeta_kernels
from tests.autodiff.numeric import close, derivative, dot

Arrays = tuple[np.ndarray, ...]


def agree(
    name: str, arrays: Arrays, options: dict[str, Any] | None = None, rtol32: float = 1e-5, rtol64: float = 1e-12
) -> None:
    """Every implementation gives what the reference gives on the same float64 values, in any layout and both dtypes."""
    options = options or {}
    for kernel, inputs in family(name, arrays, options).items():
        with minimeta_kernels.use("reference"):
            expected = results(minimeta_kernels.call(kernel, *inputs, **options))
        for backend in minimeta_kernels.table()[kernel]:
            for dtype, rtol in ((np.float64, rtol64), (np.float32, rtol32)):
                for arrange in LAYOUTS:
                    given = leaves(inputs, lambda a, dtype=dtype, arrange=arrange: arrange(a.astype(dtype)))
                    with minimeta_kernels.use(backend):
                        found = results(minimeta_kernels.call(kernel, *given, **options))
                    assert len(found) == len(expected)
                    for a, b in zip(found, expected, strict=True):
                        assert a.dtype == dtype, f"{kernel} by {backend} returned {a.dtype} for {np.dtype(dtype)}"
                        close(a, b, rtol)


def differentiable(name: str, arrays: Arrays, options: dict[str, Any] | None = None, tolerance: float = 1e-6) -> None:
    """The reference's derivatives, as far as there are any, against finite differences; the Hessian is symmetric."""
    options = options or {}
    with minimeta_kernels.use("reference"):
        kernels = family(name, arrays, options)
        if f"{name}_vjp" in kernels:
            _match_differences(name, arrays, kernels[f"{name}_vjp"][0], options, tolerance)
        if f"{name}_vjp2" in kernels:
            cotangents, *primal = kernels[f"{name}_vjp2"]
            _match_differences(f"{name}_vjp", tuple(primal), cotangents, options, tolerance)
            _symmetric(name, cotangents, tuple(primal), options, tolerance)


def repeatable(
    name: str, arrays: Arrays, options: dict[str, Any] | None = None, monkeypatch: Any = None, dtype: Any = np.float32
) -> None:
    """One, two and three threads give the same bits, of every backend."""
    options = options or {}
    for kernel, inputs in family(name, arrays, options).items():
        given = leaves(inputs, lambda a: a.astype(dtype))
        for backend in minimeta_kernels.table()[kernel]:
            found = []
            for threads in ("1", "2", "3"):
                monkeypatch.setenv("MINIMETA_NUM_THREADS", threads)
                with minimeta_kernels.use(backend):
                    found.append(results(minimeta_kernels.call(kernel, *given, **options)))
            for again in found[1:]:
                for a, b in zip(again, found[0], strict=True):
                    np.testing.assert_array_equal(a, b)


def family(name: str, arrays: Arrays, options: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
    """NAME and its derivatives, as far as they exist, each with arguments: random cotangents before the arrays."""
    rng = np.random.default_rng(0)
    known = minimeta_kernels.table()
    kernels: dict[str, tuple[Any, ...]] = {name: tuple(arrays)}
    with minimeta_kernels.use("reference"):
        g = rng.normal(size=minimeta_kernels.call(name, *arrays, **options).shape)
    if f"{name}_vjp" in known:
        kernels[f"{name}_vjp"] = (g, *arrays)
    if f"{name}_vjp2" in known:
        kernels[f"{name}_vjp2"] = (tuple(rng.normal(size=a.shape) for a in arrays), g, *arrays)
    return kernels


def results(found: Any) -> tuple[Any, ...]:
    """What a kernel returned, as a tuple."""
    return found if isinstance(found, tuple) else (found,)


def leaves(values: Any, change: Callable[[np.ndarray], np.ndarray]) -> Any:
    """`change` applied to every floating-point array of a nested tuple."""
    if isinstance(values, tuple):
        return tuple(leaves(value, change) for value in values)
    return change(values) if isinstance(values, np.ndarray) and values.dtype.kind == "f" else values


def _strided(a: np.ndarray) -> np.ndarray:
    """The same values with a gap after each."""
    wide = np.full((*a.shape, 2), np.nan, a.dtype)
    wide[..., 0] = a
    return wide[..., 0]


def _frozen(a: np.ndarray) -> np.ndarray:
    """The same values, read-only, as broadcasting makes them."""
    a = np.array(a)
    a.flags.writeable = False
    return a


LAYOUTS = (np.ascontiguousarray, np.asfortranarray, _strided, _frozen)


def _inner(a: Any, b: Any) -> float:
    return dot(results(a), results(b))


def _directions(inputs: Arrays) -> Iterator[tuple[np.ndarray, ...]]:
    """One random direction per input, the other inputs at rest."""
    rng = np.random.default_rng(1)
    for i, moved in enumerate(inputs):
        yield tuple(rng.normal(size=a.shape) if a is moved and i == k else 0.0 * a for k, a in enumerate(inputs))


def _match_differences(kernel: str, inputs: Arrays, cotangent: Any, options: dict[str, Any], tolerance: float) -> None:
    """<cotangent, d kernel(inputs)> along each input against what the derivative kernel says."""
    gradients = minimeta_kernels.call(
        f"{kernel}_vjp" if not kernel.endswith("_vjp") else f"{kernel}2", cotangent, *inputs, **options
    )
    for direction in _directions(inputs):
        moved = derivative(lambda at: results(minimeta_kernels.call(kernel, *at, **options)), inputs, direction)
        expected = _inner(cotangent, moved)
        scale = sum(float(np.abs(a * b).sum()) for a, b in zip(results(cotangent), results(moved), strict=True))
        found = _inner(results(gradients), direction)
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * (1 + scale))


def _symmetric(name: str, u: Any, primal: Arrays, options: dict[str, Any], tolerance: float) -> None:
    """<u, H v> = <v, H u> for the Hessian H of <g, NAME(arrays)>."""
    rng = np.random.default_rng(2)
    v = tuple(rng.normal(size=a.shape) for a in u)
    hessian_u = minimeta_kernels.call(f"{name}_vjp2", u, *primal, **options)[1:]
    hessian_v = minimeta_kernels.call(f"{name}_vjp2", v, *primal, **options)[1:]
    left, right = _inner(v, hessian_u), _inner(u, hessian_v)
    scale = sum(float(np.abs(a * b).sum()) for a, b in zip(v, hessian_u, strict=True))
    np.testing.assert_allclose(left, right, rtol=0, atol=tolerance * (1 + scale))
