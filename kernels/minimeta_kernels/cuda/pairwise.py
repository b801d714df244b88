"""Distances on a GPU; kernels in pairwise.cu. Of `Dual` arrays every function here gives the derivative too."""

from __future__ import annotations

from typing import Any

import numpy as np

from minimeta_kernels.cuda.entries import differentiable
from minimeta_kernels.cuda.source import Dual, Source, shape

_DEPTH = 32
_SMALL, _LARGE = (16, 32, 4, 1), (64, 64, 8, 4)  # tiles: rows and columns, and how many of each a thread makes
_PAIRS = ("Squared", "Euclidean", "Absolute", "Product")
_PULLED = (16, 4)

_distances = "distances<{{S}}, {pair}, {tile}>".format
_pulls = "pulls<{{S}}, {pair}, {tile}>".format


def _listed(sizes: tuple[int, ...]) -> str:
    return ", ".join(map(str, sizes))


_SOURCE = Source(
    "pairwise",
    [
        *(_distances(pair=p, tile=_listed(_SMALL)) for p in _PAIRS),
        *(_distances(pair=p, tile=_listed(_LARGE)).replace("{S}", s) for p in _PAIRS for s in ("float", "Dual<float>")),
        *(_pulls(pair=p, tile=_listed(_PULLED)) for p in ("Squared", "Absolute", "Product")),
        "units<{S}>", "projections<{S}>", "halved<{S}>",
    ],
)  # fmt: skip


def distances(pair: str, x: Any, y: Any) -> Any:
    """x [B, Q, D], y [B, S, D] -> [B, Q, S]."""
    (batch, queries, dims), rows = shape(x), shape(y)[1]
    array = x.value if isinstance(x, Dual) else x
    large = min(queries, rows, dims) >= 64 and array.dtype == np.float32  # of float64 a thread could not hold as many
    height, width, r, c = tile = _LARGE if large else _SMALL
    return _SOURCE.run(
        _distances(pair=pair, tile=_listed(tile)), (-(-rows // width), -(-queries // height), batch),
        height // r * width // c, [x, y], [(batch, queries, rows)],
        list(map(np.int32, (queries, rows, dims))), (height + width) * (_DEPTH + 1),
    )[0]  # fmt: skip


def pulls(pair: str, g: Any, x: Any, y: Any, turned: bool = False) -> Any:
    """The gradient [B, Q, D] in x of distances whose cotangent is g [B, Q, S], or turned [B, S, Q]."""
    (batch, queries, dims), rows = shape(x), shape(y)[1]
    height, r = _PULLED
    return _SOURCE.run(
        _pulls(pair=pair, tile=_listed(_PULLED)), (-(-dims // 32), -(-queries // height), batch),
        height // r * 32, [g, x, y], [(batch, queries, dims)],
        [*map(np.int32, (queries, rows, dims)), np.bool_(turned)], (height + _DEPTH) * (_DEPTH + 1),
    )[0]  # fmt: skip


def both_pulls(pair: str, g: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """The gradients in x and in y."""
    return pulls(pair, g, x, y), pulls(pair, g, y, x, turned=True)


def units(x: Any, eps: float) -> tuple[Any, Any]:
    """The rows [..., D] at unit length, and their lengths [...]: sqrt(|x|^2 + eps^2)."""
    *lead, dims = shape(x)
    count = int(np.prod(lead))
    found = _SOURCE.run(
        "units<{S}>", (-(-count // 4),), 128, [x], [shape(x), tuple(lead)],
        [np.int64(count), np.int32(dims), float(eps)],
    )  # fmt: skip
    return found[0], found[1]


def project(unit: tuple[Any, Any], w: Any) -> Any:
    """The gradient w through `units`."""
    *lead, dims = shape(w)
    count = int(np.prod(lead))
    grid, scalars = (-(-count // 4),), [np.int64(count), np.int32(dims)]
    return _SOURCE.run("projections<{S}>", grid, 128, [w, *unit], [shape(w)], scalars)[0]


def _halved(g: Any, d: Any) -> Any:
    count = int(np.prod(shape(d)))
    return _SOURCE.run("halved<{S}>", (-(-count // 128),), 128, [g, d], [shape(d)], [np.int64(count)])[0]


def _euclidean_vjp(g: Any, x: Any, y: Any) -> tuple[Any, Any]:
    return both_pulls("Squared", _halved(g, distances("Euclidean", x, y)), x, y)


def _cosine(x: Any, y: Any, eps: float = 1e-8) -> Any:
    return distances("Product", units(x, eps)[0], units(y, eps)[0])


def _cosine_vjp(g: Any, x: Any, y: Any, eps: float = 1e-8) -> tuple[Any, Any]:
    unit_x, unit_y = units(x, eps), units(y, eps)
    to_x, to_y = both_pulls("Product", g, unit_x[0], unit_y[0])
    return project(unit_x, to_x), project(unit_y, to_y)


for _name, _pair in (("sqeuclidean", "Squared"), ("l1", "Absolute")):
    differentiable(
        _name, lambda x, y, p=_pair: distances(p, x, y), lambda g, x, y, p=_pair: both_pulls(p, g, x, y)
    )
differentiable("euclidean", lambda x, y: distances("Euclidean", x, y), _euclidean_vjp)
differentiable("cosine", _cosine, _cosine_vjp)
