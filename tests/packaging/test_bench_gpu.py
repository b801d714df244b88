"""The GPU bench goes through all it does on the processor: what fails is written down, and the rest is measured."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"

pytestmark = pytest.mark.skipif(not BENCH.exists(), reason="bench/ is not beside these tests")
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")

#: What `main` asks a process for first, at once.
KNOWN = "import gpu; gpu._device = lambda run: {'device': {'name': 'None'}, 'limits': {'flop': 1e10, 'bytes': 1e10}}; "


def python(*arguments, **variables):
    """Run in bench/, with this process's modules at hand."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **variables}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=BENCH, env=environment, timeout=600)


def main(path, arguments, change="", **variables):
    """The exit status, the results and the output of gpu.main, of something changed in it."""
    options = [*arguments, "--dry-run", "--quick", "--json", str(path)]
    done = python("-c", f"{KNOWN}{change}\nraise SystemExit(gpu.main({options!r}))", **variables)
    assert path.exists(), done.stderr
    return done.returncode, json.loads(path.read_text()), done.stdout


def test_a_dry_run_goes_through_kernels_and_sanitizer(tmp_path):
    path = tmp_path / "new" / "gpu.json"
    done = python("gpu.py", "sanitizer", "kernels", "--dry-run", "--quick", "--only", "K3a", "K1a", "--json", path)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(path.read_text())
    assert results["dry_run"]
    assert results["device"]["kernels"] in ("shim", "reference")
    assert results["limits"]["flop"] > results["limits"]["bytes"] > 0
    assert {"cpu", "packages", "revision"} <= results["machine"].keys()
    assert list(results["sections"]) == ["sanitizer", "kernels"]
    sanitizer, races = results["sections"].values()
    assert re.search(r"\d+ calls of \d+ kernels by \w+ agree", sanitizer["checks"]["alone"]["output"])
    assert [figures["row"] for figures in races["rows"]] == ["K1a", "K3a"]  # in the order of what they tell
    for figures in races["rows"]:
        assert figures["seconds"]["minimeta"]["median"] > 0
        assert "minimeta, graph" in figures["left_out"]  # a processor has none
        assert set(figures["ratios"]) == ({"eager"} if "torch" in results["machine"]["packages"] else set())
    assert "L1 distances, 32 x 300 x 60 x 64" in done.stdout
    assert [file.name for file in path.parent.iterdir()] == ["gpu.json"]


def test_rows_that_fail_are_written_down_each_by_itself(tmp_path):
    compiler = tmp_path / "g++"
    compiler.write_text("#!/bin/sh\necho broken >&2\nexit 1\n")
    compiler.chmod(0o755)
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    status, results, _ = main(
        tmp_path / "gpu.json", ["kernels", "--only", "K1a", "K3a"], PATH=path, MINIMETA_CACHE=str(tmp_path / "cache")
    )
    assert status == 1
    assert results["sections"]["kernels"]["outcome"] == "failed"
    assert results["sections"]["kernels"]["failures"] == dict.fromkeys(("K1a", "K3a"), "RuntimeError: g++: broken")


def test_a_section_that_fails_leaves_the_others_alone(tmp_path):
    change = "gpu.SECTIONS['sanitizer'] = lambda run, found: 1 / 0; gpu.SECTIONS['kernels'] = "
    change += "lambda run, found: found.update(outcome='passed')"
    status, results, output = main(tmp_path / "gpu.json", ["sanitizer", "kernels"], change)
    assert status == 1
    failed, passed = results["sections"].values()
    assert failed["outcome"] == "failed"
    assert failed["error"] == "ZeroDivisionError: division by zero"
    assert passed["outcome"] == "passed"
    assert "sanitizer: failed" in output


def test_a_row_that_never_ends_is_stopped(tmp_path):
    status, results, _ = main(tmp_path / "gpu.json", ["kernels", "--only", "K1a"], "gpu.ROW_SECONDS = 0.1")
    assert status == 1
    assert results["sections"]["kernels"]["failures"] == {"K1a": "not done after 0 seconds"}


def test_what_there_was_no_time_for_is_written_down(tmp_path):
    status, results, _ = main(tmp_path / "gpu.json", ["kernels", "learners", "--minutes", "0", "--only", "K1a", "M1"])
    assert status == 1
    failures = [section["failures"] for section in results["sections"].values()]
    assert failures == [{"K1a": "out of time"}, {"M1": "out of time"}]


def test_a_crash_costs_one_row(tmp_path):
    """The process that measures dies at once: a fault of the GPU may do that."""
    change = "start = gpu._start; crash = [gpu.sys.executable, '-c', 'exit(3)']; "
    change += "gpu._start = lambda command, stderr: start(crash, stderr)"
    status, results, _ = main(tmp_path / "gpu.json", ["kernels", "--only", "K1a", "K3a"], change)
    assert status == 1
    reason = "its process ended with status 3"
    assert results["sections"]["kernels"]["failures"] == {"K1a": reason, "K3a": reason}


def test_tests_are_counted_and_failures_named(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_some.py").write_text(
        "import pytest\n"
        "@pytest.mark.gpu\ndef test_good(): pass\n"
        "@pytest.mark.gpu\ndef test_bad(): assert 1 == 2\n"
        "@pytest.mark.gpu\ndef test_absent(): pytest.skip('no GPU')\n"
        "def test_other(): assert False\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = gpu\n")
    status, results, _ = main(tmp_path / "gpu.json", ["tests"], f"gpu.ROOT = {str(tmp_path)!r}")
    assert status == 1
    found = results["sections"]["tests"]
    assert (found["outcome"], found["passed"], found["skipped"], found["failed"]) == ("failed", 1, 1, 1)
    assert list(found["failures"]) == ["tests.test_some.test_bad"]
    assert "assert 1 == 2" in found["failures"]["tests.test_some.test_bad"]


def test_the_sanitizer_is_found_in_a_toolkit(tmp_path):
    code = "import gpu; print(gpu._find_sanitizer())"
    assert python("-c", code, PATH="", CUDA_HOME=str(tmp_path)).stdout != f"{tmp_path}/bin/compute-sanitizer\n"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "compute-sanitizer").touch(mode=0o755)
    assert python("-c", code, PATH="", CUDA_HOME=str(tmp_path)).stdout == f"{tmp_path}/bin/compute-sanitizer\n"


def test_unknown_names_are_refused():
    for arguments, message in ((["cuda"], "no section 'cuda'"), (["--only", "K99"], "no row 'K99'")):
        done = python("gpu.py", "--dry-run", *arguments)
        assert done.returncode == 1
        assert message in done.stderr


@needs_torch
def test_without_a_gpu_only_a_dry_run_starts():
    if python("-c", "from minimeta import backend; backend.module('cupy')").returncode == 0:
        pytest.skip("there is a GPU")
    done = python("gpu.py", "kernels", "--only", "K1a")
    assert done.returncode == 1
    assert "no GPU to measure on" in done.stderr


@needs_torch
def test_peers_stay_on_the_device_where_they_were_made():
    """PyTorch's "meta" has shapes alone: what is made elsewhere in a run does not go together with it."""
    code = """
import gpu_rows, torch
for case in (case for cases in gpu_rows.CASES.values() for case in cases):
    with torch.device("meta"):
        peers = case.tiny.torch()
    for name, peer in peers.items():
        assert all(tensor.is_meta for tensor in peer.run()), (case.row.name, name)
"""
    done = python("-c", code)
    assert done.returncode == 0, done.stderr


@needs_torch
def test_reset_puts_weights_and_adam_back():
    code = """
import numpy as np, gpu_rows
for name in ("P1", "R1"):
    (case,) = (case for case in gpu_rows.CASES["learners"] if case.row.name == name)
    for peer in case.tiny.torch().values():
        first, second = ([array.copy() for array in peer.arrays(peer.run())] for _ in range(2))
        assert not np.allclose(first[1], second[1], rtol=1e-6)
        peer.reset()
        np.testing.assert_allclose(peer.arrays(peer.run())[1], first[1], rtol=1e-4, atol=1e-7)
"""
    done = python("-c", code)
    assert done.returncode == 0, done.stderr


def test_copies_take_turns_and_keep_their_results():
    code = """
import gpu_rows
from gpu_device import Processor
from workloads.candidate import Candidate
from workloads.pairwise import L1
turns = []
around = gpu_rows._around([Candidate(lambda i=i: turns.append(i) or object()) for i in range(3)])
kept = [id(around.run()) for _ in range(3)]
assert turns == [0, 1, 2] and len(set(kept)) == 3
around.run()
assert turns == [0, 1, 2, 0]
device = Processor([])
device.cache_bytes = 1000
small = L1((1, 2, 3, 5))  # of 124 bytes
assert gpu_rows._copies(small, device) == 17, gpu_rows._copies(small, device)
assert gpu_rows._copies(L1((1, 100, 100, 5)), device) == 1
"""
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
