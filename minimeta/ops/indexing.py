"""Picking, placing, sorting and comparing elements.

Picking has placing as its rule and placing has picking, so any order comes for free. An index is whatever NumPy takes:
integers, slices, None, Ellipsis, integer arrays, boolean masks, and tuples of these.
Comparisons and positions (argsort, argmax, ...) have no derivative and are always plain arrays.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minimeta import backend
from minimeta.autodiff.op import nondifferentiable, op
from minimeta.autodiff.tensor import Tensor
from minimeta.ops.record import Draw, record, reduction
from minimeta.ops.shape import reshape

Shape = tuple[int, ...]

_BASIC = (int, slice, type(None), type(Ellipsis), np.integer)


def getitem(x: Any, index: Any) -> Any:
    """x[index]; an element picked several times collects the gradients of all its copies.

    Raises IndexError for an index outside x; on a GPU integer arrays in it wrap round.

    >>> getitem(np.array([1.0, 2.0, 3.0]), [0, 0, 2])
    array([1., 1., 3.])
    """
    return getitem_(x, index=_plain(index))


def _plain(index: Any) -> Any:
    """The index with arrays in place of Tensors."""
    if type(index) is tuple:
        return tuple([item.data if type(item) is Tensor else item for item in index])
    return index.data if type(index) is Tensor else index


@op(saves="none")
def getitem_(xp: Any, x: Any, *, index: Any) -> Any:
    return x[index]


@getitem_.vjp(0)
def _(g: Any, y: Any, x: Any, index: Any) -> Any:
    return scatter(g, index=index, shape=x.shape)


@op(saves="none")
def scatter(xp: Any, values: Any, *, index: Any, shape: Shape) -> Any:
    """Zeros of `shape` with `values` added at `index`: the transpose of getitem."""
    out = xp.zeros(shape, dtype=values.dtype)
    _accumulate(xp, out, index, values)
    return out


@scatter.vjp(0)
def _(g: Any, y: Any, values: Any, index: Any, shape: Shape) -> Any:
    return getitem_(g, index=index)


def index_add(x: Any, index: Any, values: Any) -> Any:
    """x with `values` added at `index`; where the index names an element several times, every value counts.

    `values` broadcasts to the shape of x[index]. x itself is left as it is.

    >>> index_add(np.zeros(3), [0, 0, 2], np.array([1.0, 2.0, 5.0]))
    array([3., 0., 5.])
    """
    return index_add_(x, values, index=_plain(index))


@op(saves="none", broadcasts=True)
def index_add_(xp: Any, x: Any, values: Any, *, index: Any) -> Any:
    out = _copy(xp, x)
    _accumulate(xp, out, index, values)
    return out


@index_add_.vjp(0)
def _(g: Any, y: Any, x: Any, values: Any, index: Any) -> Any:
    return g


@index_add_.vjp(1)
def _(g: Any, y: Any, x: Any, values: Any, index: Any) -> Any:
    return getitem_(g, index=index)


def index_update(x: Any, index: Any, values: Any) -> Any:
    """x with `values` at `index`; where the index names an element several times, the last value stays.

    `values` broadcasts to the shape of x[index]. x itself is left as it is.

    >>> index_update(np.zeros(3), slice(1, None), np.array([1.0, 2.0]))
    array([0., 1., 2.])
    """
    return index_update_(x, values, index=_plain(index))


@op(saves="none", broadcasts=True)
def index_update_(xp: Any, x: Any, values: Any, *, index: Any) -> Any:
    out = _copy(xp, x)
    if xp is not np and np.ndim(values) and not _names_once(index):  # a GPU lets any of several values stay
        last, _ = _last_writes(xp, x.shape, index)
        values = xp.broadcast_to(values, last.shape).ravel()[last]
    out[index] = values
    return out


@index_update_.vjp(0)
def _(g: Any, y: Any, x: Any, values: Any, index: Any) -> Any:
    return index_update_(g, 0.0, index=index)


@index_update_.vjp(1)
def _(g: Any, y: Any, x: Any, values: Any, index: Any) -> Any:
    written = getitem_(g, index=index)
    return written if _names_once(index) else written * _stays(g, index=index)


@nondifferentiable
def _stays(xp: Any, x: Any, *, index: Any) -> Any:
    """1 for each value of an update that stays, 0 where a later one for the same element overwrites it."""
    last, order = _last_writes(xp, x.shape, index)
    return (last == order).astype(x.dtype)


def _last_writes(xp: Any, shape: Shape, index: Any) -> tuple[Any, Any]:
    """Of each value of an update the number of the one that stays in its place, and its own, in order of writing."""
    latest = xp.zeros(shape, dtype=xp.int32)
    order = xp.reshape(xp.arange(latest[index].size, dtype=xp.int32), latest[index].shape)
    if xp is np:
        latest[index] = order
    else:
        xp.maximum.at(latest, index, order)
    return latest[index], order


def _copy(xp: Any, x: Any) -> Any:
    out = xp.empty_like(x)
    out[...] = x
    return out


def _accumulate(xp: Any, out: Any, index: Any, values: Any) -> None:
    """Add `values` to out[index] in place, counting every mention of an element."""
    if _names_once(index):
        out[index] += values
        return
    if xp is not np and "float" in str(out.dtype):  # where bincount would have to wait for the largest place
        xp.add.at(out, index, values)
        return
    places = xp.reshape(xp.arange(out.size), out.shape)[index]
    weights = xp.broadcast_to(xp.asarray(values), places.shape)
    sums = xp.bincount(places.ravel(), weights=weights.ravel(), minlength=out.size)  # several times faster than add.at
    out += sums.reshape(out.shape).astype(out.dtype)


def _names_once(index: Any) -> bool:
    """Whether the index is of a kind that cannot name an element twice: no integer arrays."""
    items = index if type(index) is tuple else (index,)
    return all(isinstance(item, _BASIC) or str(getattr(item, "dtype", "")) == "bool" for item in items)


def take(x: Any, indices: Any, axis: int | None = None) -> Any:
    """The elements of x at integer `indices` along `axis`; of the flattened array for None.

    Returns x's shape with `axis` replaced by the shape of `indices`. Raises IndexError for an index outside x, as
    `getitem` does.

    >>> take(np.array([[1.0, 2.0], [3.0, 4.0]]), [1, 1, 0], axis=0)
    array([[3., 4.],
           [3., 4.],
           [1., 2.]])
    """
    if axis is None:
        return take(reshape(x, (-1,)), indices, 0)
    return getitem(x, (*[slice(None)] * _axis(x, axis, "take"), indices))


def take_along_axis(x: Any, indices: Any, axis: int = -1) -> Any:
    """Match `indices` [..., n, ...] and x along all axes but `axis`, and take n elements along that one.

    Axes of length 1 broadcast. Raises IndexError for an index outside x, as `getitem` does, ValueError if the numbers
    of axes differ.

    >>> take_along_axis(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1], [0]]))
    array([[2.],
           [3.]])
    """
    indices = indices.data if type(indices) is Tensor else indices
    if indices.ndim != x.ndim:
        raise ValueError(
            f"minimeta.take_along_axis: x and indices need as many axes; got x.shape={x.shape}, "
            f"indices.shape={indices.shape}"
        )
    axis = _axis(x, axis, "take_along_axis")
    xp = backend.namespace(indices)
    index = [xp.reshape(xp.arange(n), (n,) + (1,) * (x.ndim - 1 - i)) for i, n in enumerate(x.shape)]
    index[axis] = indices
    return getitem(x, tuple(index))


def _axis(x: Any, axis: int, name: str) -> int:
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"minimeta.{name}: axis={axis} is out of range; x has {x.ndim} axes, x.shape={x.shape}")
    return axis % x.ndim


def sort(x: Any, axis: int = -1) -> Any:
    """x in ascending order along `axis`; equal elements keep their order.

    >>> sort(np.array([3.0, 1.0, 2.0]))
    array([1., 2., 3.])
    """
    return take_along_axis(x, argsort(x, axis=axis), axis)


@nondifferentiable
def argsort(xp: Any, x: Any, *, axis: int = -1) -> Any:
    """The indices that sort x along `axis`; equal elements keep their order.

    >>> argsort(np.array([3.0, 1.0, 2.0]))
    array([1, 2, 0])
    """
    # NumPy and CuPy ask for stability by kind, the array standard by a flag.
    return xp.argsort(x, axis=axis, kind="stable") if hasattr(xp, "ndarray") else xp.argsort(x, axis=axis, stable=True)


@nondifferentiable
def argmax(xp: Any, x: Any, *, axis: int | None = None, keepdims: bool = False) -> Any:
    """The index of the (first) largest element along `axis`; of the flattened array for None.

    >>> argmax(np.array([[1.0, 3.0], [2.0, 0.0]]), axis=1)
    array([1, 0])
    """
    return xp.argmax(x, axis=axis, keepdims=keepdims)


@nondifferentiable
def argmin(xp: Any, x: Any, *, axis: int | None = None, keepdims: bool = False) -> Any:
    """The index of the (first) smallest element along `axis`; of the flattened array for None.

    >>> argmin(np.array([[1.0, 3.0], [2.0, 0.0]]), axis=1)
    array([0, 1])
    """
    return xp.argmin(x, axis=axis, keepdims=keepdims)


@nondifferentiable
def one_hot(xp: Any, labels: Any, *, classes: int, dtype: Any = None) -> Any:
    """Integer labels [...] as rows [..., classes] with a single 1; float32 unless `dtype` says otherwise.

    Raises TypeError if labels are not integers and, on the CPU, ValueError naming a label outside 0 <= label < classes;
    on a GPU, which every look at them would have to wait for, its row has no 1.

    >>> one_hot(np.array([0, 2]), 3)
    array([[1., 0., 0.],
           [0., 0., 1.]], dtype=float32)
    """
    labels = xp.asarray(labels)
    if "int" not in str(labels.dtype):
        raise TypeError(f"labels must be integers, not {labels.dtype}")
    if xp is np and labels.size and not (labels.min() >= 0 and labels.max() < classes):
        outside = labels[(labels < 0) | (labels >= classes)]
        raise ValueError(f"label {int(outside[0])} is out of range; need 0 <= label < {classes}")
    return (labels[..., None] == xp.arange(classes)).astype(dtype or xp.float32)


@nondifferentiable
def equal(xp: Any, x1: Any, x2: Any) -> Any:
    """x1 == x2, element by element."""
    return x1 == x2


@nondifferentiable
def not_equal(xp: Any, x1: Any, x2: Any) -> Any:
    """x1 != x2, element by element."""
    return x1 != x2


@nondifferentiable
def less(xp: Any, x1: Any, x2: Any) -> Any:
    """x1 < x2, element by element."""
    return x1 < x2


@nondifferentiable
def less_equal(xp: Any, x1: Any, x2: Any) -> Any:
    """x1 <= x2, element by element."""
    return x1 <= x2


@nondifferentiable
def greater(xp: Any, x1: Any, x2: Any) -> Any:
    """x1 > x2, element by element."""
    return x1 > x2


@nondifferentiable
def greater_equal(xp: Any, x1: Any, x2: Any) -> Any:
    """x1 >= x2, element by element."""
    return x1 >= x2


@nondifferentiable
def isnan(xp: Any, x: Any) -> Any:
    """Whether each element is NaN."""
    return xp.isnan(x)


@nondifferentiable
def isfinite(xp: Any, x: Any) -> Any:
    """Whether each element is neither NaN nor infinite."""
    return xp.isfinite(x)


def _index(draw: Draw, shape: Shape) -> Any:
    """An index of a random kind into a shape of at least one axis, none of them empty."""
    n = shape[0]
    rows = np.array([draw.integer(-n, n - 1) for _ in range(draw.integer(0, 4))], dtype=int)
    kinds = [draw.integer(-n, n - 1), slice(None, None, -1), slice(1, None, 2), None, Ellipsis, (), rows, rows.tolist()]
    kinds += [(Ellipsis, draw.integer(0, shape[-1] - 1)), (rows, Ellipsis, None), np.arange(n) % 2 == 0]
    kinds += [np.arange(np.prod(shape)).reshape(shape) % 3 > 0]
    if len(shape) > 1:
        kinds += [(slice(None), rows % shape[1]), (rows, rows % shape[1]), (rows[:, None], slice(None, None, -1))]
    return draw.choice(kinds)


def _picked(draw: Draw) -> Any:
    shape = draw.shape(min_dims=1, min_side=1)
    return (draw.array(shape),), {"index": _index(draw, shape)}


def _placed(draw: Draw) -> Any:
    (x,), options = _picked(draw)
    index = options["index"]
    shape = np.shape(x[index])
    return (x, index, draw.array(draw.choice((shape, shape[1:], ())))), {}


def _add_at(x: Any, index: Any, values: Any) -> Any:
    out = x.copy()
    np.add.at(out, index, values)
    return out


def _set_at(x: Any, index: Any, values: Any) -> Any:
    out = x.copy()
    out[index] = values
    return out


def _taken(draw: Draw) -> Any:
    shape = draw.shape(min_dims=1, min_side=1)
    axis = draw.choice((None, draw.integer(-len(shape), len(shape) - 1)))
    n = int(np.prod(shape)) if axis is None else shape[axis]
    indices = np.array([draw.integer(-n, n - 1) for _ in range(4)]).reshape(draw.choice(((4,), (2, 2))))
    return (draw.array(shape), indices), {"axis": axis}


def _taken_along(draw: Draw) -> Any:
    shape = draw.shape(min_dims=1, min_side=1)
    axis = draw.integer(-len(shape), len(shape) - 1)
    rows = list(shape)
    rows[axis] = draw.integer(0, 4)
    indices = np.array([draw.integer(0, shape[axis] - 1) for _ in range(int(np.prod(rows)))], dtype=int)
    return (draw.array(shape), indices.reshape(rows)), {"axis": axis}


def _along(draw: Draw) -> Any:
    shape = draw.shape(min_dims=1, min_side=1)
    return (draw.array(shape),), {"axis": draw.integer(-len(shape), len(shape) - 1)}


def _labels(draw: Draw) -> Any:
    classes = draw.integer(1, 4)
    shape = draw.shape()
    labels = np.array([draw.integer(0, classes - 1) for _ in range(int(np.prod(shape)))], dtype=int).reshape(shape)
    return (labels,), {"classes": classes}


def _compared(draw: Draw) -> Any:
    a, b = (draw.array(shape).round() for shape in draw.broadcastable(2))
    return (a, b), {}


def _positions(draw: Draw) -> Any:
    (x,), options = reduction()(draw)
    if isinstance(options["axis"], tuple):
        options["axis"] = options["axis"][0]
    return (x,), options


def _special(draw: Draw) -> Any:
    return (np.array([draw.choice((0.0, 1.0, np.nan, np.inf, -np.inf)) for _ in range(3)]),), {}


record(getitem, _picked, lambda x, index: x[index])
record(index_add, _placed, _add_at)
record(index_update, _placed, _set_at)
record(take, _taken, "numpy.take")
record(take_along_axis, _taken_along, "numpy.take_along_axis")
record(sort, _along, "numpy.sort")
record(argsort, _along, "numpy.argsort", orders=0)
record(argmax, _positions, "numpy.argmax", orders=0)
record(argmin, _positions, "numpy.argmin", orders=0)
record(one_hot, _labels, lambda labels, classes: np.eye(classes, dtype=np.float32)[labels], orders=0)
for comparison in (equal, not_equal, less, less_equal, greater, greater_equal):
    record(comparison, _compared, f"numpy.{comparison.__name__}", orders=0)
record(isnan, _special, "numpy.isnan", orders=0)
record(isfinite, _special, "numpy.isfinite", orders=0)
