"""Seven lessons on automatic differentiation, an hour in all, for readers who know calculus.

The text of each module is its lesson. `minimeta learn 1` prints it with its examples run here and now;
`python -i -m minimeta.inspect.lessons.lesson_1_derivative` does too, and leaves you at a prompt with all it has made.
"""

from __future__ import annotations

import doctest
import importlib
import inspect
import sys
from collections.abc import Callable
from typing import Any

LESSONS = (
    "lesson_1_derivative", "lesson_2_operation", "lesson_3_broken_rule", "lesson_4_second_derivatives",
    "lesson_5_confusion", "lesson_6_maml", "lesson_7_memory",
)  # fmt: skip


def lesson(number: int) -> str:
    """The text of a lesson; raises ValueError if there is none of that number.

    >>> lesson(1).partition(":")[0]
    'Lesson 1. A derivative by hand and by engine'
    """
    if not 1 <= number <= len(LESSONS):
        raise ValueError(f"lesson {number}: there are lessons 1 to {len(LESSONS)}")
    return importlib.import_module(f"{__name__}.{LESSONS[number - 1]}").__doc__ or ""


def play(text: str, names: dict[str, Any]) -> None:
    """Print a lesson. Its examples run among `names`, and what they give is printed in place of what the lesson says.

    Raises RuntimeError at the first example that gives something else than the lesson says.

    >>> play("Lesson 0. A mistake:\\n\\n>>> 1 + 1\\n3\\n", {})
    Traceback (most recent call last):
        ...
    RuntimeError: Lesson 0. A mistake, line 3: '1 + 1' gives something else than the lesson says: '3'
    """
    player = _Player(inspect.cleandoc(text))
    test = doctest.DocTest(player.examples, {}, "lesson", None, None, None)
    test.globs = names  # which DocTest would have copied
    try:
        player.run(test, out=sys.stdout.write, clear_globs=False)
    except doctest.DocTestFailure as failure:
        said = failure.example.want.strip()
        raise RuntimeError(f"{player.place} gives something else than the lesson says: {said!r}") from None
    except doctest.UnexpectedException as failure:
        error = failure.exc_info[1]
        raise RuntimeError(f"{player.place} raises {type(error).__name__}: {error}") from error
    print("\n".join(player.lines[player.shown :]))


class _Player(doctest.DebugRunner):
    """Runs the examples of a lesson and writes its lines on the way."""

    def __init__(self, text: str) -> None:
        super().__init__(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
        self.lines = text.splitlines()
        self.examples = doctest.DocTestParser().get_examples(text)
        self.shown = 0  # lines that are written, or replaced
        self.place = ""

    def report_start(self, out: Callable[[str], Any], test: doctest.DocTest, example: doctest.Example) -> None:
        self.place = f"{self.lines[0].partition(':')[0]}, line {example.lineno + 1}: {example.source.strip()!r}"
        code = example.lineno + example.source.count("\n")
        out("".join(f"{line}\n" for line in self.lines[self.shown : code]))
        self.shown = code + example.want.count("\n")

    def report_success(
        self, out: Callable[[str], Any], test: doctest.DocTest, example: doctest.Example, got: str
    ) -> None:
        out(got)

    def report_failure(
        self, out: Callable[[str], Any], test: doctest.DocTest, example: doctest.Example, got: str
    ) -> None:
        out(got)
        super().report_failure(out, test, example, got)
