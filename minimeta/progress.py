"""Showing how far a long loop is: a tqdm bar on a terminal, a plain line now and then anywhere else."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Self

SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """A context manager on stderr; `show(done, loss="0.31")` brings it up to date.

    >>> with Progress(total=600, unit="episodes") as progress:
    ...     progress.show(600, accuracy="98.1 %")
    """

    def __init__(self, total: float, unit: str, initial: float = 0) -> None:
        self.total = total
        self.unit = unit
        self.printed = time.monotonic()
        self.bar = _bar(total, unit, initial)

    def show(self, done: float, **fields: str) -> None:
        """The work done so far and what is known about it; cheap enough for every step."""
        done = min(done, self.total)
        if self.bar is not None:
            self.bar.set_postfix(fields, refresh=False)
            self.bar.update(done - self.bar.n)
        elif time.monotonic() - self.printed >= SECONDS_BETWEEN_LINES:
            self.printed = time.monotonic()
            described = "".join(f"  {name} {value}" for name, value in fields.items())
            self.note(f"{done:.0f}/{self.total:.0f} {self.unit}{described}")

    def note(self, text: str) -> None:
        """A line that stays."""
        if self.bar is not None:
            self.bar.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.close()


def _bar(total: float, unit: str, initial: float) -> Any:
    if not sys.stderr.isatty():
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    shape = "{percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} {unit} [{elapsed}<{remaining}{postfix}]"
    return tqdm(total=total, initial=initial, unit=unit, bar_format=shape, file=sys.stderr)
