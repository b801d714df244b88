"""Operations that fold an axis, several or all of them: `axis` is None, an int or a tuple; `keepdims` as in NumPy."""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np

from minimeta.autodiff.op import op
from minimeta.autodiff.primitives import broadcast_to, concatenate
from minimeta.ops.elementwise import exp, sqrt
from minimeta.ops.record import Draw, record, reduction
from minimeta.ops.shape import flip, inverse_axes

Axis = int | tuple[int, ...] | None


@op(saves="none")
def sum(xp: Any, x: Any, *, axis: Axis = None, keepdims: bool = False) -> Any:
    """The sum over `axis`."""
    return xp.sum(x, axis=axis, keepdims=keepdims)


@sum.vjp(0)
def _(g: Any, y: Any, x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    return broadcast_to(restore(g, x.ndim, axis, keepdims), x.shape)


@op(saves="none")
def mean(xp: Any, x: Any, *, axis: Axis = None, keepdims: bool = False) -> Any:
    """The arithmetic mean over `axis`."""
    return xp.mean(x, axis=axis, keepdims=keepdims)


@mean.vjp(0)
def _(g: Any, y: Any, x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    share = restore(g, x.ndim, axis, keepdims) * (1 / builtins.max(count(x.shape, axis), 1))
    return broadcast_to(share, x.shape)


@op(saves="all")
def max(xp: Any, x: Any, *, axis: Axis = None, keepdims: bool = False) -> Any:
    """The largest element over `axis`; ties share the gradient evenly."""
    return xp.max(x, axis=axis, keepdims=keepdims)


@op(saves="all")
def min(xp: Any, x: Any, *, axis: Axis = None, keepdims: bool = False) -> Any:
    """The smallest element over `axis`; ties share the gradient evenly."""
    return xp.min(x, axis=axis, keepdims=keepdims)


@max.vjp(0)
@min.vjp(0)
def _(g: Any, y: Any, x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    chosen = x == restore(y, x.ndim, axis, keepdims)
    share = chosen / chosen.sum(axis=axis, keepdims=True)
    return restore(g, x.ndim, axis, keepdims) * share.astype(x.dtype)


@op(saves="all")
def prod(xp: Any, x: Any, *, axis: Axis = None, keepdims: bool = False) -> Any:
    """The product over `axis`, with exact derivatives where factors are zero."""
    return xp.prod(x, axis=axis, keepdims=keepdims)


@prod.vjp(0)
def _(g: Any, y: Any, x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    # Each factor's slope is the product of all others: the running products from both ends, which needs no division.
    axes = positive_axes(axis, x.ndim)
    kept = tuple(i for i in range(x.ndim) if i not in axes)
    rows = x.transpose((*kept, *axes)).reshape((*[x.shape[i] for i in kept], count(x.shape, axis)))
    others = _before(rows) * flip(_before(flip(rows, axis=-1)), axis=-1)
    others = others.reshape(tuple([x.shape[i] for i in (*kept, *axes)])).transpose(inverse_axes((*kept, *axes)))
    return restore(g, x.ndim, axis, keepdims) * others


def _before(rows: Any) -> Any:
    """At each place of the last axis, the product of all elements before it."""
    parts = [rows[..., :1] * 0 + 1]
    for i in range(rows.shape[-1] - 1):
        parts.append(parts[-1] * rows[..., i : i + 1])
    return concatenate(parts, axis=-1) if rows.shape[-1] else rows


@op(saves="none")
def cumsum(xp: Any, x: Any, *, axis: int | None = None) -> Any:
    """Running sums along `axis`; of the flattened array for None."""
    return xp.cumsum(x, axis=axis)


@cumsum.vjp(0)
def _(g: Any, y: Any, x: Any, axis: int | None = None) -> Any:
    if axis is None:
        return flip(cumsum(flip(g, axis=0), axis=0), axis=0).reshape(x.shape)
    return flip(cumsum(flip(g, axis=axis), axis=axis), axis=axis)


@op(saves="all")
def logsumexp(xp: Any, x: Any, *, axis: Axis = None, keepdims: bool = False) -> Any:
    """log(sum(exp(x))) over `axis`, without overflow."""
    top = xp.max(x, axis=axis, keepdims=True)
    top = xp.where(xp.isfinite(top), top, 0)  # a row of -inf stays -inf
    with np.errstate(divide="ignore"):
        total = xp.log(xp.sum(xp.exp(x - top), axis=axis, keepdims=True)) + top
    return total if keepdims else xp.squeeze(total, axis=positive_axes(axis, x.ndim))


@logsumexp.vjp(0)
def _(g: Any, y: Any, x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    return restore(g, x.ndim, axis, keepdims) * exp(x - restore(y, x.ndim, axis, keepdims))


@op()
def var(xp: Any, x: Any, *, axis: Axis = None, keepdims: bool = False, ddof: int = 0) -> Any:
    """The variance over `axis`: summed squared distances from the mean, divided by count - ddof.

    >>> float(var(np.array([1.0, 3.0]))), float(var(np.array([1.0, 3.0]), ddof=1))
    (1.0, 2.0)
    """
    centred = x - xp.mean(x, axis=axis, keepdims=True)
    centred *= centred
    return xp.sum(centred, axis=axis, keepdims=keepdims) * (1 / (count(x.shape, axis) - ddof))


@var.vjp(0)
def _(g: Any, y: Any, x: Any, axis: Axis = None, keepdims: bool = False, ddof: int = 0) -> Any:
    # the mean moves too, but the sum of distances from it is zero
    slope = restore(g, x.ndim, axis, keepdims) * (2 / (count(x.shape, axis) - ddof))
    return slope * (x - mean(x, axis=axis, keepdims=True))


def std(x: Any, axis: Axis = None, keepdims: bool = False, ddof: int = 0) -> Any:
    """The standard deviation over `axis`: the square root of `var`, with slope 0 where all elements are equal.

    >>> float(std(np.array([1.0, 3.0])))
    1.0
    """
    return sqrt(var(x, axis, keepdims, ddof))


def positive_axes(axis: Axis, ndim: int) -> tuple[int, ...]:
    """The axes meant by `axis`, counted from the front."""
    if axis is None:
        return tuple(range(ndim))
    return tuple(a % ndim for a in ((axis,) if isinstance(axis, int) else axis))


def count(shape: tuple[int, ...], axis: Axis) -> int:
    """How many elements are folded into one."""
    return math.prod(shape[a] for a in positive_axes(axis, len(shape)))


def restore(folded: Any, ndim: int, axis: Axis, keepdims: bool) -> Any:
    """Give a folded array its folded axes back, with length 1."""
    if keepdims or axis is None:  # a 0-d array broadcasts as it is
        return folded
    axes = positive_axes(axis, ndim)
    sizes = iter(folded.shape)
    return folded.reshape(tuple([1 if i in axes else next(sizes) for i in range(ndim)]))


def _running(draw: Draw) -> Any:
    shape = draw.shape(min_dims=1)
    return (draw.array(shape),), {"axis": draw.choice((None, 0, -1))}


def _factors(draw: Draw) -> Any:
    (x,), options = reduction()(draw)
    return (x * (abs(x) > 0.5),), options  # some factors are exactly zero


def _spread(draw: Draw) -> Any:
    shape = draw.shape(min_dims=1, min_side=2)
    options = {"axis": draw.choice((None, 0, -1)), "keepdims": draw.choice((False, True)), "ddof": draw.choice((0, 1))}
    return (draw.array(shape),), options


record(sum, reduction(min_side=0), "numpy.sum")
record(mean, reduction(), "numpy.mean")
record(max, reduction(), "numpy.max", conventions=((([1.0, 3.0, 3.0],), [0.0, 0.5, 0.5]),))
record(min, reduction(), "numpy.min", conventions=((([1.0, 1.0, 3.0],), [0.5, 0.5, 0.0]),))
record(prod, _factors, "numpy.prod")
record(cumsum, _running, "numpy.cumsum")
record(logsumexp, reduction(), lambda x, **options: np.log(np.sum(np.exp(x), **options)))
record(var, _spread, "numpy.var")
record(std, _spread, "numpy.std", conventions=((([1.0, 1.0],), [0.0, 0.0]),))
