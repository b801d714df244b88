"""What this installation is made of and what it can find: versions, kernels, processor, GPU, data."""

from __future__ import annotations

import importlib.util
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import minimeta
from minimeta import backend, threads
from minimeta.data.cache import cache_folder
from minimeta_kernels import launch, registry, warmup

#: Optional packages by the name they are installed under.
OPTIONAL = ("numba", "scipy", "pillow", "pooch", "tqdm", "matplotlib", "cupy-cuda12x", "cupy-cuda13x", "numba-cuda")


def versions() -> dict[str, str | None]:
    """Version by package, None for what is not installed.

    >>> versions()["minimeta"] == minimeta.__version__
    True
    """
    core = {"python": platform.python_version(), "minimeta": minimeta.__version__, "numpy": np.__version__}
    return {**core, **{name: _version(name) for name in ("safetensors", *OPTIONAL)}}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def git_revision() -> str | None:
    """The commit of this package's checkout, with "-dirty" where files have changed; None outside a checkout."""
    root = Path(minimeta.__file__).parent.parent
    if not (root / ".git").exists():  # an installed package may well lie inside somebody else's checkout
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git, or no commit yet
        return None


def examine() -> dict[str, Any]:
    """Everything `minimeta doctor` reports, for JSON."""
    return {
        "versions": versions(),
        "git_revision": git_revision(),
        "machine": machine(),
        "threads": {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ},
        "kernels": kernels(),
        "gpu": gpu(),
        "data": _data(),
    }


THREAD_VARIABLES = (threads.VARIABLE, "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


#: What vectors of so many bytes are called; of 16 there are those of several processors.
_VECTORS = {64: "AVX-512", 32: "AVX2"}


def kernels() -> str:
    """Which kernels would run on NumPy arrays, by what means, and where compiled ones are kept."""
    if registry.order()[0] == "reference":
        absent = importlib.util.find_spec("numba") is None
        return f"reference (NumPy): {'numba is not installed' if absent else 'asked for by use or MINIMETA_KERNELS'}"
    try:
        from minimeta_kernels.numba_cpu.target import TARGET
    except ImportError as error:
        return f"none: numba cannot be imported ({error}); with MINIMETA_KERNELS=reference they run in NumPy"
    width, count, folder = TARGET.vector_bytes, launch.threads(), warmup.cache_folder()
    means = f"{_VECTORS.get(width, f'{width}-byte vectors')}, {count} thread{'s' if count > 1 else ''}"
    return f"numba ({means}), compiled code {f'kept in {folder}' if folder else 'not kept'}"


def machine() -> dict[str, Any]:
    """What a measurement depends on besides versions: processor, cores this process may use, operating system.

    >>> sorted(machine())
    ['cores', 'cpu', 'system']
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {"cpu": _cpu(), "cores": cores, "system": platform.platform(terse=True)}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def gpu() -> str:
    """The name of the first GPU, or what is missing to compute on one."""
    try:
        cupy = backend.module("cupy")
    except RuntimeError as error:
        return f"none: {error}"
    return str(cupy.cuda.runtime.getDeviceProperties(0)["name"].decode())


def _data() -> dict[str, str]:
    named = os.environ.get("MINIMETA_DATA")
    home = Path(named) / "omniglot" if named else None
    cached = sorted(path.name for path in (cache_folder() / "omniglot").glob("*.npz"))
    return {
        "glyphs": "built in",
        "MINIMETA_DATA": named or "not set",
        "omniglot": f"found in {home}" if home and home.is_dir() else "not in MINIMETA_DATA",
        "cache": f"{cache_folder()}: {', '.join(cached) or 'no omniglot'}",
    }


def describe(report: dict[str, Any]) -> str:
    """The report as text."""
    lines = []
    for topic, found in report.items():
        if isinstance(found, dict):
            lines.append(f"{topic}:")
            lines += [f"  {name:<22}{'not installed' if value is None else value}" for name, value in found.items()]
        else:
            lines.append(f"{topic + ':':<18}{found}")
    return "\n".join(lines)
