"""Compiling every kernel ahead of its first use, by calling each once on tiny arrays.

    minimeta_kernels.warmup.warmup()          # or on the command line: minimeta kernels warmup

Arrays of other sizes and layouts run the same machine code, so one call per kernel and dtype is enough.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np

from minimeta_kernels.registry import call, table, use

DTYPES = ("float32", "float64")


class Example(NamedTuple):
    """Arguments a kernel takes."""

    arrays: tuple[Any, ...]
    options: dict[str, Any]


Examples = Iterator[tuple[str, Example]]


def warmup(dtypes: Sequence[str] = DTYPES, say: Callable[[str], None] = lambda line: None, processes: int = 1) -> float:
    """Compile the kernels for `dtypes`, or load what lies on disk already; the seconds that took.

    Several `processes` share them, and leave what they compile on disk. `say` is called with a line after each kernel.
    Raises ModuleNotFoundError where Numba is not installed.
    """
    start = time.perf_counter()
    with use("numba"):
        kernels = [name for name, backends in table().items() if "numba" in backends]
    for number, name in enumerate(_compiled(kernels, dtypes, processes), 1):
        say(f"{number}/{len(kernels)} {name}, {' and '.join(dtypes)}")
    return time.perf_counter() - start


def _compiled(kernels: list[str], dtypes: Sequence[str], processes: int) -> Iterator[str]:
    """The kernels' names, each when it is compiled. Both dtypes by one process: they are kept in one file."""
    if processes == 1:
        yield from map(partial(_compile, dtypes), kernels)
        return
    # started afresh, as threads do not survive a fork; Ctrl-C is for this process, which lets them end what they are at
    context, ignore = get_context("spawn"), partial(signal.signal, signal.SIGINT, signal.SIG_IGN)
    with ProcessPoolExecutor(processes, context, initializer=ignore) as pool:
        try:
            yield from pool.map(partial(_compile, dtypes), kernels)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _compile(dtypes: Sequence[str], name: str) -> str:
    with use("numba"):
        for dtype in dtypes:
            for arrays, options in examples(dtype)[name]:
                call(name, *arrays, **options)
    return name


def cache_folder() -> str | None:
    """Where compiled kernels are kept; None where no folder can be written to. Imports Numba."""
    from minimeta_kernels.numba_cpu.convolution import _convolve

    return _convolve.stats.cache_path  # type: ignore[no-any-return]


def examples(dtype: Any) -> dict[str, list[Example]]:
    """Tiny arguments of every kernel by name; several where a kernel has several ways to its result.

    >>> [array.shape for array in examples("float32")["l1"][0].arrays]
    [(1, 2, 3), (1, 2, 3)]
    """
    found: dict[str, list[Example]] = {}
    for name, example in _examples(lambda *shape: np.full(shape, 0.5, dtype)):
        found.setdefault(name, []).append(example)
    return found


def _examples(a: Callable[..., Any]) -> Examples:
    """All examples, of arrays made by `a(*shape)`."""
    rows, pairs = a(1, 2, 3), a(1, 2, 2)
    for name in ("l1", "sqeuclidean", "euclidean", "cosine"):
        yield from _twice_differentiable(name, pairs, rows, rows)
    for name in ("attention", "cosine_attention"):
        yield from _twice_differentiable(name, rows, rows, rows, rows)
    yield from _convolutions(a(1, 1, 3, 3, 1), a(1, 3, 3, 1, 2))
    yield from _convolutions(a(1, 4, 8, 8, 64), a(1, 3, 3, 64, 64))  # enough for Winograd's form
    yield from _norm_relu(a(1, 2, 3), a(1, 3))
    yield from _norm_relu_pool(a(1, 1, 2, 2, 1), a(1, 1, 1, 1, 1), a(1, 1))
    yield from _conv_block(a(1, 1, 2, 2, 1), a(1, 3, 3, 1, 2), a(1, 1, 1, 1, 2), a(1, 2))
    yield from _memory(a(1, 3, 2), a(1, 1, 3), a(1, 3), a(1, 1, 1, 2), a(1, 1, 1))
    yield from _controlled_memory(a(1, 2), a(1, 1, 1), a(1, 3, 1), a(1, 1, 3), a(1, 1, 8), a(3, 8), a(2, 3))
    gates, cell = a(1, 8), a(1, 2)
    yield "lstm_cell", Example((gates, cell), {})
    yield "lstm_cell_vjp", Example((cell, cell, gates, cell), {})
    sequences = a(1, 1, 2), a(2, 8), a(2, 8), a(8)
    yield "lstm_last", Example(sequences, {})
    yield "lstm_last_vjp", Example((cell, *sequences), {})
    layers = a(1, 2), a(2, 2), a(2), a(2, 2), a(2), a(2, 1), a(1)
    yield from _twice_differentiable("mlp", a(1, 1), *layers)
    yield from _twice_differentiable("task_mlp", a(1, 1, 1), *(a(1, *layer.shape) for layer in layers))
    image = a(1, 2, 2, 1)
    yield "relu_sum_pool", Example((image, image), {})
    yield "relu_sum_pool_vjp", Example((a(1, 1, 1, 1), image, image), {})
    for stack in ((), (2,)):  # of matrices that are worth more than NumPy's product
        yield "matmul", Example((a(*stack, 64, 64), a(*stack, 64, 64)), {})


def _twice_differentiable(name: str, g: Any, *arrays: Any) -> Examples:
    yield name, Example(arrays, {})
    yield f"{name}_vjp", Example((g, *arrays), {})
    yield f"{name}_vjp2", Example((arrays, g, *arrays), {})


def _convolutions(x: Any, w: Any) -> Examples:
    """With pads that keep the size."""
    options = {"stride": (1, 1), "pads": ((1, 1), (1, 1))}
    g = np.repeat(x[..., :1], w.shape[-1], axis=-1)
    yield "conv", Example((x, w), options)
    yield "conv_data", Example((g, w), {**options, "size": x.shape[2:4]})
    yield "conv_weight", Example((x, g), {**options, "kernel": w.shape[1:3]})


def _norm_relu(x: Any, channels: Any) -> Examples:
    """The mean, the variance, gamma and beta are all `channels`."""
    inputs = x, channels, channels
    yield "norm_relu", Example(inputs, {})
    yield "norm_relu_vjp", Example((x, channels, channels, *inputs), {})
    yield "norm_relu_vjp2", Example((inputs, x, channels, channels, *inputs), {})


def _norm_relu_pool(x: Any, pooled: Any, channels: Any) -> Examples:
    """As for `_norm_relu`."""
    inputs = x, channels, channels
    yield "norm_relu_pool", Example(inputs, {})
    yield "norm_relu_pool_vjp", Example((pooled, pooled, channels, channels, *inputs), {})
    yield "norm_relu_pool_vjp2", Example((inputs, pooled, pooled, channels, channels, *inputs), {})


def _conv_block(x: Any, w: Any, pooled: Any, channels: Any) -> Examples:
    inputs = x, w, channels, channels
    yield "conv_block", Example(inputs, {})
    yield "conv_block_vjp", Example((pooled, pooled, channels, channels, *inputs), {})


def _memory(memory: Any, weights: Any, usage: Any, keys: Any, gates: Any) -> Examples:
    """LRUA: what is written are the keys."""
    least_used = np.zeros(gates.shape, np.int64)
    yield "lrua", Example((memory, weights, usage, keys, keys, gates), {})
    saved = least_used, memory[:, None], weights[:, None]
    yield "lrua_vjp", Example((keys, memory, weights, memory, weights, keys, keys, gates, *saved), {})
    key, gate = keys[:, 0], gates[:, 0]
    yield "lrua_write", Example((memory, weights, usage, key, gate), {})
    yield "lrua_write_vjp", Example((memory, weights, weights, key, gate, least_used[:, 0]), {})
    yield "lrua_read", Example((memory, key), {})
    yield "lrua_read_vjp", Example((key, weights, memory, key), {})


def _controlled_memory(
    hidden: Any, reads: Any, memory: Any, weights: Any, gates: Any, recurrent: Any, heads: Any
) -> Examples:
    """An LSTM with LRUA memory, one step; keys and adds are separate."""
    state = hidden, hidden, reads, memory, weights
    yield "lrua_lstm", Example((*state, weights[:, 0], gates, recurrent, heads, heads[0]), {})
    emitted, least_used = heads[None, :1], np.zeros((1, 1, 1), np.int64)
    inputs, *kept = (np.repeat(a[:, None], 2, axis=1) for a in (recurrent[:1, :3], hidden, memory, weights))
    saved = inputs, kept[0], gates, emitted, least_used, *kept[1:]
    cotangents = hidden[:, None], reads[:, None], *state
    yield "lrua_lstm_vjp", Example((*cotangents, recurrent, heads, *saved), {})
