"""Keys from the terminal, one at a time, without Return."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


def ask(prompt: str) -> str:
    """The key that is pressed after `prompt`, which goes to stderr and is wiped out then; Ctrl-C interrupts as ever.

    Where no terminal is in front there is nobody to ask, and the answer is "".
    """
    if sys.stdin is None or not sys.stdin.isatty():
        return ""
    with _single_keys():
        print(prompt, end="", file=sys.stderr, flush=True)
        try:
            return _key()
        finally:
            print(f"\r{' ' * len(prompt)}\r", end="", file=sys.stderr, flush=True)


@contextmanager
def _single_keys() -> Iterator[None]:
    """Here the terminal hands over each key at once and does not show it; keys pressed before are not lost."""
    if sys.platform == "win32":
        yield
        return
    import termios
    import tty

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal, termios.TCSADRAIN)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _key() -> str:
    if sys.platform == "win32":
        import msvcrt

        return msvcrt.getwch()
    return sys.stdin.read(1)
