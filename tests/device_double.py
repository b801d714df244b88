"""A stand-in for CuPy on any machine: arrays that wrap NumPy's, and `xp`, the module that alone works on them.

It does as CuPy where that differs from NumPy: nothing becomes a NumPy array by itself, and none may be mixed in; 0-d
results stay arrays, single elements views; indices beyond an axis wrap round; of several values for one element any may
stay (here the first); `linalg.solve` broadcasts no batches and singular matrices give NaN; sums by index are for a few
dtypes only.

Copies between host and device are counted, or within `forbidden` a TransferError: values seen on the host (bool, float,
item, get, ..., or the number of elements that a boolean index picks), and lists, numbers and NumPy arrays brought to
the device (`asarray`, or a list as an index). Work goes through `device_graphs`, and can be captured.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tests import device_graphs
from tests.device_graphs import Memory, memory_of, perform

TO_HOST, TO_DEVICE = "to host", "to device"

copies: Counter[str] = Counter()
_forbidden: tuple[str, ...] = ()


class TransferError(RuntimeError):
    """A copy within `forbidden`."""


@contextmanager
def forbidden(*ways: str) -> Iterator[None]:
    """Here copies these ways are errors."""
    global _forbidden
    before, _forbidden = _forbidden, ways
    try:
        yield
    finally:
        _forbidden = before


def _copied(way: str) -> None:
    device_graphs.refuse("D2H transfers" if way == TO_HOST else "H2D transfers")
    copies[way] += 1
    if way in _forbidden:
        raise TransferError(f"a hidden copy {way}")


class Array:
    """An array on the device; its operators and methods are attached below."""

    __slots__ = ("host", "memory")
    __hash__ = None
    __module__ = "cupy"  # by which minimeta knows whose it is
    device = "<device 0>"

    def __init__(self, host: np.ndarray) -> None:
        self.host = host
        self.memory = memory_of(host)

    def get(self) -> np.ndarray:
        _copied(TO_HOST)
        host = perform(self.host.copy, [self.memory])
        device_graphs.wait()
        return host

    def __repr__(self) -> str:
        return f"Array({self.host!r})"

    def __array__(self, *args: Any, **options: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if method != "__call__" or any(map(_is_tensor, inputs)):
            return NotImplemented
        return getattr(xp, ufunc.__name__)(*inputs, **options)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        return getattr(xp.linalg if "linalg" in function.__module__ else xp, function.__name__)(*args, **options)

    def __len__(self) -> int:
        return len(self.host)

    def __iter__(self) -> Iterator[Array]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> Any:
        return _outer(perform(lambda: self.host[_index(index, self.host.shape)], _memories(self, index)))

    def __setitem__(self, index: Any, value: Any) -> None:
        values = _inner(value)

        def work() -> None:
            places = np.arange(self.host.size).reshape(self.host.shape)[_index(index, self.host.shape)]
            self.host.flat[places.ravel()[::-1]] = np.broadcast_to(values, places.shape).ravel()[::-1]

        perform(work, _memories(self, index, value), changed=self.memory)

    def fill(self, value: float) -> None:
        perform(lambda: self.host.fill(value), [self.memory], changed=self.memory)


def _index(index: Any, shape: tuple[int, ...]) -> Any:
    """An index as NumPy takes it."""
    items = index if isinstance(index, tuple) else (index,)
    axes = [0 if item is None or item is Ellipsis else item.ndim if _is_mask(item) else 1 for item in items]
    axes = [len(shape) - sum(axes) if item is Ellipsis else n for item, n in zip(items, axes, strict=True)]
    found, axis = [], 0
    for item, n in zip(items, axes, strict=True):
        if isinstance(item, np.ndarray | list):
            _copied(TO_DEVICE)
        if _is_mask(item):
            _copied(TO_HOST)
        elif isinstance(item, Array):
            item = Array(item.host % max(1, shape[axis]))
        found.append(item.host if isinstance(item, Array) else item)
        axis += n
    return (*found, *(() if any(item is Ellipsis for item in items) else (Ellipsis,)))  # or NumPy copies single numbers


def _is_mask(item: Any) -> bool:
    return isinstance(item, Array) and item.host.dtype == bool


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "node")


def _inner(value: Any) -> Any:
    """What NumPy shall work on; its own arrays are not among it."""
    if isinstance(value, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    if type(value) in (tuple, list):
        return type(value)(map(_inner, value))
    return value.host if isinstance(value, Array) else value


def _memories(*values: Any) -> list[Memory]:
    """Of all arrays among the values."""
    found = []
    for value in values:
        if isinstance(value, Array):
            found.append(value.memory)
        elif isinstance(value, tuple | list):
            found += _memories(*value)
    return found


def _outer(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return Array(np.asarray(value))
    if isinstance(value, tuple):
        return tuple(map(_outer, value))
    return [_outer(part) for part in value] if isinstance(value, list) else value


def _on_device(function: Callable[..., Any]) -> Callable[..., Any]:
    """NumPy's function, for arrays of the device; no device warns of NaN and infinity."""

    def call(*args: Any, **options: Any) -> Any:
        inner, named = list(map(_inner, args)), {name: _inner(value) for name, value in options.items()}

        @np.errstate(all="ignore")
        def work() -> Any:
            return function(*inner, **named)

        out = options.get("out")
        result = perform(work, _memories(*args, *options.values()), None if out is None else out.memory)
        return _outer(result) if out is None else out

    return call


def _by_library(library: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that CuPy has from a library of CUDA."""
    on_device = _on_device(function)

    def call(*args: Any, **options: Any) -> Any:
        device_graphs.refuse_library(library)
        return on_device(*args, **options)

    return call


def _looking(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that looks at values on the host."""

    def call(*args: Any, **options: Any) -> Any:
        _copied(TO_HOST)
        perform(lambda: None, _memories(*args))
        device_graphs.wait()
        return function(*args, **options)

    return call


def _operator(name: str, reflected: bool = False) -> Callable[..., Any]:
    function = getattr(operator, name)
    function = _by_library("cuBLAS", function) if name == "matmul" else _on_device(function)

    def call(self: Array, other: Any) -> Any:
        if _is_tensor(other):  # its turn
            return NotImplemented
        return function(other, self) if reflected else function(self, other)

    return call


def _in_place(name: str) -> Callable[..., Any]:
    ufunc = getattr(np, {"sub": "subtract", "mul": "multiply", "truediv": "divide"}.get(name, name))

    def call(self: Array, other: Any) -> Any:
        value = _inner(other)
        perform(lambda: ufunc(self.host, value, out=self.host), _memories(self, other), changed=self.memory)
        return self

    return call


for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and_", "or_", "xor"):
    plain = name.rstrip("_")
    setattr(Array, f"__{plain}__", _operator(name))
    setattr(Array, f"__r{plain}__", _operator(name, reflected=True))
for name in ("add", "sub", "mul", "truediv"):
    setattr(Array, f"__i{name}__", _in_place(name))
for name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(Array, f"__{name}__", _operator(name))
for name in ("neg", "abs", "invert"):
    setattr(Array, f"__{name}__", _on_device(getattr(operator, name)))
for name in ("__bool__", "__int__", "__float__", "item", "tolist"):
    setattr(Array, name, _looking(lambda self, *args, name=name: getattr(self.host, name)(*args)))
for name in (
    "all", "any", "argmax", "argmin", "astype", "clip", "copy", "cumsum", "diagonal", "max", "mean", "min",
    "prod", "ravel", "repeat", "reshape", "squeeze", "std", "sum", "swapaxes", "take", "trace", "transpose", "var",
):  # fmt: skip
    setattr(Array, name, _on_device(getattr(np.ndarray, name)))
for name in ("dtype", "nbytes", "ndim", "shape", "size", "strides"):
    setattr(Array, name, property(lambda self, name=name: getattr(self.host, name)))
for name in ("T", "mT"):
    setattr(Array, name, property(lambda self, name=name: Array(getattr(self.host, name))))
Array.dot = _by_library("cuBLAS", np.ndarray.dot)
Array.nonzero = _looking(_on_device(np.ndarray.nonzero))


class _Module:
    """NumPy's functions by their names, for arrays of the device; what is set on it is as CuPy has it."""

    def __init__(self, module: Any, **own: Any) -> None:
        self._module = module
        vars(self).update(own)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._module, name)
        return found if isinstance(found, type) or not callable(found) else _on_device(found)


def _asarray(values: Any, dtype: Any = None, copy: bool | None = None) -> Array:
    """The way to the device."""
    if not isinstance(values, Array):
        _copied(TO_DEVICE)
        return Array(np.array(values, dtype, copy=copy))
    return _outer(perform(lambda: np.array(values.host, dtype, copy=copy), [values.memory]))


def _with_at(ufunc: Any, dtypes: str) -> Callable[..., Any]:
    """A ufunc whose `at` is for a few dtypes."""
    call = _on_device(ufunc)

    def at(out: Array, index: Any, values: Any) -> None:
        if out.dtype not in dtypes.split():
            raise TypeError(f"{ufunc.__name__}.at: {out.dtype} is none of {dtypes}")
        given = _inner(values)
        work = lambda: ufunc.at(out.host, _index(index, out.shape), given)  # noqa: E731
        perform(work, _memories(out, index, values), changed=out.memory)

    call.at = at
    return call


def _argsort(x: Array, axis: int = -1, kind: str | None = None) -> Array:
    if kind not in (None, "stable"):
        raise ValueError(f"kind={kind!r} is not supported")
    return _on_device(np.argsort)(x, axis=axis, kind="stable")


def _joining(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that sends the addresses of many arrays from the host."""
    on_device = _on_device(function)

    def call(arrays: Any, **options: Any) -> Any:
        if len(arrays) > 8:
            device_graphs.refuse("H2D transfers")
        return on_device(arrays, **options)

    return call


def _copyto(target: Array, values: Array) -> None:
    perform(lambda: np.copyto(target.host, values.host, casting="same_kind"), _memories(target, values), target.memory)


def _where(condition: Any, *choices: Any) -> Any:
    if not choices:
        _copied(TO_HOST)
    return _on_device(np.where)(condition, *choices)


_BY_CUBLAS = ("dot", "einsum", "inner", "matmul", "tensordot", "vdot")


def _solve(a: Array, b: Array) -> Array:
    if a.shape[:-1] != b.shape[: a.ndim - 1]:
        raise ValueError("a must have (..., M, M) shape and b must have (..., M, K)")
    return _regular(np.linalg.solve)(a, b)


def _regular(function: Callable[..., Any]) -> Callable[..., Any]:
    """Of `linalg`: not a number where NumPy raises an error."""

    def call(a: Array, *others: Array) -> Array:
        try:
            return _by_library("cuSOLVER", function)(a, *others)
        except np.linalg.LinAlgError:
            return Array(np.full_like(others[-1].host if others else a.host, np.nan))

    return call


#: What is named "cupy" where this stands in for it.
xp = _Module(
    np,
    __name__="cupy",
    __version__="14.2.0",
    ndarray=Array,
    add=_with_at(np.add, "int32 uint32 uint64 float32 float64"),
    maximum=_with_at(np.maximum, "int32 uint32 uint64 float32 float64"),
    argsort=_argsort,
    array=_asarray,
    asarray=_asarray,
    bincount=_looking(_on_device(np.bincount)),
    concatenate=_joining(np.concatenate),
    copyto=_copyto,
    nonzero=_looking(_on_device(np.nonzero)),
    stack=_joining(np.stack),
    unique=_looking(_on_device(np.unique)),
    where=_where,
    **{name: _by_library("cuBLAS", getattr(np, name)) for name in _BY_CUBLAS},
    linalg=_Module(np.linalg, solve=_solve, inv=_regular(np.linalg.inv), cholesky=_regular(np.linalg.cholesky)),
    cuda=device_graphs.cuda,
    get_default_memory_pool=lambda: device_graphs.default_pool,
)
