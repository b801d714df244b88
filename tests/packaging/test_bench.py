"""The benchmarks run from a checkout and write what they measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parents[2] / "bench" / "run.py"


@pytest.mark.skipif(not RUN.exists(), reason="bench/ is not beside these tests")
def test_the_engine_benchmark_runs(tmp_path):
    command = [sys.executable, str(RUN), "engine", "--quick", "--peer", "none", "--json", str(tmp_path / "engine.json")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "engine.json").read_text())
    assert results["microseconds_per_operation"]["second order"].keys() == {"minimeta"}
    assert {"cpu", "cores", "python", "packages", "revision"} <= results["machine"].keys()
    assert "second order" in done.stdout
