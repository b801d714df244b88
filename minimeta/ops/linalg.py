"""Products of vectors, matrices and their stacks, and what is solved with them. Leading axes are batches.

Everything multiplies by `matmul`, which is closed under differentiation: einsum, tensordot and dot rearrange for it.
"""

from __future__ import annotations

import builtins
import math
import string
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from minimeta.autodiff.op import nondifferentiable, op
from minimeta.autodiff.primitives import broadcast_to
from minimeta.autodiff.tensor import Tensor
from minimeta.ops import reduce
from minimeta.ops.elementwise import abs, multiply, sqrt, square
from minimeta.ops.fused.matmul import matmul, matrix_transpose
from minimeta.ops.record import Draw, record
from minimeta.ops.shape import moveaxis, reshape, transpose

Shape = tuple[int, ...]
Labels = tuple[Hashable, ...]


def dot(a: Any, b: Any) -> Any:
    """The inner product of vectors, the product of matrices; a scalar multiplies.

    With more axes, as in NumPy, the sum is over the last axis of a and the last but one of b.

    >>> float(dot(np.array([1.0, 2.0]), np.array([3.0, 4.0])))
    11.0
    """
    if not (a.ndim and b.ndim):
        return multiply(a, b)
    return matmul(a, b) if b.ndim <= 2 else tensordot(a, b, (-1, -2))


def outer(a: Any, b: Any) -> Any:
    """All products of an element of a and one of b: [a.size, b.size].

    >>> outer(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    array([[3., 4.],
           [6., 8.]])
    """
    return multiply(reshape(a, (-1, 1)), reshape(b, (1, -1)))


def tensordot(a: Any, b: Any, axes: int | Sequence[Any] = 2) -> Any:
    """Sum products over the last `axes` axes of a and the first of b, or over the pairs of two lists `(of_a, of_b)`.

    The result has the remaining axes of a, then those of b. Raises ValueError where two paired lengths differ.

    >>> tensordot(np.ones((2, 3, 4)), np.ones((4, 3, 5)), ([1, 2], [1, 0])).shape
    (2, 5)
    """
    if isinstance(axes, int):
        of_a, of_b = tuple(range(a.ndim - axes, a.ndim)), tuple(range(axes))
    else:
        of_a, of_b = ((x,) if isinstance(x, int) else tuple(x) for x in axes)
    shapes = f"got a.shape={a.shape}, b.shape={b.shape}, axes={axes!r}"
    fits = all(-a.ndim <= i < a.ndim for i in of_a) and all(-b.ndim <= j < b.ndim for j in of_b)
    if len(of_a) != len(of_b) or not fits:
        raise ValueError(f"minimeta.tensordot: axes must pair axes of a with axes of b; {shapes}")
    if any(a.shape[i] != b.shape[j] for i, j in zip(of_a, of_b, strict=True)):
        raise ValueError(f"minimeta.tensordot: paired axes differ in length; {shapes}")
    of_a = tuple(i % a.ndim for i in of_a)
    labels_a = tuple(range(a.ndim))
    labels_b: list[Hashable] = [("b", j) for j in range(b.ndim)]
    for i, j in zip(of_a, of_b, strict=True):
        labels_b[j] = i
    kept = [i for i in labels_a if i not in of_a] + [label for label in labels_b if label not in of_a]
    return _arrange(*_contract((a, labels_a), (b, tuple(labels_b)), frozenset(kept)), tuple(kept))


def einsum(subscripts: str, *operands: Any) -> Any:
    """Einstein summation as NumPy spells it: `einsum("ij,jk->ik", a, b)`; "..." stands for axes that broadcast.

    A label repeated within an operand takes its diagonal; without "->" the labels that occur once form the result, in
    alphabetical order. Operands are multiplied from left to right, by matmul where something is summed.
    Raises ValueError where subscripts and shapes do not fit.

    >>> einsum("ij,jk->ik", np.ones((2, 3)), np.ones((3, 4))).shape, float(einsum("ii", np.eye(3)))
    ((2, 4), 3.0)
    """
    inputs, output = _parse(subscripts, operands)
    sizes: dict[Hashable, int] = {}
    for labels, x in zip(inputs, operands, strict=True):
        for label, n in zip(labels, x.shape, strict=True):
            if sizes.setdefault(label, n) == 1:
                sizes[label] = n
            elif n not in (1, sizes[label]):
                raise _einsum_error(subscripts, operands, f"label {label!r} has lengths {sizes[label]} and {n}")
    terms = [_distinct(_widen(x, labels, sizes), labels) for labels, x in zip(inputs, operands, strict=True)]
    result = terms.pop(0)
    while terms:
        needed = frozenset(output).union(*(labels for _, labels in terms[1:]))
        result = _contract(result, terms.pop(0), needed)
    return _arrange(*result, output)


def _parse(subscripts: str, operands: tuple[Any, ...]) -> tuple[list[Labels], Labels]:
    """The labels of each operand and of the result; "..." becomes the labels -n, ..., -1, aligned at the right."""
    left, arrow, right = subscripts.replace(" ", "").partition("->")
    parts = left.split(",")
    if len(parts) != len(operands):
        raise _einsum_error(subscripts, operands, f"{len(parts)} operands are named, {len(operands)} given")
    inputs = []
    for part, x in zip(parts, operands, strict=True):
        before, dots, after = part.partition("...")
        rest = x.ndim - len(before) - len(after)
        if not set(before + after) <= set(string.ascii_letters) or rest < 0 or (rest and not dots):
            raise _einsum_error(subscripts, operands, f"{part!r} does not fit an array of {x.ndim} axes")
        inputs.append((*before, *range(-rest, 0), *after))
    known = Counter(label for labels in inputs for label in labels)
    batch = tuple(sorted(label for label in known if isinstance(label, int)))
    if not arrow:
        return inputs, (*batch, *sorted(label for label in known if known[label] == 1 and isinstance(label, str)))
    before, dots, after = right.partition("...")
    output = (*before, *(batch if dots else ()), *after)
    if len(set(output)) != len(output) or not set(output) <= set(known):
        raise _einsum_error(subscripts, operands, f"the result {right!r} needs distinct labels that the operands have")
    return inputs, output


def _einsum_error(subscripts: str, operands: tuple[Any, ...], problem: str) -> ValueError:
    shapes = ", ".join(str(x.shape) for x in operands)
    return ValueError(f"minimeta.einsum: {problem}; got {subscripts!r} with shapes {shapes}")


def _widen(x: Any, labels: Labels, sizes: dict[Hashable, int]) -> Any:
    shape = tuple(sizes[label] for label in labels)
    return x if x.shape == shape else broadcast_to(x, shape)


def _distinct(x: Any, labels: Labels) -> tuple[Any, Labels]:
    """Take diagonals until no label occurs twice."""
    for label in [label for label, n in Counter(labels).items() if n > 1]:
        while labels.count(label) > 1:
            first, second = [i for i, other in enumerate(labels) if other == label][:2]
            x = _diagonal(moveaxis(moveaxis(x, second, -1), first, -1))
            labels = (*(other for i, other in enumerate(labels) if i not in (first, second)), label)
    return x, labels


def _contract(left: tuple[Any, Labels], right: tuple[Any, Labels], needed: frozenset[Hashable]) -> tuple[Any, Labels]:
    """Multiply two labelled arrays and sum over every label that is not needed any more."""
    (a, in_a), (b, in_b) = _sum_lone(*left, needed.union(right[1])), _sum_lone(*right, needed.union(left[1]))
    batch = tuple(label for label in in_a if label in in_b and label in needed)
    summed = tuple(label for label in in_a if label in in_b and label not in needed)
    rows = tuple(label for label in in_a if label not in in_b)
    columns = tuple(label for label in in_b if label not in in_a)
    a, b = _arrange(a, in_a, batch + rows + summed), _arrange(b, in_b, batch + summed + columns)
    lead = a.shape[: len(batch)]
    of_rows, of_columns = a.shape[len(batch) : len(batch + rows)], b.shape[len(batch + summed) :]
    inner = math.prod(a.shape[len(batch + rows) :])
    a = _shaped(a, (*lead, math.prod(of_rows), inner))
    b = _shaped(b, (*lead, inner, math.prod(of_columns)))
    product = matmul(a, b) if summed else multiply(a, b)
    return _shaped(product, (*lead, *of_rows, *of_columns)), batch + rows + columns


def _shaped(x: Any, shape: Shape) -> Any:
    return x if x.shape == shape else reshape(x, shape)


def _sum_lone(x: Any, labels: Labels, needed: frozenset[Hashable]) -> tuple[Any, Labels]:
    lone = tuple(i for i, label in enumerate(labels) if label not in needed)
    return (reduce.sum(x, axis=lone), tuple(label for label in labels if label in needed)) if lone else (x, labels)


def _arrange(x: Any, labels: Labels, wanted: Labels) -> Any:
    """x with its axes in the order of `wanted`, summed over all others."""
    x, labels = _sum_lone(x, labels, frozenset(wanted))
    return x if labels == wanted else transpose(x, tuple(labels.index(label) for label in wanted))


def norm(
    x: Any, ord: float | str | None = None, axis: int | Sequence[int] | None = None, keepdims: bool = False
) -> Any:
    """The length of vectors along `axis`; the Frobenius norm over several axes (all of them for None).

    `ord`: 2 (default), 1 or inf for vectors, "fro" for matrices, as in numpy.linalg.norm. At zero the slope is 0, to
    every order. Raises ValueError for another `ord`.

    >>> float(norm(np.array([3.0, 4.0]))), float(norm(np.array([3.0, 4.0]), 1))
    (5.0, 7.0)
    """
    count = x.ndim if axis is None else 1 if isinstance(axis, int) else len(axis)
    axis = axis if axis is None or isinstance(axis, int) else tuple(axis)
    if ord is None or (ord == 2 and count == 1) or (ord == "fro" and count == 2):
        return sqrt(reduce.sum(square(x), axis=axis, keepdims=keepdims))
    if ord == 1 and count == 1:
        return reduce.sum(abs(x), axis=axis, keepdims=keepdims)
    if ord == math.inf and count == 1:
        return reduce.max(abs(x), axis=axis, keepdims=keepdims)
    raise ValueError(
        f"minimeta.norm: ord={ord!r} over {count} axes is not offered; choose 1, 2 or inf over one axis, 'fro' over two"
    )


def trace(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """The sum of the diagonal of the matrices in axes `axis1` and `axis2`.

    >>> float(trace(np.eye(3)))
    3.0
    """
    axis1, axis2 = (axis % x.ndim for axis in (axis1, axis2))
    matrices = moveaxis(moveaxis(x, axis1, -1), axis2 - (axis1 < axis2), -1)
    return reduce.sum(_diagonal(matrices, offset=offset), axis=-1)


def diag(x: Any, k: int = 0) -> Any:
    """The k-th diagonal of a matrix [n, m], or the square matrix with the vector x on its k-th diagonal.

    Raises ValueError for an array of another number of axes.

    >>> diag(np.array([1.0, 2.0])), diag(np.array([[1.0, 2.0], [3.0, 4.0]]))
    (array([[1., 0.],
           [0., 2.]]), array([1., 4.]))
    """
    if x.ndim == 2:
        return _diagonal(x, offset=k)
    if x.ndim == 1:
        n = x.shape[0] + builtins.abs(k)
        return _on_diagonal(x, offset=k, shape=(n, n))
    raise ValueError(f"minimeta.diag: needs a vector or a matrix; got x.shape={x.shape}")


@op(saves="none")
def _diagonal(xp: Any, x: Any, *, offset: int = 0) -> Any:
    """The diagonals of the matrices in the last two axes."""
    return xp.diagonal(x, offset, -2, -1) if hasattr(xp, "diagonal") else xp.linalg.diagonal(x, offset=offset)


@_diagonal.vjp(0)
def _(g: Any, y: Any, x: Any, offset: int = 0) -> Any:
    return _on_diagonal(g, offset=offset, shape=x.shape)


@op(saves="none")
def _on_diagonal(xp: Any, x: Any, *, offset: int, shape: Shape) -> Any:
    """Zeros of `shape` with the vectors x on the diagonals of the last two axes."""
    *lead, rows, columns = shape
    out = xp.zeros((*lead, rows * columns), dtype=x.dtype)
    start = offset if offset >= 0 else -offset * columns
    stop = min(start + x.shape[-1] * (columns + 1), rows * columns)
    out[..., min(start, stop) : stop : columns + 1] = x
    return xp.reshape(out, shape)


@_on_diagonal.vjp(0)
def _(g: Any, y: Any, x: Any, offset: int, shape: Shape) -> Any:
    return _diagonal(g, offset=offset)


def solve(a: Any, b: Any) -> Any:
    """x with a @ x = b, for square matrices a [..., n, n] and b [..., n, m]; or one vector b [n].

    Batch axes broadcast. Raises ValueError for shapes that do not fit and, on the CPU, for a singular matrix.

    >>> solve(np.array([[2.0, 0.0], [0.0, 4.0]]), np.array([2.0, 2.0]))
    array([1. , 0.5])
    """
    return solve_(a, b[:, None])[..., 0] if b.ndim == 1 else solve_(a, b)


@op(saves="all", broadcasts=True)
def solve_(xp: Any, a: Any, b: Any) -> Any:
    _check_square(a)
    if b.ndim < 2 or b.shape[-2] != a.shape[-1]:
        raise ValueError("b has another number of rows than a; need b.shape[-2] == a.shape[-1]")
    if a.shape[:-2] != b.shape[:-2]:  # CuPy broadcasts no batches
        lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        a, b = (xp.broadcast_to(matrices, (*lead, *matrices.shape[-2:])) for matrices in (a, b))
    return xp.linalg.solve(a, b)


@solve_.vjp()
def _(g: Any, y: Any, a: Any, b: Any) -> Any:
    g_b = solve_(matrix_transpose(a), g)
    return -matmul(g_b, matrix_transpose(y)), g_b


@op(saves="out")
def inv(xp: Any, a: Any) -> Any:
    """The inverses of square matrices a [..., n, n]; prefer `solve` for products with one.

    Raises ValueError if a is not square or, on the CPU, singular.

    >>> inv(np.array([[2.0, 0.0], [0.0, 4.0]]))
    array([[0.5 , 0.  ],
           [0.  , 0.25]])
    """
    _check_square(a)
    return xp.linalg.inv(a)


@inv.vjp(0)
def _(g: Any, y: Any, a: Any) -> Any:
    transposed = matrix_transpose(y)
    return -matmul(matmul(transposed, g), transposed)


@op(saves="out")
def cholesky(xp: Any, a: Any) -> Any:
    """The lower triangular L with L @ L^T = (a + a^T) / 2, for positive definite matrices a [..., n, n].

    For symmetric a that is a itself. Taking the symmetric part makes this a function of all n * n entries, with a
    symmetric gradient. Raises ValueError if a is not square or, on the CPU, not positive definite.

    >>> cholesky(np.array([[4.0, 2.0], [2.0, 5.0]]))
    array([[2., 0.],
           [1., 2.]])
    """
    _check_square(a)
    return xp.linalg.cholesky((a + matrix_transpose(a)) * 0.5)


@cholesky.vjp(0)
def _(g: Any, y: Any, a: Any) -> Any:
    # From dL = L phi(L^-1 dA L^-T), where phi takes the lower triangle and half of the diagonal.
    transposed = matrix_transpose(y)
    inner = matmul(transposed, g) * _phi(y)
    s = solve_(transposed, matrix_transpose(solve_(transposed, matrix_transpose(inner))))
    return (s + matrix_transpose(s)) * 0.5


@nondifferentiable
def _phi(xp: Any, x: Any) -> Any:
    """The mask that takes the lower triangle and half of the diagonal of [..., n, n]."""
    n = x.shape[-1]
    return xp.tril(xp.ones((n, n), dtype=x.dtype)) - xp.eye(n, dtype=x.dtype) * 0.5


def slogdet(a: Any) -> tuple[Any, Any]:
    """(sign, log of the absolute value) of the determinants of a [..., n, n]; sign is a plain array.

    Raises ValueError if a is not square. The logarithm of a singular matrix is -inf and has no derivative.

    >>> sign, logarithm = slogdet(np.array([[0.0, 1.0], [1.0, 0.0]]))
    >>> float(sign), float(logarithm)
    (-1.0, 0.0)
    """
    both = slogdet_(a)
    return (both.data if type(both) is Tensor else both)[0, ...], both[1, ...]


@op()
def slogdet_(xp: Any, a: Any) -> Any:
    """Both results in one array, so that the factorisation is computed once."""
    _check_square(a)
    sign, logarithm = xp.linalg.slogdet(a)
    return xp.stack((xp.asarray(sign), xp.asarray(logarithm)))


@slogdet_.vjp(0)
def _(g: Any, y: Any, a: Any) -> Any:
    return g[1, ..., None, None] * matrix_transpose(inv(a))


def _check_square(a: Any) -> None:
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise ValueError("needs square matrices [..., n, n]")


def _products(draw: Draw) -> Any:
    n, k, m = (draw.integer(0, 3) for _ in range(3))
    first, second = draw.broadcastable(2)
    a, b = draw.choice(
        (((n, k), (k, m)), ((k,), (k,)), ((n, k), (k,)), ((k,), (k, m)), ((2, n, k), (k,)), ((k,), (2, k, m)),
         ((*first, n, k), (*second, k, m)))
    )  # fmt: skip
    return (draw.array(a), draw.array(b)), {}


def _dots(draw: Draw) -> Any:
    n, k, m = (draw.integer(0, 3) for _ in range(3))
    a, b = draw.choice((((k,), (k,)), ((n, k), (k, m)), ((2, n, k), (k,)), ((n, k), (2, k, m)), ((), (n, m))))
    return (draw.array(a), draw.array(b)), {}


def _two_vectors(draw: Draw) -> Any:
    return (draw.array(draw.shape(max_dims=2)), draw.array(draw.shape(max_dims=2))), {}


def _tensordots(draw: Draw) -> Any:
    n, k, m = (draw.integer(0, 3) for _ in range(3))
    a, b, axes = draw.choice(
        (((n, k), (k, m), 1), ((n, k), (n, k), 2), ((n,), (m,), 0), ((2, n, k), (k, m, n), ([1, 2], [-1, 0])),
         ((k, n), (m, k), (0, 1)))
    )  # fmt: skip
    return (draw.array(a), draw.array(b)), {"axes": axes}


_EINSUMS = (
    "ij,jk->ik", "ij,jk", "ij->ji", "ij->", "ij->j", "ii->i", "ii", "iij,j->ij", "i,i->i", "i,j->ij", "bij,bjk->bik",
    "ij,ij->i", "...ij,jk->...ik", "...i,...i", "ij,jk,ki->", "bi,ij,bj->b", "ij,kl->il", "iijj->ij",
)  # fmt: skip


def _einsums(draw: Draw) -> Any:
    subscripts = draw.choice(_EINSUMS)
    sizes = {label: draw.integer(0, 3) for label in "bijkl"}
    batches = iter(draw.broadcastable(2))
    arrays = []
    for part in subscripts.partition("->")[0].split(","):
        batch = next(batches) if "..." in part else ()
        arrays.append(draw.array((*batch[-1:], *(sizes[label] for label in part.replace("...", "")))))
    return (subscripts, *arrays), {}


def _lengths(draw: Draw) -> Any:
    shape = draw.shape(min_dims=1, min_side=1)
    axis = draw.choice((None, 0, -1))
    ord = draw.choice((None, 1, 2, math.inf)) if axis is not None or len(shape) == 1 else None
    options = {"ord": ord, "axis": axis, "keepdims": draw.choice((False, True))}
    return (draw.array(shape, avoid=(0.0,)),), options


def _traced(draw: Draw) -> Any:
    shape = draw.shape(min_dims=2)
    axis1, axis2 = draw.choice(((0, 1), (1, 0), (-1, 0), (-2, -1)))
    return (draw.array(shape),), {"offset": draw.integer(-2, 2), "axis1": axis1, "axis2": axis2}


def _diagonals(draw: Draw) -> Any:
    return (draw.array(draw.shape(min_dims=1, max_dims=2)),), {"k": draw.integer(-2, 2)}


def _regular(draw: Draw, lead: Shape = ()) -> Any:
    """Well-conditioned square matrices: the diagonal dominates."""
    n = draw.integer(1, 3)
    return draw.array((*lead, n, n), -0.3, 0.3) + np.eye(n) * draw.choice((1.5, -2.0))


def _systems(draw: Draw) -> Any:
    first, second = draw.broadcastable(2)
    a = _regular(draw, first[-1:])
    n = a.shape[-1]
    return (a, draw.array(draw.choice(((n,), (n, 2), (*second[-1:], n, 1))))), {}


def _squares(draw: Draw) -> Any:
    return (_regular(draw, draw.shape(max_dims=1)),), {}


def _positive(draw: Draw) -> Any:
    (a,), options = _squares(draw)
    return (np.matmul(a, np.swapaxes(a, -1, -2)),), options


record(matmul, _products, "numpy.matmul")
record(dot, _dots, "numpy.dot")
record(outer, _two_vectors, "numpy.outer")
record(tensordot, _tensordots, "numpy.tensordot")
record(einsum, _einsums, "numpy.einsum")
record(norm, _lengths, "numpy.linalg.norm", conventions=((([0.0, 0.0],), [0.0, 0.0]),))
record(trace, _traced, "numpy.trace")
record(diag, _diagonals, "numpy.diag")
record(solve, _systems, "numpy.linalg.solve")
record(inv, _squares, "numpy.linalg.inv")
record(cholesky, _positive, "numpy.linalg.cholesky")
record(slogdet, _squares, "numpy.linalg.slogdet")
