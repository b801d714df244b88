"""The matrix product, which everything multiplies by: closed under differentiation, so one kernel serves all orders."""

from __future__ import annotations

import math
from typing import Any

import minimeta_kernels
from minimeta.autodiff.op import op
from minimeta.ops.shape import reshape


@op(saves="none")
def matrix_transpose(xp: Any, x: Any) -> Any:
    """x with its last two axes exchanged."""
    return x.mT if hasattr(x, "mT") else xp.swapaxes(x, -1, -2)


@matrix_transpose.vjp(0)
def _(g: Any, y: Any, x: Any) -> Any:
    return matrix_transpose(g)


@op(broadcasts=True)
def matmul(xp: Any, a: Any, b: Any) -> Any:
    """The matrix product a @ b of [..., n, k] and [..., k, m]; batch axes broadcast, a vector [k] fits on either side.

    Raises ValueError where the inner sizes differ.

    >>> matmul(np.ones((2, 3)), np.ones((3, 4))).shape, matmul(np.ones((5, 2, 3)), np.ones(3)).shape
    ((2, 4), (5, 2))
    """
    if not (a.ndim and b.ndim):
        raise ValueError("both sides need an axis to sum over; multiply by a scalar with *")
    if a.shape[-1] != b.shape[-2:][0]:
        raise ValueError(f"inner sizes differ: need a.shape[-1] == b.shape[{-2 if b.ndim > 1 else 0}]")
    if b.ndim == 2 and a.ndim > 2:  # one matrix for all: a single large product instead of many small ones
        return xp.reshape(minimeta_kernels.call("matmul", _rows(xp, a), b), (*a.shape[:-1], b.shape[1]))
    if a.ndim == 1 or b.ndim == 1:
        return xp.matmul(a, b)
    return minimeta_kernels.call("matmul", a, b)


def _rows(xp: Any, a: Any) -> Any:
    return xp.reshape(a, (math.prod(a.shape[:-1]), a.shape[-1]))


@matmul.vjp(0)
def _(g: Any, y: Any, a: Any, b: Any) -> Any:
    if b.ndim == 1:
        return g[..., None] * b
    if a.ndim == 1:
        return matmul(b, g[..., None])[..., 0]
    return matmul(g, matrix_transpose(b))


@matmul.vjp(1)
def _(g: Any, y: Any, a: Any, b: Any) -> Any:
    if b.ndim <= 2:  # summed over the batch by the product itself
        count = math.prod(a.shape[:-1])
        return matmul(matrix_transpose(reshape(a, (count, a.shape[-1]))), reshape(g, (count, *b.shape[1:])))
    if a.ndim == 1:
        return a[:, None] * g[..., None, :]
    return matmul(matrix_transpose(a), g)
