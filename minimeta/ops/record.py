"""OpRecord: what an operation's tests need to know, kept beside the operation. Every generic test is made from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol


class Draw(Protocol):
    """Where a record gets its random arguments from; `minimeta.testing` implements it with Hypothesis."""

    def integer(self, low: int, high: int) -> int:
        """An integer in [low, high]."""
        ...

    def choice(self, options: Any) -> Any:
        """One of a sequence."""
        ...

    def shape(self, min_dims: int = 0, max_dims: int = 3, min_side: int = 0, max_side: int = 3) -> tuple[int, ...]:
        """An array shape, 0-d and empty ones included unless excluded."""
        ...

    def broadcastable(self, count: int) -> list[tuple[int, ...]]:
        """Shapes that broadcast against each other."""
        ...

    def axes(self, ndim: int) -> Any:
        """A reduction axis: None, an axis (negative ones too) or a tuple of axes."""
        ...

    def array(self, shape: tuple[int, ...], low: float = -2.0, high: float = 2.0, avoid: tuple[float, ...] = ()) -> Any:
        """A float64 array with values in [low, high], distinct, at least 0.05 away from every point of `avoid`."""
        ...


@dataclass(frozen=True)
class OpRecord:
    """Argument generator, reference and conventions of one operation.

    `cases(draw)` returns (args, options). `reference` is a function of the same arguments, or its dotted name, imported
    when tests run. `orders` is the highest derivative order to test. `conventions` lists (args, gradient of the summed
    result by the first argument) at points where the derivative is a matter of convention.
    """

    op: Callable[..., Any]
    cases: Callable[[Draw], tuple[tuple[Any, ...], dict[str, Any]]]
    reference: Callable[..., Any] | str
    orders: int = 3
    conventions: tuple[tuple[tuple[Any, ...], Any], ...] = ()


RECORDS: dict[str, OpRecord] = {}


def record(op: Callable[..., Any], cases: Callable[[Draw], Any], reference: Any, **more: Any) -> None:
    """Register the record of `op`."""
    RECORDS[op.__name__] = OpRecord(op, cases, reference, **more)


def unary(low: float = -2.0, high: float = 2.0, avoid: tuple[float, ...] = ()) -> Callable[[Draw], Any]:
    """Cases of one array of any shape."""
    return lambda draw: ((draw.array(draw.shape(), low, high, avoid),), {})


def binary(*ranges: tuple[float, float], avoid: tuple[float, ...] = ()) -> Callable[[Draw], Any]:
    """Cases of two arrays of broadcastable shapes; one (low, high) per argument, (-2, 2) by default."""
    bounds = ranges or ((-2.0, 2.0), (-2.0, 2.0))
    return lambda draw: (
        tuple(draw.array(s, *b, avoid) for s, b in zip(draw.broadcastable(2), bounds, strict=True)),
        {},
    )


def reduction(low: float = -2.0, high: float = 2.0, min_side: int = 1) -> Callable[[Draw], Any]:
    """Cases of one array with `axis` and `keepdims`."""

    def cases(draw: Draw) -> Any:
        shape = draw.shape(min_side=min_side)
        return (draw.array(shape, low, high),), {"axis": draw.axes(len(shape)), "keepdims": draw.choice((False, True))}

    return cases
