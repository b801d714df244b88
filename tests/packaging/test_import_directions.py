"""Who may import whom: the layers of the package, held by reading every import statement, lazy ones included."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import minimeta

PACKAGE = Path(minimeta.__file__).parent
KERNELS = Path(importlib.util.find_spec("minimeta_kernels").origin).parent

ENGINE = ("minimeta.autodiff", "minimeta.backend", "minimeta.tree")
MODEL = ("minimeta.ops", "minimeta.layers", "minimeta.optim", *ENGINE)
_FOR_ALL = ("learners.base", "learners.coordinates", "learners.query_by_query", "data.episodes", "data.sequences")
LEARNER = (*(f"minimeta.{name}" for name in _FOR_ALL), *MODEL)
METRIC_BASED = (*(f"minimeta.learners.metric_based.{name}" for name in ("base", "labels", "similarity")), *LEARNER)
_SHARED = ("base", "networks", "minibatches")
OPTIMIZATION_BASED = (*(f"minimeta.learners.optimization_based.{name}" for name in _SHARED), *LEARNER)
_PARTS = ("base", "controller", "label_codes", "fast_weights")
MODEL_BASED = (*(f"minimeta.learners.model_based.{name}" for name in _PARTS), *LEARNER)

#: What a module may import of ours; the longest matching name decides. Modules without an entry are the outer shell
#: (training, evaluation, command line, checks): they may import anything but what FORBIDDEN says.
ALLOWED = {
    "minimeta.tree": (),
    "minimeta.backend": ("minimeta.tree",),
    "minimeta.autodiff": ENGINE,
    "minimeta.ops": ("minimeta.ops", *ENGINE),
    "minimeta.ops.fused": ("minimeta.ops", "minimeta_kernels", *ENGINE),
    "minimeta.layers": ("minimeta.ops", *ENGINE),
    "minimeta.optim": ("minimeta.ops", *ENGINE),
    "minimeta.data": ("minimeta.data",),
    "minimeta.learners": LEARNER,
    "minimeta.learners.metric_based": METRIC_BASED,
    "minimeta.learners.metric_based.matching_fce": ("minimeta.learners.metric_based.matching", *METRIC_BASED),
    "minimeta.learners.optimization_based": OPTIMIZATION_BASED,
    "minimeta.learners.model_based": MODEL_BASED,
    "minimeta_kernels": ("minimeta_kernels",),
}

#: The families of learners: found by name at run time, imported by nobody else.
LEARNERS = tuple(f"minimeta.learners.{path.name}" for path in (PACKAGE / "learners").iterdir() if path.is_dir())
FORBIDDEN = ("minimeta.inspect", "minimeta.testing", *LEARNERS)
MAY_IMPORT_FORBIDDEN = ("minimeta.inspect", "minimeta.testing", "minimeta.commands", "minimeta.cli")

#: Third-party packages that a module may import when it is imported itself; everything else waits until it is needed.
EAGER = {"numpy", "safetensors"}


class Import(NamedTuple):
    importer: str
    imported: str
    eager: bool  # runs when the module is imported

    def __str__(self) -> str:
        return f"{self.importer} imports {self.imported}"


def sources() -> dict[str, Path]:
    """Module name -> file, of both packages."""
    found = {}
    for root in (PACKAGE, KERNELS):
        for path in root.rglob("*.py"):
            parts = path.relative_to(root.parent).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


SOURCES = sources()


def imports(module: str, code: str) -> Iterator[Import]:
    """Every import of `code`; `from package import name` counts as package.name where that is a module."""
    tree = ast.parse(code)
    lazy = {
        id(node)
        for scope in ast.walk(tree)
        if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef) or _is_type_checking(scope)
        for node in ast.walk(scope)
    }
    for node in ast.walk(tree):
        eager = id(node) not in lazy
        if isinstance(node, ast.Import):
            yield from (Import(module, alias.name, eager) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield Import(module, name if name in SOURCES else str(node.module), eager)


def _is_type_checking(scope: ast.AST) -> bool:
    return isinstance(scope, ast.If) and isinstance(scope.test, ast.Name) and scope.test.id == "TYPE_CHECKING"


def within(module: str, names: tuple[str, ...]) -> bool:
    return any(module == name or module.startswith(name + ".") for name in names)


def faults(found: Import) -> Iterator[str]:
    """What is wrong with an import."""
    top = found.imported.partition(".")[0]
    if top not in ("minimeta", "minimeta_kernels"):
        compiler = top in ("numba", "llvmlite") and found.importer.startswith("minimeta_kernels.numba")
        if found.eager and top not in EAGER and top not in sys.stdlib_module_names and not compiler:
            yield f"{found} when it is imported itself"
        return
    rule = max((name for name in ALLOWED if within(found.importer, (name,))), key=len, default=None)
    if rule is not None and not within(found.imported, ALLOWED[rule]):
        yield f"{found}: {rule} may import {', '.join(ALLOWED[rule]) or 'nothing'}"
    own = any(within(found.importer, (name,)) and within(found.imported, (name,)) for name in FORBIDDEN)
    if within(found.imported, FORBIDDEN) and not own and not within(found.importer, MAY_IMPORT_FORBIDDEN):
        yield f"{found}, which nobody may"


@pytest.mark.parametrize("module", SOURCES)
def test_every_import_points_the_right_way(module):
    found = imports(module, SOURCES[module].read_text())
    assert [fault for item in found for fault in faults(item)] == []


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("minimeta.autodiff.op", "from minimeta import ops"),
        ("minimeta.autodiff.op", "def f():\n    from minimeta.ops import tanh"),
        ("minimeta.tree", "import minimeta.backend"),
        ("minimeta.ops.elementwise", "from minimeta_kernels import registry"),
        ("minimeta.data.episodes", "from minimeta import tree"),
        ("minimeta.learners.metric_based.relation", "from minimeta.learners.metric_based.prototypical import logits"),
        ("minimeta.learners.optimization_based.reptile", "from minimeta.learners.optimization_based.maml import MAML"),
        ("minimeta.training", "from minimeta.learners.metric_based import prototypical"),
        ("minimeta.analysis.taylor", "from minimeta.learners.optimization_based import maml"),
        ("minimeta.training", "from minimeta import testing"),
        ("minimeta.training", "import tqdm"),
        ("minimeta.training", "try:\n    import scipy.linalg\nexcept ImportError:\n    pass"),
        ("minimeta.ops.conv", "import numba"),
        ("minimeta_kernels.registry", "import minimeta"),
    ],
)
def test_imports_in_the_wrong_direction_are_found(module, code):
    assert [fault for item in imports(module, code) for fault in faults(item)]


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("minimeta.ops.fused", "from minimeta_kernels import registry"),
        ("minimeta.progress", "def bar():\n    from tqdm import tqdm"),
        ("minimeta.learners.metric_based.relation", "from minimeta import layers, ops\nimport math"),
        ("minimeta_kernels.numba_cpu.conv", "import numba"),
    ],
)
def test_imports_in_the_right_direction_pass(module, code):
    assert not [fault for item in imports(module, code) for fault in faults(item)]
