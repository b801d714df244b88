"""Which implementation runs, how that is said and forced; compiled code on disk; processors with narrower vectors."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minimeta_kernels
from minimeta_kernels import launch, registry, warmup
from tests.device_double import Array
from tests.gpu.devices import at_work

ROOT = Path(__file__).parents[2]
X, Y = np.zeros((1, 2, 3)), np.ones((1, 4, 3))
installed = registry._installed

has_numba = importlib.util.find_spec("numba") is not None
needs_numba = pytest.mark.skipif(not has_numba, reason="Numba is not installed")


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A table with one kernel, `twice`, by two backends; which of them ran. Numba's takes no integers."""
    ran: list[str] = []
    monkeypatch.delenv(registry.VARIABLE, raising=False)
    monkeypatch.setattr(registry, "_table", {})
    monkeypatch.setattr(registry, "_loaded", {"numba", "reference"})
    monkeypatch.setattr(registry, "_installed", lambda package: package in ("numba", "numpy"))

    def implement(backend: str) -> None:
        refuses = launch.refuses if backend == "numba" else lambda *arrays, **options: None

        @registry.register("twice", backend, refuses)
        def twice(x: Any) -> Any:
            ran.append(backend)
            return 2 * x

    implement("reference")
    implement("numba")
    return ran


def absent(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    """As if the package of `backend` were not installed."""
    package = registry._PACKAGES[backend][1]
    monkeypatch.setattr(registry, "_loaded", registry._loaded - {backend})
    monkeypatch.setattr(registry, "_installed", lambda name: name == "numpy" != package)
    for found in registry._table.values():
        found.pop(backend, None)


def test_the_best_runs_first(kernels: list[str]) -> None:
    minimeta_kernels.call("twice", X)
    assert kernels == ["numba"]
    assert minimeta_kernels.table() == {"twice": ["numba", "reference"]}
    assert registry.order() == ("numba", "reference")


@pytest.mark.parametrize("x", [np.arange(3), np.ma.zeros(3), 1.0, X.astype(np.float16), X.astype(complex)], ids=str)
def test_what_the_best_refuses_the_next_takes(kernels: list[str], x: Any) -> None:
    minimeta_kernels.call("twice", x)
    assert kernels == ["reference"]


def test_use_is_in_force_until_it_is_changed(kernels: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_forced", None)
    minimeta_kernels.use("reference")
    minimeta_kernels.call("twice", X)
    minimeta_kernels.use(None)
    minimeta_kernels.call("twice", X)
    assert kernels == ["reference", "numba"]


def test_use_as_a_context_ends_and_nests_even_through_errors(kernels: list[str]) -> None:
    def fail() -> None:
        with minimeta_kernels.use("reference"), minimeta_kernels.use("numba"):
            minimeta_kernels.call("twice", X)
            raise RuntimeError

    with minimeta_kernels.use("reference"):
        with pytest.raises(RuntimeError):
            fail()
        minimeta_kernels.call("twice", X)
    minimeta_kernels.call("twice", X)
    assert kernels == ["numba", "reference", "numba"]


def test_use_holds_in_all_threads(kernels: list[str]) -> None:
    with minimeta_kernels.use("reference"):
        thread = threading.Thread(target=minimeta_kernels.call, args=("twice", X))
        thread.start()
        thread.join()
    assert kernels == ["reference"]


def test_the_variable_is_asked_after_use(kernels: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(registry.VARIABLE, "reference")
    minimeta_kernels.call("twice", X)
    with minimeta_kernels.use("numba"):
        minimeta_kernels.call("twice", X)
    monkeypatch.setenv(registry.VARIABLE, "")  # as not set
    minimeta_kernels.call("twice", X)
    assert kernels == ["reference", "numba", "numba"]


def test_unknown_backends(kernels: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="use: unknown backend 'tpu'; choose one of numba, cuda, "):
        minimeta_kernels.use("tpu")
    with pytest.raises(ValueError, match="unknown backend 'tpu'"):
        minimeta_kernels.register("twice", "tpu")
    monkeypatch.setenv(registry.VARIABLE, "tpu")
    with pytest.raises(ValueError, match="MINIMETA_KERNELS: unknown backend 'tpu'"):
        minimeta_kernels.call("twice", X)
    assert not kernels


def test_a_missing_package(kernels: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    absent(monkeypatch, "numba")
    minimeta_kernels.call("twice", X)
    assert kernels == ["reference"]
    assert registry.order() == ("reference",)
    with pytest.raises(ModuleNotFoundError, match="use: backend 'numba' needs numba: install it"):
        minimeta_kernels.use("numba")
    minimeta_kernels.call("twice", X)  # what failed left nothing behind
    monkeypatch.setenv(registry.VARIABLE, "numba")
    with pytest.raises(ModuleNotFoundError, match="MINIMETA_KERNELS: backend 'numba' needs numba: install it"):
        minimeta_kernels.call("twice", X)


def test_a_missing_package_is_looked_for_once(kernels: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    searches = []
    monkeypatch.setattr(registry, "_loaded", {"reference"})
    monkeypatch.setattr(registry, "_installed", installed)
    installed.cache_clear()
    with monkeypatch.context() as nothing_there:
        nothing_there.setattr(importlib.util, "find_spec", searches.append)
        minimeta_kernels.call("twice", X)
        minimeta_kernels.call("twice", X)
    installed.cache_clear()
    assert searches == ["numba", "cupy"]


def test_explain_gives_each_verdict(kernels: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def verdicts(*arrays: Any) -> list[str]:
        lines = {line.split()[1]: line for line in minimeta_kernels.explain("twice", *arrays).splitlines()}
        return [lines[backend].split(maxsplit=2)[2] for backend in ("numba", "reference")]

    said = minimeta_kernels.explain("twice", X)
    assert "cuda       not installed: cupy" in said
    assert "shim       not asked: it runs where use(...) names it" in said
    assert verdicts(X) == ["runs", "would run too"]
    assert verdicts(np.arange(3)) == ["refuses: takes float32 and float64, got int64", "runs"]
    assert verdicts([1.0]) == ["refuses: takes numpy.ndarray, got list", "runs"]
    assert verdicts((X, np.arange(3))) == ["refuses: takes float32 and float64, got int64", "runs"]
    with minimeta_kernels.use("reference"):
        assert verdicts(X) == ["not asked: use('reference') is in force", "runs"]
    monkeypatch.setenv(registry.VARIABLE, "reference")
    assert verdicts(X) == ["not asked: MINIMETA_KERNELS=reference is in force", "runs"]
    monkeypatch.delenv(registry.VARIABLE)
    absent(monkeypatch, "numba")
    assert verdicts(X) == ["not installed: numba", "runs"]
    assert minimeta_kernels.explain("thrice", X).endswith("reference  does not implement it")
    assert not kernels


def test_a_kernel_that_nobody_can_run_says_why(kernels: list[str]) -> None:
    @registry.register("scaled", "numba", lambda x, by: f"takes by=1, got {by}")
    def scaled(x: Any, by: float) -> Any:
        raise AssertionError

    with pytest.raises(TypeError, match=r"no implementation of 'scaled' takes these arrays:\n.*takes by=1, got 2"):
        minimeta_kernels.call("scaled", X, by=2)
    with pytest.raises(TypeError, match=r"'thrice'.*\n.*does not implement it"):
        minimeta_kernels.call("thrice", X)


def test_a_package_is_asked_only_when_it_is_loaded_whole(
    kernels: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Another thread is importing it: what is registered already may use what is not there yet."""
    (tmp_path / "slow_kernels.py").write_text(
        "import threading\n"
        "from minimeta_kernels.registry import register\n"
        "@register('half', 'numba')\n"
        "def half(x): return helper(x)\n"
        "threading.begun.set()\n"
        "threading.Event().wait(0.2)\n"
        "def helper(x): return x / 2\n"
    )
    begun = threading.Event()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(threading, "begun", begun, raising=False)
    monkeypatch.setitem(registry._PACKAGES, "numba", ("slow_kernels", "numpy"))
    monkeypatch.setattr(registry, "_loaded", {"reference"})
    found: list[Any] = []
    first = threading.Thread(target=lambda: found.append(minimeta_kernels.call("half", 4.0)))
    first.start()
    assert begun.wait(10)
    found.append(minimeta_kernels.call("half", 6.0))
    first.join()
    assert sorted(found) == [2.0, 3.0]


def test_every_kernel_has_a_reference() -> None:
    table = minimeta_kernels.table()
    assert len(table) > 30
    assert [name for name, backends in table.items() if "reference" not in backends] == []


@pytest.mark.parametrize("name", [n for n, b in minimeta_kernels.table().items() if "numba" in b])
def test_compiled_kernels_leave_integers_and_foreign_arrays_to_the_reference(name: str) -> None:
    for arrays, options in warmup.examples("float32")[name]:
        verdicts = minimeta_kernels.explain(name, *arrays, **options).splitlines()
        assert verdicts[0].endswith(" runs")
        for other in (np.arange(2), Array(X)):
            verdicts = minimeta_kernels.explain(name, other, *arrays[1:], **options).splitlines()
            assert "refuses: takes" in verdicts[0]
            assert verdicts[-1].endswith(" runs")


def test_integers_and_foreign_arrays_run() -> None:
    found = minimeta_kernels.call("l1", X.astype(np.int64), Y.astype(np.int64))
    np.testing.assert_array_equal(found, np.full((1, 2, 4), 3))
    with at_work("double"):
        foreign = minimeta_kernels.call("l1", Array(X), Array(Y))
    assert type(foreign) is Array
    np.testing.assert_array_equal(foreign.host, found)


def test_every_kernel_has_an_example_for_warming_up() -> None:
    assert set(minimeta_kernels.table()) <= set(warmup.examples("float32"))


@pytest.mark.parametrize("dtype", warmup.DTYPES)
def test_the_examples_are_such_as_the_reference_takes(dtype: str) -> None:
    with minimeta_kernels.use("reference"):
        for name in minimeta_kernels.table():
            for arrays, options in warmup.examples(dtype)[name]:
                minimeta_kernels.call(name, *arrays, **options)


@needs_numba
def test_one_example_of_the_convolution_goes_by_winograd() -> None:
    from minimeta_kernels.numba_cpu import winograd

    ways = {winograd.pays(*x.shape[1:4], *w.shape[3:]) for (x, w), _ in warmup.examples("float32")["conv"]}
    assert ways == {False, True}


def python(code: str, *, packages: Path = ROOT / "kernels", **environment: Any) -> subprocess.CompletedProcess[str]:
    """Run `code` in a new process; `call` and `np` are at hand."""
    paths = [str(packages), str(ROOT), os.environ.get("PYTHONPATH", "")]
    code = "import numpy as np\nfrom minimeta_kernels import call\n" + code
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **{k: str(v) for k, v in environment.items()}},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


def test_the_variable_is_read_from_the_environment() -> None:
    code = "import sys; print(call('l1', np.zeros((1, 1, 1)), np.ones((1, 1, 1))).item(), 'numba' in sys.modules)"
    assert python(code, MINIMETA_KERNELS="reference").stdout == "1.0 False\n"


CELL = "print(call('lstm_cell', np.ones((1, 8), 'f'), np.ones((1, 2), 'f'))[0].sum())"


@needs_numba
def test_compiled_code_is_kept_until_the_source_changes(tmp_path: Path) -> None:
    packages, kept = tmp_path / "kernels", {"NUMBA_CACHE_DIR": tmp_path / "compiled"}
    shutil.copytree(ROOT / "kernels", packages, ignore=shutil.ignore_patterns("__pycache__"))
    first = python(CELL, packages=packages, **kept)
    assert "minimeta_kernels: compiling lstm_cell (once, kept on disk) ..." in first.stderr
    again = python(CELL, packages=packages, **kept)
    assert again.stderr == ""
    assert again.stdout == first.stdout
    helper = packages / "minimeta_kernels/numba_cpu/elementary.py"  # another file than the kernel's
    helper.write_text(helper.read_text() + "\n")
    changed = python(CELL, packages=packages, **kept)
    assert "compiling lstm_cell" in changed.stderr


@needs_numba
def test_without_a_place_to_write_kernels_compile_and_run() -> None:
    refuse = (
        "from numba.core import caching\n"
        "def refuse(self): raise OSError\n"
        "caching.InTreeCacheLocator.ensure_cache_path = caching.UserWideCacheLocator.ensure_cache_path = refuse\n"
    )
    code = f"{refuse}{CELL}\nfrom minimeta_kernels import warmup; print(warmup.cache_folder())"
    done = python(code, NUMBA_CACHE_DIR="")
    assert done.stdout.splitlines()[-1] == "None"
    assert "compiling lstm_cell" in done.stderr


#: A narrower processor: its vectors, what LLVM is told of it, and what must not turn up in its code.
NARROWER = {
    "AVX2": (32, "haswell", "+avx2,+fma", ("avx512f",), "zmm"),
    "SSE2": (16, "x86-64", "+sse2", ("avx512f", "avx2", "avx", "fma"), "ymm"),
}

#: Three kernels by the tile, by vectors, and by Winograd's form, against the reference.
CHECK = """
import sys
import llvmlite.binding as llvm

vector_bytes, lacking, forbidden = int(sys.argv[1]), sys.argv[2].split(","), sys.argv[3]
host = llvm.get_host_cpu_features()
llvm.get_host_cpu_features = lambda: type(host)({**host, **dict.fromkeys(lacking, False)})

import minimeta_kernels
from minimeta_kernels.numba_cpu import convolution, norm_relu_pool, pairwise, target, winograd

assert target.TARGET.vector_bytes == vector_bytes

rng = np.random.default_rng(0)
a = lambda *shape: rng.normal(size=shape).astype(np.float32)
same = dict(stride=(1, 1), pads=((1, 1), (1, 1)))
cases = [
    ("sqeuclidean", (a(2, 70, 19), a(2, 33, 19)), {}),
    ("conv", (a(2, 2, 7, 6, 3), a(2, 3, 3, 3, 17)), same),
    ("conv", (a(1, 4, 8, 8, 64), a(1, 3, 3, 64, 64)), same),
    ("norm_relu", (a(2, 90, 29), a(2, 29), a(2, 29)), {}),
    ("norm_relu_pool", (a(2, 3, 6, 5, 19), a(2, 19), a(2, 19)), {}),
]
for name, arrays, options in cases:
    found, expected = [], []
    for backend, results in (("numba", found), ("reference", expected)):
        with minimeta_kernels.use(backend):
            result = call(name, *arrays, **options)
        results += result if isinstance(result, tuple) else [result]
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=2e-5 * (1 + np.abs(y).max()))
for kernel in (pairwise._sqeuclidean, convolution._convolve, winograd._convolve):
    [code] = kernel.inspect_asm().values()
    assert forbidden not in code and "xmm" in code
"""


@needs_numba
@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="x86 alone has narrower vectors")
@pytest.mark.parametrize("name", NARROWER)
def test_processors_with_narrower_vectors(name: str, tmp_path: Path) -> None:
    import llvmlite.binding as llvm

    width, processor, features, lacking, forbidden = NARROWER[name]
    if name == "AVX2" and not llvm.get_host_cpu_features().get("avx2"):
        pytest.skip("this processor has no AVX2")
    code = f"import sys; sys.argv[1:] = {[str(width), ','.join(lacking), forbidden]}\n{CHECK}"
    python(code, NUMBA_CPU_NAME=processor, NUMBA_CPU_FEATURES=features, NUMBA_CACHE_DIR=tmp_path)


#: What a program may do after warming up: other sizes and layouts, whole learners, their derivatives of both orders.
AFTER_WARMING_UP = """
from minimeta_kernels import warmup
from minimeta_kernels.numba_cpu.compiled import _announce

warmup.warmup(["float32"])
compiled = {kernel: list(kernel.signatures) for kernel in _announce.kernels}
print([kernel.py_func.__qualname__ for kernel, signatures in compiled.items() if not signatures])

import minimeta
from minimeta import data, learners, ops

rng = np.random.default_rng(0)
a = lambda *shape: rng.normal(size=shape).astype(np.float32)
sample = data.EpisodeSampler(data.load("glyphs", "train"), way=3, shot=2, query=1).batch(0, tasks=2)
learner = learners.make("prototypical", filters=4)
learner.meta_grad(learner.init(rng), sample)
x, y, v = a(2, 50, 7), a(2, 7, 90).swapaxes(1, 2), a(2, 90, 3)
for distance in (ops.l1, ops.sqeuclidean, ops.euclidean, ops.cosine):
    minimeta.hvp(lambda x: distance(x, y).sum(), x, x)
for attention in (ops.attention, ops.cosine_attention):
    minimeta.hvp(lambda x: attention(x, y, v).sum(), x, x)
for stride in (1, 2):
    minimeta.hvp(lambda w: (ops.conv2d(a(2, 9, 9, 3), w, stride=stride, padding=1) ** 2).sum(), *[a(3, 3, 3, 5)] * 2)
wide = a(3, 3, 64, 64)
minimeta.hvp(lambda w: (ops.conv2d(a(5, 14, 14, 64), w, padding=1) ** 2).sum(), wide, wide)
scale = a(6)
minimeta.hvp(lambda s: ops.batch_norm_relu(a(2, 3, 6), s, s)[0].sum(), scale, scale)
minimeta.hvp(lambda s: ops.batch_norm_relu_max_pool2d(a(2, 3, 8, 8, 6), s, s)[0].sum(), scale, scale)
minimeta.grad(lambda s: ops.conv_block(a(2, 3, 8, 8, 1), a(3, 3, 1, 6), s, s)[0].sum())(scale)
state = ops.LruaState(a(2, 6, 4), a(2, 2, 6), a(2, 6))
keys, gates = a(2, 3, 2, 4), a(2, 3, 2)
for shared in (True, False):
    minimeta.hvp(lambda k: (ops.lrua(state, k, k, gates, shared=shared)[0] ** 2).sum(), keys, keys)
minimeta.hvp(lambda c: ops.lstm_gates(a(3, 20), c)[0].sum(), a(3, 5), a(3, 5))
many = a(3, 80, 70)
minimeta.hvp(lambda w: ((many @ w) @ (many @ w).swapaxes(-1, -2)).sum(), *[a(70, 90)] * 2)
for kernel in _announce.kernels:
    new = [s for s in kernel.signatures if s not in compiled.get(kernel, [])]
    assert not new, f"{kernel.py_func.__module__}.{kernel.py_func.__name__} compiled after warming up: {new}"
"""


@needs_numba
def test_nothing_is_left_to_compile_after_warming_up() -> None:
    assert python(AFTER_WARMING_UP).stdout == "[]\n"
