"""Several arrays that one operation returns together, seen by the engine as one value.

A fused kernel makes all its results, or all its gradients, in one pass; the engine knows operations of one result. So
the operation returns `Results`, and `part` takes one array out; the cotangent of a part is a `Results` with holes, and
two of them add up entry by entry.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minimeta import backend
from minimeta.autodiff import Tensor
from minimeta.autodiff.op import op


class Results:
    """A fixed number of arrays; in a cotangent None stands for zeros."""

    __slots__ = ("arrays",)

    def __init__(self, arrays: tuple[Any, ...]) -> None:
        self.arrays = arrays

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.arrays),)

    @property
    def size(self) -> int:
        return len(self.arrays)

    @property
    def dtype(self) -> Any:
        return next((a.dtype for a in self.arrays if a is not None), None)

    def __add__(self, other: Results) -> Results:
        pairs = zip(self.arrays, other.arrays, strict=True)
        return Results(tuple(b if a is None else a if b is None else a + b for a, b in pairs))


class _Namespace:
    """What debug mode asks of the array module of a value."""

    __name__ = "minimeta.ops.results"

    @staticmethod
    def isfinite(results: Results) -> Any:
        return _flat("isfinite", results)

    @staticmethod
    def isnan(results: Results) -> Any:
        return _flat("isnan", results)


def _flat(test: str, results: Results) -> Any:
    """A test's verdict on every floating-point number of the results."""
    verdicts = [
        backend.asnumpy(getattr(backend.namespace(a), test)(a)).ravel()
        for a in results.arrays
        if a is not None and "float" in str(a.dtype)
    ]
    return np.concatenate(verdicts)


backend.NAMESPACES[Results] = _Namespace


def part(results: Any, index: int) -> Any:
    """One of the arrays: of `Results` as it is, of a Tensor as a Tensor; None where there is none."""
    held = results.data if type(results) is Tensor else results
    return None if held.arrays[index] is None else _part(results, index=index)


@op(saves="none")
def _part(xp: Any, results: Any, *, index: int) -> Any:
    return results.arrays[index]


@_part.vjp(0)
def _(g: Any, y: Any, results: Any, index: int) -> Any:
    return _place(g, index=index, count=results.shape[0])


@op(saves="none")
def _place(xp: Any, array: Any, *, index: int, count: int) -> Any:
    return Results(tuple(array if i == index else None for i in range(count)))


@_place.vjp(0)
def _(v: Any, y: Any, array: Any, index: int, count: int) -> Any:
    return part(v, index)
