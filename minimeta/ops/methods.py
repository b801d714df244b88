"""Tensor's operators and methods: NumPy's names, bound to the operations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from minimeta.autodiff import primitives
from minimeta.autodiff.tensor import Tensor
from minimeta.ops import elementwise, indexing, linalg, reduce, shape


def _reflected(operation: Any) -> Any:
    return lambda self, other: operation(other, self)


def _shape_method(operation: Any) -> Any:
    """`x.reshape(2, 3)` besides `x.reshape((2, 3))`."""

    def method(self: Tensor, *sizes: Any) -> Tensor:
        return operation(self, sizes[0] if len(sizes) == 1 else sizes)  # type: ignore[no-any-return]

    return method


def _transpose_method(self: Tensor, *axes: Any) -> Tensor:
    return shape.transpose(self, *((axes,) if len(axes) > 1 else axes))  # type: ignore[no-any-return]


def _iterate(self: Tensor) -> Iterator[Tensor]:
    if self.ndim == 0:
        raise TypeError("minimeta.Tensor: a 0-d tensor has no items to iterate over")
    return iter(shape.unstack(self))


_BINARY = {
    "add": elementwise.add,
    "sub": elementwise.subtract,
    "mul": elementwise.multiply,
    "truediv": elementwise.divide,
    "pow": elementwise.power,
    "matmul": linalg.matmul,
}

_METHODS: dict[str, Any] = {
    "__neg__": elementwise.negative,
    "__abs__": elementwise.abs,
    "__getitem__": indexing.getitem,
    "__iter__": _iterate,
    "__eq__": indexing.equal,
    "__ne__": indexing.not_equal,
    "__lt__": indexing.less,
    "__le__": indexing.less_equal,
    "__gt__": indexing.greater,
    "__ge__": indexing.greater_equal,
    "T": property(shape.transpose),
    "argmax": indexing.argmax,
    "argmin": indexing.argmin,
    "astype": primitives.astype,
    "clip": elementwise.clip,
    "cumsum": reduce.cumsum,
    "dot": linalg.dot,
    "max": reduce.max,
    "mean": reduce.mean,
    "min": reduce.min,
    "prod": reduce.prod,
    "reshape": _shape_method(shape.reshape),
    "squeeze": shape.squeeze,
    "std": reduce.std,
    "sum": reduce.sum,
    "swapaxes": shape.swapaxes,
    "transpose": _transpose_method,
    "var": reduce.var,
}


def attach() -> None:
    """Give Tensor its operators and methods."""
    for name, operation in _BINARY.items():
        setattr(Tensor, f"__{name}__", operation)
        setattr(Tensor, f"__r{name}__", _reflected(operation))
    for name, method in _METHODS.items():
        setattr(Tensor, name, method)
