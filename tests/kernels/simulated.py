"""The numba.cuda kernels against the reference, in Numba's simulator: `NUMBA_ENABLE_CUDASIM=1 python -m
tests.kernels.simulated`. A process of its own, as Numba asks for the variable when it is imported.

The simulator has a thread of Python for each of CUDA's, so shapes are tiny; but odd, and larger than a block's tile.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

import minimeta_kernels
from tests.autodiff.numeric import close
from tests.kernels.compare import results

rng = np.random.default_rng(0)


def draw(*shape: int) -> np.ndarray:
    return rng.normal(size=shape)


def cases() -> Iterator[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """Every kernel with arguments."""
    for sizes in ((2, 9, 3, 10), (1, 1, 1, 1)):
        batch, queries, rows, dims = sizes
        x, y = draw(batch, queries, dims), draw(batch, rows, dims)
        for name in ("l1", "sqeuclidean"):
            yield name, (x, y), {}
            yield f"{name}_vjp", (draw(batch, queries, rows), x, y), {}
        v, options = draw(batch, rows, 2), {"temperature": 1.5, "eps": 1e-3}
        yield "cosine_attention", (x, y, v), options
        yield "cosine_attention_vjp", (draw(batch, queries, 2), x, y, v), options
    for rows, heads, width, shared in ((7, 2, 3, True), (9, 3, 2, False)):
        memory, keys, weights = draw(2, rows, width), draw(2, heads, width), np.exp(draw(2, heads, rows))
        weights /= weights.sum(axis=-1, keepdims=True)
        usage, gates = rng.permuted(np.arange(2.0 * rows).reshape(2, rows), axis=1), draw(2, heads) ** 2
        yield "lrua_write", (memory, weights, usage, keys, gates), {"shared": shared}
        with minimeta_kernels.use("reference"):
            least_used = minimeta_kernels.call("lrua_write", memory, weights, usage, keys, gates, shared=shared)[2]
        g_memory = draw(*memory.shape)
        for g_weights in (None, draw(*weights.shape)):
            yield "lrua_write_vjp", (g_memory, g_weights, weights, keys, gates, least_used), {"shared": shared}
        yield "lrua_read", (memory, keys), {"eps": 1e-4}
        for g_reads, g_weights in ((draw(*keys.shape), None), (None, draw(*weights.shape))):
            yield "lrua_read_vjp", (g_reads, g_weights, memory, keys), {"eps": 1e-4}


def main() -> None:
    from minimeta_kernels import numba_cuda  # noqa: F401 - there must be a simulator

    seen = set()
    for name, arrays, options in cases():
        found = {}
        for backend in ("reference", "numba_cuda"):
            with minimeta_kernels.use(backend):
                said = minimeta_kernels.explain(name, *arrays, **options)
                assert f"{backend:<10} runs" in said, said
                found[backend] = results(minimeta_kernels.call(name, *arrays, **options))
        for a, b in zip(found["numba_cuda"], found["reference"], strict=True):
            close(a, b, 1e-12)
        seen.add(name)
    print(json.dumps(sorted(seen)))


if __name__ == "__main__":
    main()
