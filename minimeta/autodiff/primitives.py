"""The operations that the engine itself needs: fresh handles, broadcasting and its reverse, dtypes, joining arrays."""

from __future__ import annotations

import itertools
from typing import Any

from minimeta import backend
from minimeta.autodiff.op import op


@op(saves="none")
def alias(xp: Any, x: Any) -> Any:
    """The same array under a fresh node."""
    return x


@alias.vjp(0)
def _(g: Any, y: Any, x: Any) -> Any:
    return g


@op(saves="none")
def sum_to(xp: Any, x: Any, *, shape: tuple[int, ...]) -> Any:
    """Sum an array of a broadcast shape down to `shape`.

    >>> sum_to(np.ones((4, 3)), (3,))
    array([4., 4., 4.])
    """
    lead = x.ndim - len(shape)
    axes = tuple(range(lead)) + tuple(i + lead for i, n in enumerate(shape) if n == 1 and x.shape[i + lead] != 1)
    return xp.reshape(xp.sum(x, axis=axes) if axes else x, shape)


@sum_to.vjp(0)
def _(g: Any, y: Any, x: Any, shape: tuple[int, ...]) -> Any:
    return broadcast_to(g, x.shape)


@op(saves="none")
def broadcast_to(xp: Any, x: Any, *, shape: tuple[int, ...]) -> Any:
    """Repeat an array along new or length-1 axes up to `shape`, as NumPy broadcasting does; a read-only view.

    >>> broadcast_to(np.array([1.0, 2.0]), (2, 2))
    array([[1., 2.],
           [1., 2.]])
    """
    return xp.broadcast_to(x, shape)


@broadcast_to.vjp(0)
def _(g: Any, y: Any, x: Any, shape: tuple[int, ...]) -> Any:
    return sum_to(g, x.shape)


@op(saves="none")
def astype(xp: Any, x: Any, *, dtype: Any) -> Any:
    """Convert to `dtype`; the gradient converts back.

    >>> astype(np.array([1.0]), "float32").dtype
    dtype('float32')
    """
    return x.astype(dtype) if hasattr(x, "astype") else xp.astype(x, dtype)


@astype.vjp(0)
def _(g: Any, y: Any, x: Any, dtype: Any) -> Any:
    return astype(g, x.dtype)


@op(saves="none")
def concatenate(xp: Any, *arrays: Any, axis: int = 0) -> Any:
    """Join arrays end to end along `axis`.

    >>> concatenate([np.ones(2), np.zeros(1)])
    array([1., 1., 0.])
    """
    return backend.concatenate(xp, arrays, axis)


@concatenate.vjp()
def _(g: Any, y: Any, *arrays: Any, axis: int = 0) -> list[Any]:
    ends = list(itertools.accumulate(a.shape[axis] for a in arrays))
    return [g[along(axis, g.ndim, slice(end - a.shape[axis], end))] for a, end in zip(arrays, ends, strict=True)]


def along(axis: int, ndim: int, index: Any) -> tuple[Any, ...]:
    """The index that applies `index` to one axis and keeps all others whole."""
    return (*[slice(None)] * (axis % ndim), index, ...)
