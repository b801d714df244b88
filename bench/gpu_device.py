"""What the GPU bench measures on: a GPU, or in a dry run the processor in its place.

Both have the names of the device for minimeta, for PyTorch and for the registry of kernels, a clock and a cache.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

import limits
import timing
from workloads.candidate import Candidate

from minimeta import backend, replay

_WARM_UP = 3


class Processor:
    arrays, torch = "numpy", "cpu"
    cache_bytes = 2**16  # little enough for tiny rows to rotate buffers
    seconds = staticmethod(timing.seconds)

    def __init__(self, peers: Sequence[str]) -> None:
        self.kernels = "shim" if shutil.which("g++") else "reference"
        if "torch" in peers:
            import torch

            torch.set_num_threads(1)

    def describe(self) -> dict[str, Any]:
        return {"name": "processor", "kernels": self.kernels}

    def limits(self, peers: Sequence[str]) -> limits.Limits:
        return limits.measure(1, peers)

    def graph(self, name: str, candidate: Candidate) -> Candidate:
        raise NotImplementedError("a processor records no graphs")


class Gpu:
    """The current one. Raises RuntimeError where CuPy or a GPU is missing."""

    arrays, torch, kernels = "cupy", "cuda", "cuda"

    def __init__(self, peers: Sequence[str]) -> None:
        self.cupy = backend.module("cupy")
        self.properties = self.cupy.cuda.runtime.getDeviceProperties(0)
        self.cache_bytes = int(self.properties["l2CacheSize"])
        self.events = [self.cupy.cuda.Event() for _ in range(2)]
        self.precision = _plain_float32() if "torch" in peers else None

    def describe(self) -> dict[str, Any]:
        from cupy_backends.cuda.libs import nvrtc

        runtime = self.cupy.cuda.runtime
        return {
            "name": self.properties["name"].decode(), "kernels": self.kernels,
            "compute_capability": f"{self.properties['major']}.{self.properties['minor']}",
            "multiprocessors": self.properties["multiProcessorCount"], "cache_bytes": self.cache_bytes,
            "memory_bytes": self.properties["totalGlobalMem"], "driver": _driver(),
            "cuda_of_driver": runtime.driverGetVersion(), "cuda_of_cupy": runtime.runtimeGetVersion(),
            "nvrtc": list(nvrtc.getVersion()), "torch": self.precision,
        }  # fmt: skip

    def seconds(self, run: Callable[[], Any], repeats: int = 1) -> float:
        """The mean time of a few runs, by events on CUDA's default stream: CuPy and PyTorch both work there."""
        start, end = self.events
        start.record()
        for _ in range(repeats):
            run()
        end.record()
        end.synchronize()
        return 1e-3 * float(self.cupy.cuda.get_elapsed_time(start, end)) / repeats

    def limits(self, peers: Sequence[str]) -> limits.Limits:
        """The fastest float32 matrix product of CuPy and PyTorch, and their fastest copy."""
        xp, n, size = self.cupy, 8192, 2**28
        a, b = xp.sin(xp.arange(2 * n * n, dtype=xp.float32)).reshape(2, n, n)
        source, target = xp.ones(size, xp.float32), xp.empty(size, xp.float32)
        products, copies = [lambda: a @ b], [lambda: xp.copyto(target, source)]
        if "torch" in peers:
            import torch

            x, y, given, taken = (torch.as_tensor(array, device="cuda") for array in (a, b, source, target))
            products.append(lambda: x @ y)
            copies.append(lambda: taken.copy_(given))
        product, copy = (min(limits.fastest(run, self.seconds) for run in runs) for runs in (products, copies))
        return limits.Limits(2 * n**3 / product, 2 * source.nbytes / copy)

    def graph(self, name: str, candidate: Candidate) -> Candidate:
        """Its run recorded once as a CUDA graph, and replayed from then on, on the same memory.

        Raises whatever keeps it from being recorded.
        """
        if candidate.reset is None:
            raise NotImplementedError("a run leaves new weights for the next one, where a replay would not look")
        record = _record_torch if name.startswith("torch") else replay.record
        run = record(candidate.run)
        candidate.reset()
        return candidate._replace(run=run)


def _record_torch(run: Callable[[], Any]) -> Callable[[], Any]:
    import torch

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UP):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = run()

    def replay() -> Any:
        graph.replay()
        return result

    return replay


def _plain_float32() -> dict[str, Any]:
    """Let PyTorch multiply in float32, as minimeta does, by the fastest algorithms that do; its settings."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.benchmark = True
    return {
        "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(), "cudnn_benchmark": True,
        "tf32": torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32,
    }  # fmt: skip


@functools.cache
def _driver() -> str | None:
    """Its version, clocks and power limit, if nvidia-smi is there to ask."""
    if shutil.which("nvidia-smi") is None:
        return None
    query = "--query-gpu=driver_version,clocks.max.sm,clocks.max.mem,power.limit"
    command = ["nvidia-smi", query, "--format=csv,noheader"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
