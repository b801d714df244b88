"""Where in the user's code a node was made: the call stack without the engine's own frames, innermost first."""

from __future__ import annotations

import os
import sys
from traceback import FrameSummary

Site = tuple[FrameSummary, ...]

_PACKAGE = os.path.dirname(os.path.dirname(__file__))
_ENGINE = tuple(os.path.join(_PACKAGE, part) for part in ("autodiff", "ops", "inspect"))
_EXAMPLES = tuple(os.path.join(_PACKAGE, "inspect", part) for part in ("examples.py", "lessons"))  # as a user's
_DEPTH = 12  # frames; further out is whatever started the program


def user_site() -> Site:
    """The frames of the present call outside the engine: the user's, or a learner's, line comes first."""
    found: list[FrameSummary] = []
    frame = sys._getframe(1)
    while frame is not None and len(found) < _DEPTH:
        code = frame.f_code
        if not code.co_filename.startswith(_ENGINE) or code.co_filename.startswith(_EXAMPLES):
            found.append(FrameSummary(code.co_filename, frame.f_lineno, code.co_name, lookup_line=False))
        frame = frame.f_back  # type: ignore[assignment]
    return tuple(found)


def place(site: Site | None) -> str:
    """The line itself: file:line: code."""
    if not site:
        return "an unknown place"
    frame = site[0]
    return f"{frame.filename}:{frame.lineno}" + (f": {frame.line}" if frame.line else "")


def stack(site: Site | None) -> str:
    """The lines that led there, each on a line of its own with the function it is in; empty if there are none."""
    return "".join(f"\n  called from {place((frame,))} (in {frame.name})" for frame in (site or ())[1:])
