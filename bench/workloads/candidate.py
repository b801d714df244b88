"""What a workload is: the same work, written for minimeta and for its peers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from minimeta import tree


class Candidate(NamedTuple):
    """One way to do the work. `run()` does it; `arrays` turns its result into what all candidates must agree on.

    `reset()` puts back, in place, what runs have changed; None where that is not possible.
    """

    run: Callable[[], Any]
    arrays: Callable[[Any], list[Any]] = tree.leaves
    reset: Callable[[], Any] | None = lambda: None


class Workload(Protocol):
    """`flop` and `bytes` are the least work and the least memory traffic; bytes is 0 where it cannot be what limits."""

    @property
    def flop(self) -> float: ...

    @property
    def bytes(self) -> float: ...

    def minimeta(self, device: str = "numpy") -> Candidate:
        """On "numpy" or "cupy", see `minimeta.backend`."""
        ...

    def torch(self) -> dict[str, Candidate]:
        """As PyTorch's users write it, in every way that may be the fastest; on the device of `with torch.device`."""
        ...
