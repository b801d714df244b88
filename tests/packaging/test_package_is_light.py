"""`import minimeta` loads NumPy and nothing heavy; the engine is read in one sitting; data never becomes code."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import minimeta

PACKAGE = Path(minimeta.__file__).parent
HEAVY = ("cupy", "numba", "scipy", "matplotlib", "PIL", "tqdm", "pooch", "hypothesis", "safetensors", "urllib.request")


def loaded_by(statement: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after `statement`."""
    code = f"{statement}\nimport sys, json; print(json.dumps(list(sys.modules)))"
    environment = {"PYTHONPATH": ":".join(filter(None, sys.path)), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    return set(json.loads(done.stdout))


def test_import_minimeta_loads_nothing_heavy():
    loaded = loaded_by("import minimeta")
    assert "minimeta.ops.elementwise" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_the_help_of_the_command_line_loads_nothing_heavy():
    loaded = loaded_by("from minimeta import cli; cli._parser().format_help()")
    assert loaded.isdisjoint(HEAVY)


def test_the_engine_is_read_in_one_sitting():
    """Under 1,250 lines, documentation and blank lines included."""
    files = (PACKAGE / "autodiff").glob("*.py")
    lines = {path.name: len(path.read_text().splitlines()) for path in files}
    assert sum(lines.values()) < 1250, lines


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_nothing_turns_data_into_code(path):
    tree = ast.parse(path.read_text())
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    trusting = [node for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "allow_pickle"]
    assert names.isdisjoint({"eval", "exec", "compile", "__import__"})
    assert modules.isdisjoint({"pickle", "marshal", "shelve", "joblib", "dill"})
    assert [ast.unparse(node) for node in trusting] == ["allow_pickle=False"] * len(trusting)
