"""Every CUDA kernel once on small odd shapes: what bench/gpu.py runs under compute-sanitizer.

    python bench/gpu_kernels_once.py [--dry-run]

Forward, derivative and second derivative are called through the registry, in float32 and float64, and must agree with
the reference. Raises AssertionError where they do not, or where a kernel of the registry has no call here.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from gpu_device import Processor
from race import difference

import minimeta_kernels
from minimeta import backend, tree
from minimeta_kernels.cuda import products

_rng = np.random.default_rng(0)


class Call(NamedTuple):
    name: str
    arrays: tuple[Any, ...]
    options: dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description="Run every CUDA kernel once and compare it with the reference.")
    parser.add_argument("--dry-run", action="store_true", help="on the processor, by the shim")
    device, kernels = ("numpy", Processor([]).kernels) if parser.parse_args().dry_run else ("cupy", "cuda")
    if device == "cupy":
        backend.module("cupy").cuda.set_allocator(None)  # no pool: every array is an allocation that memcheck knows
    made = list(calls())
    with minimeta_kernels.use(kernels):
        names = {name for name, backends in minimeta_kernels.table().items() if kernels in backends}
    if device == "cupy" or kernels == "shim":
        assert names == {call.name for call in made}, names ^ {call.name for call in made}
    for call in made:
        for dtype, tolerance in ((np.float32, 1e-4), (np.float64, 1e-10)):
            check(call, dtype, tolerance, device, kernels)
    print(f"{len(made)} calls of {len({call.name for call in made})} kernels by {kernels} agree with the reference")


def check(call: Call, dtype: Any, tolerance: float, device: str, kernels: str) -> None:
    name, arrays, options = call
    given = backend.to_device(tree.map(lambda a: a.astype(dtype) if a.dtype.kind == "f" else a, arrays), device)
    with minimeta_kernels.use(kernels):
        if name == "matmul" and device == "cupy":  # the registry takes it for graphs only
            found = products.matmul(*given)
        else:
            verdicts = minimeta_kernels.explain(name, *given, **options)
            assert f"{kernels:<10} refuses" not in verdicts, verdicts
            found = minimeta_kernels.call(name, *given, **options)
    found = backend.asnumpy(tree.leaves(found))
    expected = tree.leaves(reference(name, *arrays, **options))
    for i, (a, b) in enumerate(zip(expected, found, strict=True)):
        error = difference(a, b)
        assert error <= tolerance, f"{name}, {np.dtype(dtype)}: result {i} {b.shape} is off by {error:.1e}"


def reference(name: str, *arrays: Any, **options: Any) -> Any:
    with minimeta_kernels.use("reference"):
        return minimeta_kernels.call(name, *arrays, **options)


def calls() -> Iterator[Call]:
    for shape in ((2, 19, 37, 5), (1, 67, 65, 70)):  # one for each size of tile
        batch, queries, rows, dims = shape
        for name in ("l1", "sqeuclidean", "euclidean", "cosine"):
            yield from _twice(name, _draw(batch, queries, dims), _draw(batch, rows, dims))
    for name in ("attention", "cosine_attention"):
        yield from _twice(name, _draw(2, 19, 37), _draw(2, 21, 37), _draw(2, 21, 3))
    yield Call("matmul", (_draw(2, 67, 19), _draw(1, 70, 19).swapaxes(1, 2)), {})
    for stride in ((1, 1), (2, 2)):
        yield from _convolutions(_draw(2, 3, 7, 5, 3), _draw(2, 3, 3, 3, 67), {"stride": stride, "pads": ((1, 1),) * 2})
    yield from _norm("norm_relu", _draw(2, 45, 33))
    yield from _norm("norm_relu_pool", _draw(2, 3, 7, 5, 33))
    for shared in (True, False):
        yield from _memory(2, 3, 2, 40, 5, {"shared": shared})
        yield from _controlled(2, 3, 2, 40, 5, 7, {"shared": shared})
    images = _draw(2, 3, 7, 5, 33)
    yield Call("relu_sum_pool", tuple(images), {})
    yield Call("relu_sum_pool_vjp", (_draw(3, 4, 3, 33), *images), {})
    sequences = _draw(3, 67, 2), _draw(2, 20), _draw(5, 20), _draw(20)
    yield Call("lstm_last", sequences, {})
    yield Call("lstm_last_vjp", (_draw(67, 5), *sequences), {})
    gates, cell = _draw(19, 4 * 7), _draw(19, 7)
    yield Call("lstm_cell", (gates, cell), {})
    for cotangents in ((cell, -cell), (cell, None), (None, cell)):
        yield Call("lstm_cell_vjp", (*cotangents, gates, cell), {})


def _draw(*shape: int) -> np.ndarray:
    return _rng.standard_normal(shape)


def _like(*arrays: Any) -> tuple[np.ndarray, ...]:
    return tuple(_draw(*a.shape) for a in arrays)


def _twice(name: str, *arrays: Any) -> Iterator[Call]:
    (g,) = _like(reference(name, *arrays))
    yield Call(name, arrays, {})
    yield Call(f"{name}_vjp", (g, *arrays), {})
    yield Call(f"{name}_vjp2", (_like(*arrays), g, *arrays), {})


def _convolutions(x: Any, w: Any, options: dict[str, Any]) -> Iterator[Call]:
    (g,) = _like(reference("conv", x, w, **options))
    yield Call("conv", (x, w), options)
    yield Call("conv_data", (g, w), {**options, "size": x.shape[2:4]})
    yield Call("conv_weight", (x, g), {**options, "kernel": w.shape[1:3]})


def _norm(name: str, x: Any) -> Iterator[Call]:
    inputs = x, _draw(2, x.shape[-1]), _draw(2, x.shape[-1])
    pooled, *others = reference(name, *inputs)
    yield Call(name, inputs, {})
    yield Call(f"{name}_vjp", (*_like(pooled), *others, *inputs), {})
    yield Call(f"{name}_vjp2", (_like(*inputs), *_like(pooled), *others, *inputs), {})


def _memory(batch: int, steps: int, heads: int, rows: int, width: int, options: dict[str, Any]) -> Iterator[Call]:
    """Usages differ by whole numbers: rounding changes no choice."""
    memory, weights = _draw(batch, rows, width), _rng.dirichlet(np.ones(rows), (batch, heads))
    usage = _rng.permuted(np.tile(np.arange(float(rows)), (batch, 1)), axis=1)
    keys, adds, gates = *_draw(2, batch, steps, heads, width), _rng.random((batch, steps, heads))
    yield Call("lrua", (memory, weights, usage, keys, adds, gates), options)
    found = reference("lrua", memory, weights, usage, keys, adds, gates, **options)
    saved = found.least_used, found.memories, found.all_weights
    for cotangents in (_like(keys, memory, weights), (*_like(keys), None, None)):
        yield Call("lrua_vjp", (*cotangents, memory, weights, keys, adds, gates, *saved), options)
    write = adds[:, 0], gates[:, 0]
    yield Call("lrua_write", (memory, weights, usage, *write), options)
    yield Call("lrua_write_vjp", (*_like(memory, weights), weights, *write, found.least_used[:, 0]), options)
    yield Call("lrua_read", (memory, keys[:, 0]), {})
    yield Call("lrua_read_vjp", (*_like(keys[:, 0], weights), memory, keys[:, 0]), {})


def _controlled(
    batch: int, steps: int, heads: int, rows: int, width: int, units: int, options: dict[str, Any]
) -> Iterator[Call]:
    (_, (memory, weights, usage, keys, *_), _), *_ = _memory(batch, 1, heads, rows, width, options)
    size = heads * width
    for emits in (2 * size + heads, size + heads):
        linear = _draw(size + units, 4 * units) / 4, _draw(units, emits), _draw(emits)
        state = *_draw(2, batch, units), keys[:, 0], memory, weights, usage
        arrays = *state, _draw(batch, steps, 4 * units), *linear
        yield Call("lrua_lstm", arrays, options)
        found = reference("lrua_lstm", *arrays, **options)
        for cotangents in (_like(*found[:7]), (*_like(*found[:2]), None, None, None, None, None)):
            yield Call("lrua_lstm_vjp", (*cotangents, *linear[:2], *found[8:]), options)


if __name__ == "__main__":
    main()
