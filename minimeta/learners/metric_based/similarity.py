"""How alike embedded images are: the larger the more, for all pairs of two sets at once."""

from __future__ import annotations

from typing import Any

from minimeta import ops

#: Distances and angles between x [T, Q, D] and y [T, S, D] as similarities [T, Q, S].
SIMILARITIES = {
    "sqeuclidean": lambda x, y: -ops.sqeuclidean(x, y),
    "euclidean": lambda x, y: -ops.euclidean(x, y),
    "l1": lambda x, y: -ops.l1(x, y),
    "cosine": lambda x, y: ops.cosine(x, y),
}


def weighted_l1(params: Any, x: Any, y: Any) -> Any:
    """sum_j alpha_j |x_j - y_j| + b of all pairs: alpha [D, 1] of any sign (Koch et al., 2015): -> [T, Q, S]."""
    apart = ops.abs(ops.expand_dims(x, 2) - ops.expand_dims(y, 1))
    # a matrix product would add up in an order that depends on the pair's place: p(x, y) and p(y, x) shall be the same
    return ops.sum(apart * params["alpha"][:, 0], axis=-1) + params["b"]
