"""CUDA C++ sources, and running a kernel of one: on CuPy's arrays by NVRTC, on NumPy's by g++ and shim.h.

A source declares its instances, its kernels with their template arguments filled in, so that all can be compiled ahead
and be looked at. On a GPU each is compiled when it is first used, and CuPy keeps it on disk; on the CPU all of a source
are, into one library that is kept in the cache folder.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minimeta_kernels.reference.modules import array_module

FOLDER = Path(__file__).parent
OPTIONS = ("--std=c++17",)
NUMBERS = ("float", "double", "Dual<float>", "Dual<double>")  # what S stands for in a template

_SHARED_UNASKED = 48 << 10  # bytes of shared memory that every kernel may have
_LARGEST_GRID = (2**31 - 1, 65535, 65535)

#: On the CPU, the order in which threads and blocks come in the next runs: any number.
seed = 0

Size = tuple[int, ...]


class Dual(NamedTuple):
    """Numbers and their derivatives along one direction: two arrays. A kernel that takes any gives all it gives so."""

    value: Any
    tangent: Any


def shape(x: Any) -> Size:
    """Of an array, or of both of a `Dual`."""
    return tuple(x.value.shape if isinstance(x, Dual) else x.shape)


def shared_limit(x: Any) -> int:
    """How many bytes of shared memory a block can have: on the GPU of array x, by the shim as on the smallest one."""
    if array_module(x) is np:
        return 64 << 10
    return int(x.device.attributes["MaxSharedMemoryPerBlockOptin"])


class Source:
    """The file NAME.cu with the templates of its kernels, "distances<{S}, Squared>", for all `numbers` if with {S}."""

    def __init__(self, name: str, templates: Sequence[str], numbers: Sequence[str] = NUMBERS) -> None:
        self.name = name
        self.instances = tuple(dict.fromkeys(t.replace("{S}", s) for t in templates for s in numbers))

    def run(
        self, template: str, grid: Size, block: int, inputs: Sequence[Any], shapes: Sequence[Size],
        scalars: Sequence[Any] = (), shared: int = 0, indices: Sequence[Any] = (), index_shapes: Sequence[Size] = (),
    ) -> list[Any]:  # fmt: skip
        """Run a kernel on C-contiguous arrays, or `Dual`s of them, or None; its results, new arrays of these shapes.

        A kernel takes its inputs, its indices (int64), its results and those that are indices, all of which it writes,
        and its scalars, which are NumPy's or, if floats, of the arrays' dtype. `shared` is how many S there are in
        shared memory. Raises AssertionError where the shim finds something wrong.
        """
        first = next(a for a in inputs if a is not None)
        dual = any(isinstance(a, Dual) for a in inputs)
        array = first.value if isinstance(first, Dual) else first
        number = {"f": "float", "d": "double"}[array.dtype.char]
        instance = template.replace("{S}", f"Dual<{number}>" if dual else number)
        if instance not in self.instances:
            raise ValueError(f"{self.name}.cu: no instance {instance}; declared: {', '.join(self.instances)}")
        xp = array_module(array)
        results = [[xp.empty(shape, array.dtype) for _ in range(1 + dual)] for shape in shapes]
        index_results = [xp.empty(shape, np.int64) for shape in index_shapes]
        if any(size > limit for size, limit in zip(grid, _LARGEST_GRID, strict=False)):
            raise ValueError(f"{instance}: a grid of {grid} blocks; at most {_LARGEST_GRID}: take fewer at once")
        if min(grid) > 0:
            given = [part for a in inputs for part in (a if isinstance(a, Dual) else (a, None))]
            found = [part for r in results for part in (*r, None)[:2]]
            values = [array.dtype.type(s) if isinstance(s, float) else s for s in scalars]
            run = _run_on_cpu if xp is np else _run_on_gpu
            size = shared * array.itemsize * (1 + dual)
            run(self, instance, grid, block, [*given, *indices], [*found, *index_results], values, size)
        return [*(Dual(*r) if dual else r[0] for r in results), *index_results]

    @functools.cached_property
    def text(self) -> str:
        """The source with what it includes, one text."""
        return _inlined(f"{self.name}.cu", set())


def _inlined(name: str, known: set[str]) -> str:
    """The file with its headers, *.cuh, in the places where they are included first."""

    def header(found: re.Match[str]) -> str:
        if found[1] in known:
            return ""
        known.add(found[1])
        return _inlined(found[1], known)

    return re.sub(r'#include "(\w+\.cuh)"\n', header, (FOLDER / name).read_text())


def _run_on_gpu(
    source: Source, instance: str, grid: Size, block: int, inputs: Sequence[Any], outputs: Sequence[Any],
    scalars: Sequence[Any], shared: int,
) -> None:  # fmt: skip
    kernel = _on_gpu(source.text, instance)
    if shared > _SHARED_UNASKED and shared > kernel.max_dynamic_shared_size_bytes:
        kernel.max_dynamic_shared_size_bytes = shared
    arrays = [np.uintp(0) if a is None else a for a in (*inputs, *outputs)]
    kernel(grid, (block,), (*arrays, *scalars), shared_mem=shared)


@functools.cache
def _on_gpu(text: str, instance: str) -> Any:
    import cupy

    module = cupy.RawModule(code=text, options=OPTIONS, name_expressions=(instance,))
    return module.get_function(instance)


def _run_on_cpu(
    source: Source, instance: str, grid: Size, block: int, inputs: Sequence[Any], outputs: Sequence[Any],
    scalars: Sequence[Any], shared: int,
) -> None:  # fmt: skip
    arrays = [*inputs, *outputs]
    modes = [1] * len(inputs) + [2] * len(outputs) + [0] * len(scalars)
    pointers = [ctypes.c_void_p(0 if a is None else a.ctypes.data) for a in arrays]
    values = [np.asarray(s) for s in scalars]
    places = [ctypes.addressof(p) for p in pointers] + [v.ctypes.data for v in values]
    sizes = [0 if a is None else a.nbytes for a in arrays] + [0] * len(scalars)
    function = getattr(_on_cpu(source.text, source.instances), f"run_{source.instances.index(instance)}")
    function.restype = ctypes.c_char_p
    wrong = function(
        (ctypes.c_uint * 3)(*grid, *(1,) * (3 - len(grid))), (ctypes.c_uint * 3)(block, 1, 1), ctypes.c_size_t(shared),
        (ctypes.c_void_p * len(places))(*places), (ctypes.c_size_t * len(sizes))(*sizes),
        (ctypes.c_int * len(modes))(*modes), ctypes.c_uint(seed),
    )  # fmt: skip
    if wrong:
        raise AssertionError(f"{source.name}.cu, {instance}: {wrong.decode()}")


@functools.cache
def _on_cpu(text: str, instances: tuple[str, ...]) -> ctypes.PyDLL:
    exports = "".join(f"SHIM_EXPORT({i}, {instance})\n" for i, instance in enumerate(instances))
    return ctypes.PyDLL(str(_library(text + exports)))  # holds the GIL: there is one set of fibers


def _library(code: str) -> Path:
    """The machine code of `code`, from the cache folder or new."""
    cache = Path(os.environ.get("MINIMETA_CACHE") or Path(tempfile.gettempdir()) / "minimeta")
    known = hashlib.sha256((code + (FOLDER / "shim.h").read_text()).encode()).hexdigest()
    path = cache / "shim" / f"{known[:24]}.so"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            compiled = Path(scratch) / "kernels.so"
            command = [
                "g++", "-x", "c++", "-", "-std=c++17", "-O1", "-shared", "-fPIC", "-Wall", "-Werror",
                "-Wno-unknown-pragmas", "-U_FORTIFY_SOURCE", "-DSHIM", f"-I{FOLDER}", "-o", str(compiled),
            ]  # fmt: skip
            done = subprocess.run(command, input=code, capture_output=True, text=True)
            if done.returncode != 0:
                raise RuntimeError(f"g++: {done.stderr}")
            os.replace(compiled, path)
    return path
