"""Debug mode: where each node was made, NaN and Inf caught at the operation or rule that makes them, arrays frozen."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np

from minimeta import backend
from minimeta.autodiff.sites import Site, place, stack, user_site
from minimeta.autodiff.watching import Watcher, watched_by

if TYPE_CHECKING:
    from minimeta.autodiff.node import Node


def debug() -> AbstractContextManager[None]:
    """Inside this context every operation and every derivative rule is checked, and its array made read-only.

    Raises FloatingPointError naming the operation, the place in the user's file, how the program came there, and what
    went wrong. Slow; for finding faults, for one thread at a time.

    >>> import minimeta, numpy as np
    >>> with minimeta.debug():
    ...     float(minimeta.grad(lambda x: x * x)(3.0))
    6.0
    """
    return watched_by(_Checker())


class _Checker(Watcher):
    """Refuses NaN and Inf, and freezes arrays."""

    def made(self, name: str, node: Node | None, out: Any) -> None:
        _check_finite(f"minimeta.{name}: the result", out, None if node is None else node.site)
        if isinstance(out, np.ndarray):
            out.flags.writeable = False

    def sent(self, node: Node, i: int, value: Any) -> None:
        array = value.data if hasattr(value, "node") else value
        _check_finite(f"minimeta.{node.op.name}: the gradient of argument {node.op.argument(i)!r}", array, node.site)


def _check_finite(what: str, array: Any, site: Site | None) -> None:
    """Refuse NaN and Inf in a result or in what a derivative rule returned."""
    xp = backend.namespace(array)
    finite = xp.isfinite(array)
    bad = int((~finite).sum()) if hasattr(finite, "sum") else 0
    if bad:
        kind = "NaN" if bool(xp.isnan(array).any()) else "Inf"
        site = site or user_site()
        entries = f"{bad} of {array.size} entries"
        raise FloatingPointError(f"{what} has {kind} ({entries}); made at {place(site)}{stack(site)}")
