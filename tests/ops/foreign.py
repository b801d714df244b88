"""A stand-in for CuPy on any machine: arrays that refuse to meet NumPy's, and the module `xp` that alone works on them.

A NumPy function called on a foreign array, or a NumPy array mixed in, is a TypeError; so an operation that runs here
asks its `xp` for everything.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minimeta import backend


class Foreign(np.ndarray):
    """An array of the other module; 0-d results stay arrays, as in CuPy."""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if any(hasattr(x, "node") for x in inputs):  # a Tensor: its turn
            return NotImplemented
        out = options.get("out")
        arguments = {key: _inner(value) for key, value in options.items()}
        result = getattr(ufunc, method)(*map(_inner, inputs), **arguments)
        return out[0] if out else _outer(result)

    def __array_namespace__(self) -> Any:
        return xp

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        raise TypeError(f"numpy.{func.__name__} on a foreign array")

    def sum(self, *args: Any, **options: Any) -> Any:
        return _outer(super().sum(*args, **options))

    def __getitem__(self, index: Any) -> Any:
        return _outer(self.view(np.ndarray)[_inner(index)])

    def __setitem__(self, index: Any, value: Any) -> None:
        self.view(np.ndarray)[_inner(index)] = _inner(value)


class _Module:
    """NumPy's functions, for foreign arrays only."""

    __name__ = "foreign"

    def __init__(self, module: Any) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._module, name)
        if isinstance(found, type) or not callable(found):
            return _Module(found) if name == "linalg" else found

        def call(*args: Any, **kwargs: Any) -> Any:
            return _outer(found(*map(_inner, args), **{key: _inner(value) for key, value in kwargs.items()}))

        return call

    def asarray(self, values: Any, **options: Any) -> Any:
        """The way in: takes NumPy arrays too."""
        return _outer(np.asarray(_inner(values, refuse=False), **options))


def _inner(value: Any, refuse: bool = True) -> Any:
    if type(value) is Foreign:
        return value.view(np.ndarray)
    if isinstance(value, (tuple, list)):
        return type(value)(_inner(part, refuse) for part in value)
    if refuse and type(value) is np.ndarray:
        raise TypeError("a NumPy array among foreign ones")
    return value


def _outer(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return np.ndarray.view(np.asarray(value), Foreign)
    if isinstance(value, tuple):
        return tuple(map(_outer, value))
    return [_outer(part) for part in value] if isinstance(value, list) else value


xp = _Module(np)
backend.NAMESPACES[Foreign] = xp


def to_numpy(x: Foreign) -> np.ndarray:
    return x.view(np.ndarray)
