"""How many threads the matrix products of a run may use."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext

VARIABLE = "MINIMETA_NUM_THREADS"


def limited() -> AbstractContextManager[object]:
    """A context in which BLAS uses $MINIMETA_NUM_THREADS threads, one by default.

    The matrices of few-shot learning are small: a second BLAS thread saves a tenth of the time on a quiet machine, and
    on a busy one, where the threads spin until the other has had its turn, costs ten times as much. Without
    threadpoolctl (in the extra "train") BLAS keeps its own setting. Raises ValueError for a value that is no count.

    >>> with limited():
    ...     pass
    """
    text = os.environ.get(VARIABLE, "1")
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{VARIABLE}={text!r}; need a whole number of threads, 1 or more")
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return nullcontext()
    return threadpool_limits(int(text), user_api="blas")  # type: ignore[no-any-return]
