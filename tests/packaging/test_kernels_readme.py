"""The code in kernels/README.md: its example becomes a kernel in a copy of the checkout, tested and measured there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import minimeta_kernels

ROOT = Path(__file__).parents[2]
README = ROOT / "kernels/README.md"
PARTS = ("minimeta", "kernels", "tests", "bench")

pytestmark = pytest.mark.skipif(not all((ROOT / part).exists() for part in PARTS), reason="not a checkout")


def blocks() -> list[tuple[Path | None, str]]:
    """Every block of code with the file its first line names."""
    found = []
    for code in re.findall(r"^```(?:python|cpp)\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE):
        place = re.match(r"(?:#|//) (\S+\.(?:py|cu))\n", code)
        found.append((Path(place[1]), code[place.end() :]) if place else (None, code))
    return found


def python(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([".", "kernels", os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy with the example in it."""
    folder = tmp_path_factory.mktemp("checkout")
    for part in PARTS:
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "results"))
    for name in ("pyproject.toml", "conftest.py"):
        shutil.copy(ROOT / name, folder)
    for place, code in blocks():
        if place is not None:
            with (folder / place).open("a") as file:
                file.write(code)
    return folder


def test_the_first_block_runs(tmp_path: Path) -> None:
    [code] = [code for place, code in blocks() if place is None]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "kernels")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert re.search(r"l1: reference +(runs|would run too)", done.stdout)


def test_the_example_passes_its_own_tests(checkout: Path) -> None:
    assert "8 passed" in python(checkout, "-m", "pytest", "-q", "tests/kernels/test_kernels_chebyshev.py")
    code = "import minimeta_kernels; print(minimeta_kernels.table()['chebyshev'])"
    installed = {"numba": find_spec("numba"), "cuda": find_spec("cupy"), "shim": shutil.which("g++"), "reference": True}
    assert python(checkout, "-c", code) == f"{[backend for backend, there in installed.items() if there]}\n"


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
def test_the_example_without_a_barrier_fails(checkout: Path) -> None:
    source = checkout / "kernels/minimeta_kernels/cuda/chebyshev.cu"
    text = source.read_text()
    code = (
        "import numpy as np, minimeta_kernels\n"
        "minimeta_kernels.use('shim')\n"
        "minimeta_kernels.call('chebyshev', np.ones((1, 3, 2)), np.ones((1, 4, 2)))\n"
    )
    python(checkout, "-c", code)
    for kept in (0, 1):
        before, first, between, second, after = re.split(r"(        __syncthreads\(\);\n)", text)
        source.write_text(before + first * kept + between + second * (1 - kept) + after)
        with pytest.raises(AssertionError, match=r"shared memory (read|written) (before|while)"):
            python(checkout, "-c", code.replace("2)", "40)"))
    source.write_text(text)


def test_the_example_is_measured(checkout: Path) -> None:
    if not all(map(find_spec, ("numba", "threadpoolctl"))):
        pytest.skip("the benchmarks need the extra 'train'")
    python(checkout, "bench/run.py", "kernels", "--only", "K9", "--quick", "--peer", "none", "--json", "results.json")
    [row] = json.loads((checkout / "results.json").read_text())["rows"]
    assert row["row"] == "K9"
    assert row["seconds"]["minimeta"]["median"] > 0


def test_every_kernel_is_listed() -> None:
    listed = set(re.findall(r"`(\w+)`", README.read_text().partition("## The kernels")[2].partition("\n## ")[0]))
    kernels = {re.sub(r"_vjp2?$", "", name) for name in minimeta_kernels.table()}
    assert kernels <= listed
