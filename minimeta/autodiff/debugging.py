"""Debug mode: where each node was made, NaN and Inf caught at the operation or rule that makes them, arrays frozen."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from minimeta import backend

if TYPE_CHECKING:
    from minimeta.autodiff.node import Node

#: True inside `debug()`; the dispatchers of op.py and the walk of backward.py look here and nowhere else.
active = False

_ENGINE = tuple(os.path.join(os.path.dirname(os.path.dirname(__file__)), part) for part in ("autodiff", "ops"))


@contextmanager
def debug() -> Iterator[None]:
    """Inside this context every operation and every derivative rule is checked, and its array made read-only.

    Raises FloatingPointError naming the operation, the place in the user's file and what went wrong.
    Slow; for finding faults, for one thread at a time.

    >>> import minimeta, numpy as np
    >>> with minimeta.debug():
    ...     float(minimeta.grad(lambda x: x * x)(3.0))
    6.0
    """
    global active
    before, active = active, True
    try:
        yield
    finally:
        active = before


def check_forward(name: str, node: Node | None, out: Any) -> None:
    """Note the creation site on `node`, refuse NaN and Inf, and freeze the array."""
    site = _site()
    if node is not None:
        node.site = site
    check_finite(f"minimeta.{name}: the result", out, site)
    if isinstance(out, np.ndarray):
        out.flags.writeable = False


def check_finite(what: str, value: Any, site: str | None) -> None:
    """Refuse NaN and Inf in a result or in what a derivative rule returned."""
    array = getattr(value, "data", value) if hasattr(value, "node") else value
    xp = backend.namespace(array)
    finite = xp.isfinite(array)
    bad = int((~finite).sum()) if hasattr(finite, "sum") else 0
    if bad:
        kind = "NaN" if bool(xp.isnan(array).any()) else "Inf"
        place = site or "an unknown place"
        raise FloatingPointError(f"{what} has {kind} ({bad} of {array.size} entries); made at {place}")


def _site() -> str:
    """The innermost frame outside the engine: the user's (or a learner's) line."""
    for frame in reversed(traceback.extract_stack()):
        if not frame.filename.startswith(_ENGINE):
            return f"{frame.filename}:{frame.lineno}: {frame.line}"
    return "an unknown place"
