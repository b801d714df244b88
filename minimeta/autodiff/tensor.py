"""Tensor: the user's handle on an array and, where gradients are wanted, on the node that made it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, final

import numpy as np

from minimeta import backend
from minimeta.autodiff.node import Node

_KNOWN = backend.NAMESPACES


@final
class Tensor:
    """An array of any module with, inside `grad` and its kin, the node that made it; `Tensor(array)` is a constant.

    Operators and methods are NumPy's and come from `minimeta.ops`, which attaches them on import. Tensors are values:
    item assignment is refused, `t += x` makes a new Tensor.

    >>> import minimeta, numpy as np
    >>> t = minimeta.Tensor(np.array([1.0, 2.0]))
    >>> (t * t).sum()
    Tensor(5.)
    """

    __slots__ = ("data", "node")

    __hash__ = None  # type: ignore[assignment]  # == compares elements, as in NumPy

    def __init__(self, data: Any, node: Node | None = None) -> None:
        if type(data) not in _KNOWN:
            data = _as_array(data)
        self.data = data
        self.node = node

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape  # type: ignore[no-any-return]

    @property
    def dtype(self) -> Any:
        return self.data.dtype

    @property
    def ndim(self) -> int:
        return self.data.ndim  # type: ignore[no-any-return]

    @property
    def size(self) -> int:
        return self.data.size  # type: ignore[no-any-return]

    def __len__(self) -> int:
        return len(self.data)

    def __bool__(self) -> bool:
        return bool(self.data)

    def __float__(self) -> float:
        return float(self.data)

    def __int__(self) -> int:
        return int(self.data)

    def __index__(self) -> int:
        return self.data.__index__()  # type: ignore[no-any-return]

    def item(self) -> float:
        """The single element as a Python number."""
        return self.data.item()  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        values = np.array2string(np.asarray(backend.asnumpy(self.data)), separator=", ", prefix="Tensor(")
        dtype = "" if str(self.dtype) == "float64" else f", dtype={self.dtype}"
        return f"Tensor({values}{dtype})" if self.node is None else f"Tensor({values}{dtype}, op={self.node.op.name})"

    # The bridge to NumPy and to other array libraries.

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        if hasattr(self.data, "get"):
            raise TypeError("minimeta.Tensor: its array is on a device; minimeta.backend.asnumpy copies it to the host")
        return np.array(self.data, dtype=dtype, copy=copy)

    def __dlpack__(self, **options: Any) -> Any:
        return self.data.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.data.__dlpack_device__()

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        # `ndarray + tensor` arrives here as np.add; everything that is not an operator is spelled minimeta.ops.
        operator = _OPERATORS.get(ufunc.__name__)
        if method == "__call__" and operator is not None and not options:
            left, right = inputs
            return getattr(Tensor(left) if type(left) is not Tensor else left, operator)(right)
        raise TypeError(_numpy_hint(ufunc.__name__, "in-place operators and " if options else ""))

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        raise TypeError(_numpy_hint(func.__name__))

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError(
            "minimeta.Tensor: item assignment would falsify recorded gradients; "
            "use minimeta.ops.index_update(x, index, values) or ops.index_add, which return a new tensor"
        )

    if TYPE_CHECKING:  # attached by minimeta.ops

        def __getattr__(self, name: str) -> Any: ...
        def __getitem__(self, index: Any) -> Tensor: ...
        def __iter__(self) -> Iterator[Tensor]: ...


_OPERATORS = {
    "add": "__add__", "subtract": "__sub__", "multiply": "__mul__", "divide": "__truediv__", "power": "__pow__",
    "matmul": "__matmul__", "equal": "__eq__", "not_equal": "__ne__", "less": "__lt__", "less_equal": "__le__",
    "greater": "__gt__", "greater_equal": "__ge__",
}  # fmt: skip


def _numpy_hint(name: str, what: str = "") -> str:
    return (
        f"minimeta.Tensor: {what}NumPy's {name} would drop the gradient; use minimeta.ops.{name}, "
        "or numpy.asarray(tensor) for the bare values"
    )


def _as_array(data: Any) -> Any:
    if isinstance(data, Tensor):
        raise TypeError("minimeta.Tensor: the argument is a Tensor already")
    foreign = hasattr(data, "__array_namespace__") or hasattr(data, "__cuda_array_interface__")
    array = data if foreign else np.asarray(data)
    if array.dtype == object:
        raise TypeError(f"minimeta.Tensor: cannot make an array of {type(data).__name__}")
    backend.namespace(array)
    return array
