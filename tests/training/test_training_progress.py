"""The progress display on a terminal, in a file, and without tqdm."""

import io
import sys

import pytest

from minimeta import progress
from minimeta.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream)
    with Progress(4, "steps", initial=1) as display:
        for step in (2, 3, 4, 5):
            display.show(step, loss="0.31")
        display.note("step 4: validated")
    return stream.getvalue()


def test_a_terminal_gets_a_bar(monkeypatch):
    pytest.importorskip("tqdm")
    text = shown(monkeypatch, Terminal())
    assert "4/4 steps" in text
    assert "loss=0.31" in text
    assert "step 4: validated\n" in text


def test_a_file_gets_lines_now_and_then(monkeypatch):
    assert shown(monkeypatch, io.StringIO()) == "step 4: validated\n"
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0)
    assert shown(monkeypatch, io.StringIO()).splitlines()[0] == "2/4 steps  loss 0.31"


def test_a_terminal_without_tqdm_gets_lines(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0)
    assert "2/4 steps  loss 0.31\n" in shown(monkeypatch, Terminal())
