"""What labels say about a support set: which example is of which class, means and log-sums by class."""

from __future__ import annotations

from typing import Any

import numpy as np

from minimeta import backend, ops

NEVER = -1e30  # a log-weight below those of the sharpest kernels, yet finite: infinity times 0 is no number


def members(labels: Any, n_way: int, dtype: Any = np.float32) -> Any:
    """1 where example s is of class n, else 0: labels [T, S] -> [T, S, n_way].

    Raises ValueError naming a class that has no example, on the CPU: a GPU would have to be waited for.

    >>> members(np.array([[1, 0, 1]]), 2)[0].T
    array([[0., 1., 0.],
           [1., 0., 1.]], dtype=float32)
    """
    found = ops.one_hot(labels, n_way, dtype=dtype)
    if backend.namespace(labels) is np and (missing := found.sum(axis=1) == 0).any():
        task, label = (int(i[0]) for i in missing.nonzero())
        raise ValueError(f"class {label} of task {task} has no support example")
    return found


def sum_by_class(features: Any, labels: Any, n_way: int) -> Any:
    """Sums over the examples of each class: features [T, S, ...], labels [T, S] -> [T, n_way, ...].

    >>> sum_by_class(np.array([[[1.0], [2.0], [5.0]]]), np.array([[1, 0, 1]]), 2)[0]
    array([[2.],
           [6.]])
    """
    return _sums(features, members(labels, n_way, features.dtype))


def mean_by_class(features: Any, labels: Any, n_way: int) -> Any:
    """Means over the examples of each class: features [T, S, D], labels [T, S] -> [T, n_way, D]."""
    belongs = members(labels, n_way, features.dtype)
    return _sums(features, belongs) / belongs.sum(axis=1)[..., None]


def _sums(features: Any, belongs: Any) -> Any:
    flat = features.reshape(*features.shape[:2], -1)
    tasks, _, n_way = belongs.shape
    return ops.matmul(belongs.swapaxes(1, 2), flat).reshape(tasks, n_way, *features.shape[2:])


def by_class(scores: Any, labels: Any, n_way: int, missing: float) -> Any:
    """Scores of examples in order of class: [T, Q, S], labels [T, S] -> [T, Q, n_way, K], K of the largest class.

    Classes with fewer examples are filled up with `missing`. A product with a 0-1 matrix sorts all queries at once.
    On a GPU, which would have to be waited for to know K, it is as large as it can be, S - n_way + 1.

    >>> by_class(np.array([[[7.0, 8.0, 9.0]]]), np.array([[1, 0, 1]]), 2, missing=-1.0)[0, 0]
    array([[ 8., -1.],
           [ 7.,  9.]])
    """
    belongs = members(labels, n_way, scores.dtype)
    most = int(belongs.sum(axis=1).max()) if backend.namespace(labels) is np else labels.shape[1] - n_way + 1
    nth = (ops.cumsum(belongs, axis=1) * belongs).sum(axis=-1).astype("int64") - 1  # of its class: 0, 1, ...
    # wide integers: places overflow the bytes that labels may be
    place = ops.one_hot(labels.astype("int64") * most + nth, n_way * most, dtype=scores.dtype)  # [T, S, N * K]
    filled = ops.matmul(scores, place) + (1 - place.sum(axis=1, keepdims=True)) * missing
    return filled.reshape(*scores.shape[:2], n_way, most)


def log_sum_by_class(scores: Any, labels: Any, n_way: int) -> Any:
    """log sum exp over the examples of each class: [T, Q, S], labels [T, S] -> [T, Q, n_way].

    Of log-kernels, the log of sum_i k(x, x_i) y_i; a softmax over classes then makes it a distribution, whose
    cross-entropy is exact where a logarithm of the sum itself would have to be clipped.

    >>> log_sum_by_class(np.log([[[0.1, 0.2, 0.3]]]), np.array([[1, 0, 1]]), 2).round(3) == np.log([0.2, 0.4]).round(3)
    array([[[ True,  True]]])
    """
    return ops.logsumexp(by_class(scores, labels, n_way, NEVER), axis=-1)
