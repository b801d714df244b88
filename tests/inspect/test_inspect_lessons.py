"""The lessons: short, run as they are printed, and never at odds with what they say."""

from __future__ import annotations

import doctest
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from minimeta import cli
from minimeta.inspect import lessons

FOLDER = Path(lessons.__file__).parent
ROOT = FOLDER.parents[2]
NUMBERS = range(1, 8)


def examples(number: int) -> list[doctest.Example]:
    return doctest.DocTestParser().get_examples(lessons.lesson(number))


def words(text: str) -> str:
    return " ".join(text.split())


def test_there_are_seven_in_the_order_of_their_files():
    assert [path.stem for path in sorted(FOLDER.glob("lesson*.py"))] == list(lessons.LESSONS)
    assert [lessons.lesson(n).partition(".")[0] for n in NUMBERS] == [f"Lesson {n}" for n in NUMBERS]
    assert len(lessons.LESSONS) == len(NUMBERS)


@pytest.mark.parametrize("name", lessons.LESSONS)
def test_each_fits_on_a_page(name):
    """Under 80 lines, 88 characters wide."""
    lines = (FOLDER / f"{name}.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) < 80
    assert max(map(len, lines)) <= 88


@pytest.mark.parametrize("number", NUMBERS)
def test_each_says_what_to_look_for_what_to_try_and_where_it_happens(number):
    text = lessons.lesson(number)
    assert "look for" in words(text.partition(">>>")[0]).lower()
    assert "\nTo try: " in text
    places = re.findall(r"minimeta/\w[\w/]*\.py", text.rpartition("\nTo try: ")[2])
    assert places
    assert all((ROOT / place).is_file() for place in places)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_lesson_prints_what_it_says(number, capsys):
    """Word for word; an ellipsis stands for whatever this machine gives."""
    assert cli.main(["learn", str(number)]) == 0
    said = re.sub(r"(?<=[^\n])\.\.\.", "<any>", lessons.lesson(number))
    pattern = re.escape(words(said)).replace("<any>", ".*?")
    assert re.fullmatch(pattern, words(capsys.readouterr().out))


def test_what_is_printed_is_what_came_out_here(capsys):
    lessons.play("Lesson 0. Spaces:\n\n>>> print('1   2', 3)\n1 ... 3\n\nThe end.\n", {})
    assert capsys.readouterr().out == "Lesson 0. Spaces:\n\n>>> print('1   2', 3)\n1   2 3\n\nThe end.\n"


def planted(number: int, which: int) -> tuple[str, doctest.Example]:
    """The lesson with a line more in what one of its examples is said to give."""
    example = [example for example in examples(number) if example.want][which]
    lines = lessons.lesson(number).splitlines()
    end = example.lineno + (example.source + example.want).count("\n")
    return "\n".join([*lines[:end], "planted", *lines[end:]]), example


@pytest.mark.parametrize("which", [0, -1])
@pytest.mark.parametrize("number", NUMBERS)
def test_a_promise_that_is_not_kept_is_an_error(number, which, capsys, monkeypatch):
    text, example = planted(number, which)
    monkeypatch.setattr(lessons, "lesson", lambda n: text)
    assert cli.main(["learn", str(number)]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"minimeta: error: Lesson {number}. ")
    assert f", line {example.lineno + 1}: {example.source.strip()!r} gives something else" in printed.err
    assert printed.err.count("\n") == 1
    assert example.source.splitlines()[-1] in printed.out
    assert "planted" not in printed.out
    assert "To try" not in printed.out


def test_an_example_that_raises_is_an_error():
    with pytest.raises(RuntimeError, match=r"Lesson 0\. Zero, line 3: '1 / 0' raises ZeroDivisionError: division by"):
        lessons.play("Lesson 0. Zero: by zero\n\n>>> 1 / 0\n1\n", {})


@pytest.mark.parametrize("number", [-1, 0, 8])
def test_a_number_that_is_none_of_theirs_is_refused(number, capsys):
    assert cli.main(["learn", str(number)]) == 2
    assert capsys.readouterr() == ("", f"minimeta: error: lesson {number}: there are lessons 1 to 7\n")


def test_without_a_number_they_are_listed(capsys):
    assert cli.main(["learn"]) == 0
    assert capsys.readouterr().out == (
        "Lesson 1. A derivative by hand and by engine: the chain rule, taken from the end.\n"
        "Lesson 2. Adding an operation: one line computes it, one line is its derivative.\n"
        "Lesson 3. Breaking a rule: how a wrong derivative is caught, and where it is found.\n"
        "Lesson 4. Second derivatives: the walk back is noted too, and walked over again.\n"
        "Lesson 5. Perturbation confusion: one derivative inside another, and how to go wrong.\n"
        "Lesson 6. MAML's gradient taken apart: what second order adds, and FOMAML drops.\n"
        "Lesson 7. Where the memory goes: what rules keep, and what checkpoint buys.\n"
        "\n"
        "Read one: minimeta learn 1\n"
        "Try it:   python -i -m minimeta.inspect.lessons.lesson_1_derivative\n"
    )


def test_a_lesson_is_a_program_that_leaves_its_names_at_the_prompt():
    code = ["-i", "-m", f"minimeta.inspect.lessons.{lessons.LESSONS[0]}"]
    done = subprocess.run(
        [sys.executable, *code], input="print('slope', grad(f)(3.0))\n", capture_output=True, text=True,
        env={"PYTHONPATH": ":".join(filter(None, sys.path)), "PYTHONIOENCODING": "utf-8"}, timeout=60, check=True,
    )  # fmt: skip
    assert words(done.stdout).startswith("Lesson 1. A derivative by hand and by engine")
    assert done.stdout.rstrip().endswith("slope 40.0")  # 3 * 9 + 4 * 3 + 1


@pytest.mark.parametrize("name", lessons.LESSONS)
def test_every_lesson_is_found_as_a_doctest(name):
    module = importlib.import_module(f"minimeta.inspect.lessons.{name}")
    (found,) = [test for test in doctest.DocTestFinder().find(module) if test.examples]
    assert sum(bool(example.want) for example in found.examples) >= 2


def test_pytest_collects_them_by_default():
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", str(FOLDER)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
    for name in lessons.LESSONS:
        assert f"lessons/{name}.py::minimeta.inspect.lessons.{name}\n" in done.stdout
