"""`minimeta inspect` as a user has it: examples, functions of a script, a walk by keys in a real terminal."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from minimeta import cli, grad, inspect
from minimeta.inspect.examples import EXAMPLES
from minimeta.testing import check_grads

SCRIPT = """
import numpy as np
from beside import FACTOR
from minimeta import ops

VALUE = 3

def loss(w=np.ones(2), n=2, *, scale=FACTOR):
    return ops.sum(w ** n) * scale

def needs_more(w, x=1.0):
    return w * x

def needs_nothing():
    return 1.0
"""


@pytest.fixture(name="script")
def _script(tmp_path):
    (tmp_path / "beside.py").write_text("FACTOR = 0.5\n")
    path = tmp_path / "mine.py"
    path.write_text(SCRIPT)
    yield path
    sys.modules.pop("beside", None)


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("order", [1, 2])
def test_examples_are_listed_with_what_they_keep(name, order, capsys):
    assert cli.main(["inspect", name, "--order", str(order)]) == 0
    out = capsys.readouterr().out
    function, args, _ = EXAMPLES[name]
    listing, table = out.split("\n\n")
    assert listing == inspect.program(function, *args, order=order)
    assert table.strip() == str(inspect.memory(function, *args, order=order)).strip()
    assert cli.main(["inspect", name, "--order", str(order), "--text"]) == 0
    assert capsys.readouterr().out == out


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_have_right_gradients(name):
    function, (first, *rest), about = EXAMPLES[name]
    check_grads(lambda x: function(x, *rest), [first], order=2)
    assert function.__doc__
    assert len(about) < 80


def test_the_maml_example_of_order_1_is_first_order_maml():
    function, (weights, support, query), _ = EXAMPLES["maml-sinusoid"]
    second, first = (grad(function)(weights, support, query, order=order) for order in (2, 1))
    assert function(weights, support, query, order=1) == function(weights, support, query)
    assert not np.allclose(first["w1"], second["w1"], rtol=1e-3)
    adapted = weights
    for _ in range(2):
        inner = grad(lambda w: function(w, support, support, inner_steps=0))(adapted)
        adapted = {name: w - 0.1 * inner[name] for name, w in adapted.items()}
    by_hand = grad(lambda w: function(w, support, query, inner_steps=0))(adapted)
    for name, g in first.items():
        np.testing.assert_allclose(g, by_hand[name], rtol=1e-12)


def test_without_a_terminal_all_steps_are_shown(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    assert cli.main(["inspect", "attention", "--step"]) == 0
    out = capsys.readouterr().out
    function, args, _ = EXAMPLES["attention"]
    walk = inspect.steps(function, *args)
    for step in walk:
        assert str(step) in out
    assert f"then {len(walk.path)} steps backward" in out
    assert out.rstrip().endswith("norm 1.128") or "the gradient by query: float64[2, 4]" in out


def test_a_function_of_a_script_is_taken_with_its_defaults(script, capsys):
    assert cli.main(["inspect", f"{script}:loss"]) == 0
    out = capsys.readouterr().out
    assert "w = input  # float64[2]" in out
    assert "power_1 = power(w, 2)" in out
    assert "multiply_1 = multiply(sum_1, 0.5)" in out
    assert str(script.parent) not in sys.path


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("nothing", "nothing: no such example; choose from tanh, perturbation-confusion"),
        ("{}:absent", "no function 'absent'; it has loss, needs_more, needs_nothing"),
        ("{}:VALUE", "no function 'VALUE'"),
        ("{}:needs_more", "argument 'w' has no default; give it the value to look at"),
        ("{}:needs_nothing", "takes no arguments; need one to differentiate by"),
        ("{}x.py:loss", "no such file"),
        ("tanh --order 0", "order=0; need order >= 1"),
        ("maml-sinusoid --first-order", "--first-order goes with --page, and with no --order"),
        ("maml-sinusoid --first-order --page x.html --order 2", "--first-order goes with --page, and with no --order"),
        ("tanh --page {}.absent/x.html", "No such file or directory"),
    ],
)
def test_what_cannot_be_looked_at_is_refused_by_name(what, message, script, capsys):
    assert cli.main(["inspect", *what.format(script).split()]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


def test_without_a_name_the_examples_are_listed(capsys):
    assert cli.main(["inspect"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(EXAMPLES)
    assert all(line.endswith(example.about) for line, example in zip(lines, EXAMPLES.values(), strict=True))


@pytest.mark.parametrize("options", [[], ["--order", "2"], ["--first-order"]])
def test_a_page_is_written_and_named(options, tmp_path, capsys):
    file = tmp_path / "maml.html"
    assert cli.main(["inspect", "maml-sinusoid", "--page", str(file), *options]) == 0
    assert capsys.readouterr().out == f"{file}\n"
    text = file.read_text(encoding="utf-8")
    assert f"<title>maml-sinusoid{', order 2' if '2' in options else ''}</title>" in text
    assert f'"compared":{str("--first-order" in options).lower()}' in text


def _terminal(keys: list[str]) -> str:
    """What a terminal shows of `minimeta inspect tanh --order 3 --step` when these keys are pressed."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "minimeta.cli", "inspect", "tanh", "--order", "3", "--step"]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=Path(cli.__file__).parents[1])
    os.close(theirs)
    shown = b""
    deadline = time.monotonic() + 60
    try:
        while process.poll() is None and time.monotonic() < deadline:
            if select.select([ours], [], [], 0.1)[0]:
                try:
                    shown += os.read(ours, 4096)
                except OSError:  # the other side is closed
                    break
            if shown.rstrip().endswith(b"q: end]") and keys:
                os.write(ours, keys.pop(0).encode())
        assert process.wait(10) == 0
    finally:
        process.kill()
        os.close(ours)
    return shown.decode()


def test_in_a_terminal_each_key_is_a_step():
    shown = _terminal([" "] * 100)
    count = len(inspect.steps(EXAMPLES["tanh"].function, 0.5, order=3).path)
    assert count > 2
    assert all(f"step {k}: " in shown for k in range(1, count + 1))
    assert "the gradient by x: " in shown


def test_q_ends_it():
    shown = _terminal([" ", "q"])
    assert "step 2: " in shown
    assert "step 3: " not in shown
    assert "the gradient" not in shown
