"""Operations that arrange elements and compute nothing: each one's rule is the opposite arrangement."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minimeta import backend
from minimeta.autodiff import Tensor
from minimeta.autodiff.op import op
from minimeta.autodiff.primitives import along, broadcast_to, concatenate
from minimeta.ops.record import Draw, record, unary
from minimeta.ops.results import Results, part

Shape = tuple[int, ...]


@op(saves="none")
def reshape(xp: Any, x: Any, *, shape: Shape | int) -> Any:
    """The same elements in row-major order under another shape; one length may be -1."""
    return xp.reshape(x, shape)


@reshape.vjp(0)
def _(g: Any, y: Any, x: Any, shape: Any) -> Any:
    return g.reshape(x.shape)


@op(saves="none")
def transpose(xp: Any, x: Any, *, axes: Shape | None = None) -> Any:
    """Axis i of the result is axis axes[i] of x; the reverse order for None."""
    axes = tuple(reversed(range(x.ndim))) if axes is None else axes
    return xp.permute_dims(x, axes) if hasattr(xp, "permute_dims") else xp.transpose(x, axes)


@transpose.vjp(0)
def _(g: Any, y: Any, x: Any, axes: Shape | None = None) -> Any:
    return transpose(g, None if axes is None else inverse_axes(tuple(a % x.ndim for a in axes)))


def inverse_axes(axes: Shape) -> Shape:
    """The permutation that undoes `axes`.

    >>> inverse_axes((2, 0, 1))
    (1, 2, 0)
    """
    return tuple(sorted(range(len(axes)), key=axes.__getitem__))


@op(saves="none")
def stack(xp: Any, *arrays: Any, axis: int = 0) -> Any:
    """Join arrays of one shape along a new axis.

    >>> stack([np.ones(2), np.zeros(2)]).shape
    (2, 2)
    """
    return backend.stack(xp, arrays, axis)


@stack.vjp()
def _(g: Any, y: Any, *arrays: Any, axis: int = 0) -> list[Any]:
    return unstack(g, axis)


def swapaxes(x: Any, axis1: int, axis2: int) -> Any:
    """x with two axes exchanged.

    >>> swapaxes(np.ones((2, 3, 4)), 0, -1).shape
    (4, 3, 2)
    """
    axes = list(range(np.ndim(x) if not hasattr(x, "ndim") else x.ndim))
    axes[axis1], axes[axis2] = axes[axis2], axes[axis1]
    return transpose(x, tuple(axes))


def moveaxis(x: Any, source: int, destination: int) -> Any:
    """x with one axis moved; the others keep their order.

    >>> moveaxis(np.ones((2, 3, 4)), 0, -1).shape
    (3, 4, 2)
    """
    axes = list(range(x.ndim))
    axes.insert(destination % x.ndim, axes.pop(source))
    return transpose(x, tuple(axes))


def expand_dims(x: Any, axis: int | Shape) -> Any:
    """x with new axes of length 1 at the places `axis` of the result.

    >>> expand_dims(np.ones((2, 3)), (0, -1)).shape
    (1, 2, 3, 1)
    """
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    ndim = x.ndim + len(axes)
    if any(not -ndim <= a < ndim for a in axes) or len({a % ndim for a in axes}) != len(axes):
        raise ValueError(f"minimeta.expand_dims: axis={axis} does not name distinct places in a {ndim}-d result")
    new = {a % ndim for a in axes}
    sizes = iter(x.shape)
    return reshape(x, tuple(1 if i in new else next(sizes) for i in range(ndim)))


def squeeze(x: Any, axis: int | Shape | None = None) -> Any:
    """x without its axes of length 1: all of them, or those named.

    >>> squeeze(np.ones((1, 3, 1))).shape, squeeze(np.ones((1, 3, 1)), -1).shape
    ((3,), (1, 3))
    """
    if axis is None:
        return reshape(x, tuple(n for n in x.shape if n != 1))
    axes = {a % x.ndim for a in ((axis,) if isinstance(axis, int) else axis)}
    if any(x.shape[a] != 1 for a in axes):
        raise ValueError(f"minimeta.squeeze: axis={axis} is not of length 1 in shape {x.shape}")
    return reshape(x, tuple(n for i, n in enumerate(x.shape) if i not in axes))


def split(x: Any, indices_or_sections: int | Sequence[int], axis: int = 0) -> list[Any]:
    """Cut x along `axis` into equal sections, or before each of the given indices.

    Raises ValueError if the axis does not divide evenly, or indices do not ascend.

    >>> [part.shape for part in split(np.ones((6, 2)), 3)], [part.shape for part in split(np.ones(5), [1, 3])]
    ([(2, 2), (2, 2), (2, 2)], [(1,), (2,), (2,)])
    """
    length = x.shape[axis]
    if isinstance(indices_or_sections, int):
        if indices_or_sections < 1 or length % indices_or_sections:
            raise ValueError(
                f"minimeta.split: axis {axis} of shape {x.shape} does not divide into {indices_or_sections} equal parts"
            )
        step = length // indices_or_sections
        cuts = list(range(step, length, step)) if step else [0] * (indices_or_sections - 1)
    else:
        cuts = [min(max(c + length if c < 0 else c, 0), length) for c in indices_or_sections]
        if cuts != sorted(cuts):
            raise ValueError(f"minimeta.split: indices {list(indices_or_sections)} do not ascend")
    pieces = _pieces(x, axis=axis, cuts=tuple(cuts))
    return [part(pieces, i) for i in range(len(cuts) + 1)]


@op(saves="none")
def _pieces(xp: Any, x: Any, *, axis: int, cuts: Shape) -> Any:
    return Results(tuple([x[along(axis, x.ndim, slice(a, b))] for a, b in _spans(x.shape[axis], cuts)]))


@_pieces.vjp(0)
def _(g: Any, y: Any, x: Any, axis: int, cuts: Shape) -> Any:
    lengths = [b - a for a, b in _spans(x.shape[axis], cuts)]
    shapes = [tuple(n if i == axis % x.ndim else m for i, m in enumerate(x.shape)) for n in lengths]
    return concatenate(_present(g, shapes), axis=axis)


def _spans(length: int, cuts: Shape) -> list[tuple[int, int]]:
    return list(zip([0, *cuts], [*cuts, length], strict=True))


def _present(g: Any, shapes: Sequence[Shape]) -> list[Any]:
    """The entries of a cotangent of several arrays, with zeros where there is none."""
    held = g.data if type(g) is Tensor else g
    xp = backend.namespace(*[a for a in held.arrays if a is not None])
    parts = [part(g, i) for i in range(len(shapes))]
    return [xp.zeros(shape, dtype=held.dtype) if p is None else p for p, shape in zip(parts, shapes, strict=True)]


def unstack(x: Any, axis: int = 0) -> list[Any]:
    """The entries of x along `axis`, one after another: what iterating does, and the opposite of `stack`.

    Their gradients are put together once; those of x[0], x[1], ... are as large as x, each.

    >>> unstack(np.array([[1.0, 2.0], [3.0, 4.0]]), axis=1)
    [array([1., 3.]), array([2., 4.])]
    """
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"minimeta.unstack: axis={axis} is not an axis of shape {x.shape}")
    if not x.shape[axis]:
        return []
    entries = _entries(x, axis=axis)
    return [part(entries, i) for i in range(x.shape[axis])]


@op(saves="none")
def _entries(xp: Any, x: Any, *, axis: int) -> Any:
    return Results(tuple([x[along(axis, x.ndim, i)] for i in range(x.shape[axis])]))


@_entries.vjp(0)
def _(g: Any, y: Any, x: Any, axis: int) -> Any:
    shape = tuple(n for i, n in enumerate(x.shape) if i != axis % x.ndim)
    return stack(_present(g, [shape] * x.shape[axis]), axis=axis)


@op(saves="none")
def pad(xp: Any, x: Any, *, pad_width: Sequence[tuple[int, int]], value: float = 0.0) -> Any:
    """x with (before, after) elements of a constant added along each axis; `pad_width` has one pair per axis."""
    if len(pad_width) != x.ndim or any(n < 0 for pair in pad_width for n in pair):
        raise ValueError("pad_width needs one (before, after) pair of non-negative counts per axis")
    out = xp.full(tuple([b + n + a for n, (b, a) in zip(x.shape, pad_width, strict=True)]), value, dtype=x.dtype)
    out[_inside(x.shape, pad_width)] = x
    return out


@pad.vjp(0)
def _(g: Any, y: Any, x: Any, pad_width: Any, value: float = 0.0) -> Any:
    return g[_inside(x.shape, pad_width)]


def _inside(shape: Shape, pad_width: Sequence[tuple[int, int]]) -> tuple[slice, ...]:
    return tuple([slice(before, before + n) for n, (before, _) in zip(shape, pad_width, strict=True)])


@op(saves="none")
def flip(xp: Any, x: Any, *, axis: int | Shape | None = None) -> Any:
    """x with the order along `axis` (all axes for None) reversed."""
    return xp.flip(x, axis=axis)


@flip.vjp(0)
def _(g: Any, y: Any, x: Any, axis: Any = None) -> Any:
    return flip(g, axis)


@op(saves="none")
def roll(xp: Any, x: Any, *, shift: int | Shape, axis: int | Shape | None = None) -> Any:
    """x with its elements moved on by `shift` along `axis`, those pushed out returning at the other end."""
    return xp.roll(x, shift, axis=axis)


@roll.vjp(0)
def _(g: Any, y: Any, x: Any, shift: Any, axis: Any = None) -> Any:
    return roll(g, tuple(-s for s in shift) if isinstance(shift, tuple) else -shift, axis)


def repeat(x: Any, repeats: int, axis: int | None = None) -> Any:
    """Each element `repeats` times in a row along `axis`; of the flattened array for None.

    >>> repeat(np.array([1.0, 2.0]), 2)
    array([1., 1., 2., 2.])
    """
    if axis is None:
        return repeat(reshape(x, (-1,)), repeats, 0)
    axis %= x.ndim
    wide = broadcast_to(expand_dims(x, axis + 1), (*x.shape[: axis + 1], repeats, *x.shape[axis + 1 :]))
    return reshape(wide, (*x.shape[:axis], x.shape[axis] * repeats, *x.shape[axis + 1 :]))


def tile(x: Any, reps: int | Shape) -> Any:
    """x laid side by side `reps` times along each axis.

    >>> tile(np.array([1.0, 2.0]), (2, 2))
    array([[1., 2., 1., 2.],
           [1., 2., 1., 2.]])
    """
    times = (reps,) if isinstance(reps, int) else tuple(reps)
    ndim = max(x.ndim, len(times))
    shape = (1,) * (ndim - x.ndim) + tuple(x.shape)
    times = (1,) * (ndim - len(times)) + times
    wide = broadcast_to(
        reshape(x, tuple(n for size in shape for n in (1, size))),
        tuple(n for pair in zip(times, shape, strict=True) for n in pair),
    )
    return reshape(wide, tuple(r * n for r, n in zip(times, shape, strict=True)))


def _target_shape(draw: Draw) -> Any:
    shape = draw.shape()
    size = math.prod(shape)
    return (draw.array(shape),), {"shape": draw.choice(((size,), (1, size), (*shape, 1)))}


def _permutation(draw: Draw) -> Any:
    shape = draw.shape()
    axes = list(range(len(shape)))
    order = tuple(axes.pop(draw.integer(0, len(axes) - 1)) for _ in shape)
    return (draw.array(shape),), {"axes": draw.choice((None, order))}


def _two_axes(names: tuple[str, str]) -> Any:
    def cases(draw: Draw) -> Any:
        shape = draw.shape(min_dims=2)
        return (draw.array(shape),), {name: draw.integer(-len(shape), len(shape) - 1) for name in names}

    return cases


def _one_axis(draw: Draw) -> Any:
    shape = draw.shape(min_dims=1)
    return (draw.array(shape),), {"axis": draw.integer(-len(shape), len(shape) - 1)}


def _with(name: str, options: tuple[Any, ...]) -> Any:
    def cases(draw: Draw) -> Any:
        args, chosen = _one_axis(draw)
        return args, {name: draw.choice(options), "axis": draw.choice((None, chosen["axis"]))}

    return cases


def _joined(draw: Draw) -> Any:
    shape = draw.shape(min_dims=1)
    arrays = [draw.array(shape) for _ in range(draw.integer(1, 3))]
    return (arrays,), {"axis": draw.integer(-len(shape), len(shape) - 1)}


def _cut(draw: Draw) -> Any:
    x = draw.array((4, *draw.shape(max_dims=2)))
    return (x,), {"indices_or_sections": draw.choice((1, 2, [1, 3], [0, 4], [])), "axis": draw.choice((0, -x.ndim))}


def _along_first_or_last(draw: Draw) -> Any:
    return (draw.array((3, *draw.shape(max_dims=2), 2)),), {"axis": draw.choice((0, -1))}


def _padding(draw: Draw) -> Any:
    shape = draw.shape(min_dims=1)
    return (draw.array(shape),), {"pad_width": tuple((draw.integer(0, 2), draw.integer(0, 2)) for _ in shape)}


def _wider(draw: Draw) -> Any:
    small, big = draw.broadcastable(2)
    wide = np.broadcast_shapes(small, big)
    return (draw.array(small),), {"shape": wide}


record(reshape, _target_shape, "numpy.reshape")
record(transpose, _permutation, "numpy.transpose")
record(swapaxes, _two_axes(("axis1", "axis2")), "numpy.swapaxes")
record(moveaxis, _two_axes(("source", "destination")), "numpy.moveaxis")
record(expand_dims, _one_axis, "numpy.expand_dims")
record(squeeze, unary(), "numpy.squeeze")
record(broadcast_to, _wider, "numpy.broadcast_to")
record(concatenate, _joined, "numpy.concatenate")
record(stack, _joined, "numpy.stack")
record(split, _cut, "numpy.split")
record(unstack, _along_first_or_last, "numpy.unstack")
record(pad, _padding, "numpy.pad")
record(flip, _with("axis", (0,)), "numpy.flip")
record(roll, _with("shift", (0, 1, -2, 5)), "numpy.roll")
record(repeat, _with("repeats", (0, 1, 3)), "numpy.repeat")
record(tile, lambda draw: ((draw.array(draw.shape()),), {"reps": draw.choice((2, (2, 1), (1, 2, 2)))}), "numpy.tile")
