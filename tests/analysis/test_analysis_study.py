"""The command `minimeta study taylor`: its table, its JSON and its picture."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from minimeta.cli import main
from minimeta.data.images import read_image

QUICK = ("study", "taylor", "--tasks", "4")


def record(capsys, *args):
    assert main([*args, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("args", [(), ("--data", "glyphs", "--tasks", "8")])
def test_the_three_gradients_are_the_papers_at_the_default_rate(capsys, tmp_path, args):
    found = record(capsys, "study", "taylor", "--out", str(tmp_path), *args)
    expected = {"maml": [1, -2], "fomaml": [1, -1], "reptile": [2, -1]}
    assert found["theory"] == expected
    for name, theory in expected.items():
        np.testing.assert_allclose(found["coefficients"][name], theory, rtol=0.05)
        residuals = np.array(found["residuals"][name])
        np.testing.assert_allclose(residuals[:-1] / residuals[1:], 4, rtol=0.05)
        assert all(0 < half < 0.1 for half in found["ci95"][name])
    data, tasks = (args[1], 8) if args else ("sinusoid", 40)
    options = {"k": 2, "tasks": tasks, "alpha": 0.001, "data": data, "activation": "tanh", "same_batch": False}
    options["backend"] = "numpy"
    assert {name: found[name] for name in options} == options
    assert found["alphas"][:2] == [0.001, 0.0005]


def test_a_study_is_repeatable_and_its_seed_matters(capsys, tmp_path):
    def coefficients(name, seed):
        return record(capsys, *QUICK, "--seed", seed, "--out", str(tmp_path / name))["coefficients"]

    assert coefficients("a", "5") == coefficients("b", "5") != coefficients("c", "6")


def test_the_table_names_what_reptile_sees_on_one_batch(capsys, tmp_path):
    assert main([*QUICK, "--same-batch", "--k", "3", "--out", str(tmp_path)]) == 0
    header, maml, fomaml, reptile = capsys.readouterr().out.splitlines()
    assert header.split()[:5] == ["gradient", "a", "theory", "b", "theory"]
    for line, a, b, second in ((maml, "1", "-6", "AvgGradInner"), (fomaml, "1", "-3", "AvgGradInner"),
                               (reptile, "3", "-3", "½ ∇|g|²")):  # fmt: skip
        cells = line.split()
        assert (cells[4], cells[8]) == (a, b)
        assert second in line


def test_the_picture_is_drawn_and_never_replaced(capsys, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    for folder in ("runs/study-taylor", "runs/study-taylor-2"):
        assert main([*QUICK]) == 0
        assert f"drawn: {Path(folder) / 'taylor.png'}" in capsys.readouterr().err
        assert [file.name for file in Path(folder).iterdir()] == ["taylor.png"]
        image = read_image(Path(folder) / "taylor.png", size=100, channels=3)
        assert image.std() > 0
    assert main([*QUICK, "--out", "runs/study-taylor"]) == 2
    printed = capsys.readouterr()
    assert "taylor.png: there is a picture already; choose another --out" in printed.err
    assert printed.out == ""


def test_without_matplotlib_the_table_is_printed_all_the_same(capsys, tmp_path, monkeypatch):
    for module in [m for m in sys.modules if m.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main([*QUICK, "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 4
    assert "no taylor.png: taylor.png needs matplotlib: pip install 'minimeta[train]'" in printed.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--k", "1"), "k=1: with less than 2 steps"),
        (("--tasks", "1"), "tasks=1: an interval needs at least 2"),
        (("--alpha", "0"), "alpha=0.0: a rate is positive and finite"),
        (("--alpha", "-1"), "alpha=-1.0"),
        (("--data", "mnist"), "unknown data 'mnist'"),
        (("--activation", "step"), "unknown activation 'step'"),
        (("--data", "glyphs", "--k", "20"), "20-shot with 1 queries needs 21 drawings"),
    ],
)
def test_bad_input_is_refused_in_a_line(capsys, tmp_path, args, message):
    assert main(["study", "taylor", "--out", str(tmp_path / "out"), *args]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("minimeta: error: ")
    assert message in printed.err
    assert not (tmp_path / "out").exists()
