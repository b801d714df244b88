"""The benchmarks run from a checkout and write what they measured."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from minimeta.recipes import RECIPES

BENCH = Path(__file__).parents[2] / "bench"

pytestmark = pytest.mark.skipif(not BENCH.exists(), reason="bench/ is not beside these tests")


def bench(script, *arguments):
    """What a script of bench/ did."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, str(BENCH / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


def measure(path, *arguments):
    """The results of a quick run without peers, and what it printed."""
    done = bench("run.py", *arguments, "--quick", "--peer", "none", "--json", path)
    assert done.returncode == 0, done.stderr
    return json.loads(path.read_text()), done


def test_the_engine_benchmark_runs(tmp_path):
    results, done = measure(tmp_path / "engine.json", "engine")
    assert results["microseconds_per_operation"]["second order"].keys() == {"minimeta"}
    assert {"cpu", "cores", "python", "packages", "revision"} <= results["machine"].keys()
    assert "second order" in done.stdout


@pytest.fixture(scope="module")
def two_rows(tmp_path_factory):
    """The results of one row of the kernels and one of the learners, the file they are in, and the run."""
    path = tmp_path_factory.mktemp("bench") / "two_rows.json"
    return *measure(path, "kernels", "learners", "--only", "K3a", "S1a"), path


def test_kernels_and_learners_share_a_table(two_rows):
    results, done, _ = two_rows
    assert [figures["row"] for figures in results["rows"]] == ["K3a", "S1a"]
    for figures in results["rows"]:
        assert figures["seconds"]["minimeta"]["median"] > 0
        assert figures["fastest_peer"] is None
        assert figures["share_of_limit"] > 0
    assert results["limits"]["flop"] > results["limits"]["bytes"] > 0
    assert "cosine attention, forward" in done.stdout
    assert "S1a: MAML on sinusoids" in done.stderr


def test_results_disagree_but_for_zeros():
    code = (
        "import numpy as np, race; a = np.ones(4); z = 0 * a; "
        "print(*(race.difference(*pair) for pair in ((a, a), (a, 2 * a), (z, z), (z, a), (a, a[:2]), (a, a * np.nan))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=BENCH, timeout=120)
    assert done.stdout.split() == ["0.0", "1.0", "0.0", "inf", "inf", "nan"], done.stderr


def test_compare_flags_what_moved_beyond_noise(two_rows, tmp_path):
    results, _, old = two_rows
    for figures, factor in zip(results["rows"], (1.0, 0.1), strict=True):
        times = figures["seconds"]["minimeta"]
        times.update({name: value * factor for name, value in times.items()})
    new = tmp_path / "new.json"
    new.write_text(json.dumps(results))
    done = bench("compare.py", old, new)
    assert done.returncode == 0, done.stderr
    steady, changed = done.stdout.splitlines()[-2:]
    assert steady.startswith("K3a")
    assert changed.startswith("S1a")
    assert changed.endswith("10.00  faster")
    assert "faster" not in steady


def test_an_unknown_row_is_named():
    done = bench("run.py", "learners", "--only", "K1")
    assert done.returncode != 0
    assert "no row 'K1'" in done.stderr


def test_the_accuracy_of_a_recipe_is_measured_and_kept(tmp_path):
    done = bench("accuracy.py", "prototypical/glyphs", "--quick", "--runs", tmp_path / "runs", "--results", tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^\| prototypical/glyphs \| 2 steps, .* \| running \| \d", done.stdout, re.MULTILINE)) == 2
    kept = tmp_path / "prototypical-glyphs"
    files = {"config.json", "results.json", "curve.png", "model.safetensors", "tests.json"}
    assert {file.name for file in kept.iterdir()} == files
    tests = json.loads((kept / "tests.json").read_text())
    assert [(test["way"], test["episodes"]) for test in tests] == [(5, 5), (20, 5)]


def test_the_time_of_a_classifier_is_measured():
    done = bench("classifier.py")
    assert done.returncode == 0, done.stderr
    assert re.match(r"fit 5 images, predict 75: \d+\.\d ms \(quartiles", done.stdout)


ENDS = {
    "mse": {"1 step": "1", "5 steps": "5", "10 steps": "10"},
    "accuracy": {"1st": "1", "2nd": "2", "5th": "5", "10th": "10"},
}


def figures(entry, tests):
    """What `ours` is to be, from the records of its recipe's tests."""
    recipe = entry.recipe
    mode = getattr(recipe.make_learner(), "batch_norm", None)
    found = {}
    for test in tests:
        if "bit_error" in test:
            found[str(test["shot"])] = rounded(test["bit_error"], test["ci95"])
        elif "mse_by_step" in test:
            found |= columns(test, "mse", "step")
        elif "accuracy_by_presentation" in test:
            found |= columns(test, "accuracy", "presentation", 100)
        elif test["bn_mode"] == mode and (mode != "batch" or test["query"] == recipe.test_query):
            found[f"{test['way']}w{test['shot']}s"] = rounded(test["accuracy"], test["ci95"], 100)
    return found


def columns(test, metric, by, unit=1):
    """The figures that are published of those by step or presentation."""
    means, intervals = test[f"{metric}_by_{by}"], test[f"ci95_by_{by}"]
    return {name: rounded(means[end], intervals[end], unit) for name, end in ENDS[metric].items()}


def rounded(mean, interval, unit=1):
    return round(unit * mean, 2), round(unit * interval, 2)


def test_published_accuracies_are_those_of_the_results():
    for name, entry in RECIPES.items():
        file = BENCH / "results" / name.replace("/", "-") / "tests.json"
        tests = json.loads(file.read_text()) if file.exists() else []
        assert entry.ours == figures(entry, tests), name
