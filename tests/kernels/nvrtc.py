"""What NVIDIA's compiler makes of the CUDA sources for a GPU that need not be there: registers, spills, shared memory.

    python -m tests.kernels.nvrtc [--write] [ARCHITECTURE ...]

prints what every kernel takes at most on any of the architectures; --write keeps it in cuda_budget.json, to which the
tests hold them. Needs the package nvidia-cuda-nvrtc.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import importlib.util
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from minimeta_kernels import cuda
from minimeta_kernels.cuda.source import OPTIONS, Source

#: Compute capabilities: Turing, Ampere (A100, consumers'), Ada, Hopper, Blackwell (data centre, consumers').
ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
BUDGET = Path(__file__).with_name("cuda_budget.json")
SOURCES: dict[str, Source] = {name: getattr(cuda, name)._SOURCE for name in cuda.__all__}

Usage = dict[str, int]  # "registers" a thread, "spilled" bytes a thread, "shared" bytes a block, as far as static

_LOG = re.compile(
    r"Function properties for (?P<symbol>\w+)\s+ptxas\s*\.?\s+\d+ bytes stack frame, "
    r"(?P<spilled>\d+) bytes spill stores.*?Used (?P<registers>\d+) registers(?P<rest>[^\n]*)",
    re.DOTALL,
)


@functools.cache
def library() -> ctypes.CDLL:
    """NVRTC from its wheel. Raises ModuleNotFoundError where that is not installed."""
    spec = importlib.util.find_spec("nvidia")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    found = sorted(path for folder in folders for path in Path(folder).rglob("libnvrtc*.so*"))
    if not found:
        raise ModuleNotFoundError("NVRTC is not installed: pip install nvidia-cuda-nvrtc")
    for path in (p for p in found if "builtins" in p.name):
        ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    nvrtc = ctypes.CDLL(str(next(path for path in found if re.match(r"libnvrtc\.so", path.name))))
    nvrtc.nvrtcGetErrorString.restype = ctypes.c_char_p
    return nvrtc


def usage(source: Source, architecture: int, instances: Sequence[str]) -> dict[str, Usage]:
    """What each of these instances takes. Raises AssertionError with the compiler's messages."""
    nvrtc, program = library(), ctypes.c_void_p()
    text, name = source.text.encode(), f"{source.name}.cu".encode()
    _check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), text, name, 0, None, None))
    try:
        for instance in instances:
            _check(nvrtc.nvrtcAddNameExpression(program, instance.encode()))
        options = [f"--gpu-architecture=sm_{architecture}", *OPTIONS, "--ptxas-options=-v"]
        given = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        status = nvrtc.nvrtcCompileProgram(program, len(options), given)
        log = _log(program)
        assert status == 0, f"{source.name}.cu for sm_{architecture}:\n{log}"
        by_symbol = {found["symbol"]: _usage(found) for found in _LOG.finditer(log)}
        return {instance: by_symbol[_symbol(program, instance)] for instance in instances}
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def most(usages: Iterable[dict[str, Usage]]) -> dict[str, Usage]:
    """Of each instance the largest of each figure."""
    found: dict[str, Usage] = {}
    for by_instance in usages:
        for instance, figures in by_instance.items():
            known = found.setdefault(instance, dict.fromkeys(figures, 0))
            found[instance] = {key: max(known[key], value) for key, value in figures.items()}
    return found


def _usage(found: re.Match[str]) -> Usage:
    shared = re.search(r"(\d+) bytes smem", found["rest"])
    return {
        "registers": int(found["registers"]), "spilled": int(found["spilled"]),
        "shared": int(shared[1]) if shared else 0,
    }  # fmt: skip


def _check(status: int) -> None:
    if status != 0:
        raise RuntimeError(f"NVRTC: {library().nvrtcGetErrorString(status).decode()}")


def _log(program: ctypes.c_void_p) -> str:
    size = ctypes.c_size_t()
    _check(library().nvrtcGetProgramLogSize(program, ctypes.byref(size)))
    text = ctypes.create_string_buffer(size.value)
    _check(library().nvrtcGetProgramLog(program, text))
    return text.value.decode()


def _symbol(program: ctypes.c_void_p, instance: str) -> str:
    lowered = ctypes.c_char_p()
    _check(library().nvrtcGetLoweredName(program, instance.encode(), ctypes.byref(lowered)))
    assert lowered.value is not None
    return lowered.value.decode()


def main() -> None:
    parser = argparse.ArgumentParser(description="Registers, spills and shared memory of the CUDA kernels.")
    parser.add_argument("architectures", nargs="*", type=int, default=ARCHITECTURES, help="compute capabilities: 90")
    parser.add_argument("--write", action="store_true", help=f"keep it in {BUDGET.name}")
    options = parser.parse_args()
    found = {}
    for name, source in SOURCES.items():
        found[name] = most(usage(source, architecture, source.instances) for architecture in options.architectures)
        for instance, figures in found[name].items():
            print(f"{name:<15} {instance:<55}", *(f"{value} {key}" for key, value in figures.items()), flush=True)
    if options.write:
        lines = (f"{json.dumps(name)}: {{\n{_lines(by_instance)}\n}}" for name, by_instance in found.items())
        BUDGET.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def _lines(by_instance: dict[str, Usage]) -> str:
    return ",\n".join(f"  {json.dumps(instance)}: {json.dumps(figures)}" for instance, figures in by_instance.items())


if __name__ == "__main__":
    main()
