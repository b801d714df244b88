"""The numba.cuda kernels give what the reference gives, in Numba's simulator where there is no GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import minimeta_kernels

pytest.importorskip("numba", reason="Numba is not installed")

ROOT = Path(__file__).parents[2]


def test_in_the_simulator() -> None:
    paths = os.pathsep.join([str(ROOT / "kernels"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.kernels.simulated"], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1", "PYTHONPATH": paths}, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    known = [name for name, backends in minimeta_kernels.table().items() if "numba_cuda" in backends]
    assert json.loads(done.stdout) == known


def test_without_a_gpu_or_the_simulator_they_refuse_arrays_of_numpy() -> None:
    arrays = [[0.0]], [[0.0]]
    with minimeta_kernels.use("numba_cuda"):
        assert "numba_cuda refuses: takes arrays of cupy" in minimeta_kernels.explain("l1", *arrays)
