"""Scoring each query beside its task's support set, unseen by the other queries: batch norm "support+1".

Batch statistics of the whole support set and one query tell nothing of the other queries (Nichol et al., 2018).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minimeta import ops, tree

IMAGES_AT_ONCE = 512  # bounds memory


def query_by_query(score: Callable[[Any, Any], Any], of_task: Any, xs: Any, xq: Any) -> Any:
    """Scores [T, Q, N] of queries xq [T, Q, *feat], each as a task of its own with the support set xs [T, S, *feat].

    `score(of_task, images)` takes the tree `of_task` and images [T', S + 1, *feat], the last of which is the query, and
    gives scores [T', S + 1, N]. Arrays in `of_task` have a leading task axis; they come with T' tasks too.
    """
    tasks, shots = xs.shape[:2]
    at_once = max(1, IMAGES_AT_ONCE // (tasks * (shots + 1)))
    parts = []
    for first in range(0, xq.shape[1], at_once):
        queries = xq[:, first : first + at_once]
        count = queries.shape[1]
        repeated, support = tree.map(lambda leaf, count=count: ops.repeat(leaf, count, axis=0), (of_task, xs))
        images = ops.concatenate([support, queries.reshape(tasks * count, 1, *xq.shape[2:])], axis=1)
        parts.append(score(repeated, images)[:, -1].reshape(tasks, count, -1))
    return ops.concatenate(parts, axis=1)
