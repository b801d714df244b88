"""CUDA sources on the CPU: the shim stops at what a GPU would let pass; dual numbers; orders of threads.

That every kernel agrees with the reference is tested where the kernel is: "shim" is one of the implementations there.
"""

from __future__ import annotations

import shutil

import numpy as np
import pytest

import minimeta_kernels
from tests.autodiff.numeric import close

if shutil.which("g++") is None:
    pytest.skip("g++ is not installed", allow_module_level=True)

from minimeta_kernels import cuda
from minimeta_kernels.cuda import (
    attention,
    lrua,
    lrua_lstm,
    lstm,
    lstm_last,
    norm_relu_pool,
    pairwise,
    products,
    relu_sum_pool,
    source,
)
from minimeta_kernels.cuda.source import Dual, Source


def draw(*shape, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def shim(kernel, *arrays, **options):
    with minimeta_kernels.use("shim"):
        return minimeta_kernels.call(kernel, *arrays, **options)


def memory(batch=1, rows=40, width=5, heads=2, steps=3):
    """Arguments of `lrua`."""
    weights = np.exp(draw(batch, heads, rows, seed=1))
    return (
        draw(batch, rows, width), weights / weights.sum(axis=-1, keepdims=True), np.zeros((batch, rows)),
        draw(batch, steps, heads, width, seed=2), draw(batch, steps, heads, width, seed=3),
        draw(batch, steps, heads) ** 2,
    )  # fmt: skip


def controlled(units=7):
    """A sequence of `lrua_lstm`, and all gradients."""
    remembered, weights, usage, keys, *_ = memory()
    linear = draw(10 + units, 4 * units) / 4, draw(units, 22), draw(22)
    state = draw(1, units), draw(1, units, seed=1), keys[:, 0], remembered, weights, usage
    found = shim("lrua_lstm", *state, draw(1, 3, 4 * units), *linear)
    return *found, *shim("lrua_lstm_vjp", *found[:7], *linear[:2], *found[8:])


#: One run of each source, with more threads than a warp has.
RUNS = {
    "pairwise": lambda: shim("sqeuclidean_vjp", draw(1, 9, 40), draw(1, 9, 40), draw(1, 40, 40)),
    "attention": lambda: shim("cosine_attention_vjp", draw(1, 9, 3), draw(1, 9, 5), draw(1, 7, 5), draw(1, 7, 3)),
    "lrua": lambda: shim("lrua", *memory()),
    "lstm": lambda: shim("lstm_cell", draw(40, 8), draw(40, 2)),
    "norm_relu_pool": lambda: shim("norm_relu_pool", draw(1, 2, 4, 4, 3), draw(1, 3), draw(1, 3)),
    "products": lambda: shim("conv", draw(1, 1, 4, 4, 2), draw(1, 3, 3, 2, 3), stride=(1, 1), pads=((1, 1), (1, 1))),
    "relu_sum_pool": lambda: shim("relu_sum_pool_vjp", draw(2, 2, 3, 20), *draw(2, 2, 3, 5, 20)),
    "lstm_last": lambda: shim("lstm_last_vjp", draw(40, 5), draw(3, 40, 2), draw(2, 20), draw(5, 20), draw(20)),
    "lrua_lstm": controlled,
}
BARRIER = "    __syncthreads();\n"
LOADED = "        load_rows<S, DEPTH, threads>(y, s, rows, blockIdx.x * 32, dims, ys);\n    "
PULLED = "    }\n#pragma unroll\n    for (int r = 0; r < R; r++)\n        if (first"
INSIDE = "if (first + mine + r < queries && d < dims) to_x"
CHOSEN = "        choose(m);\n    "
PART = "    parts[threadIdx.x] = part;\n"
STEPPED = "s.step(t, t + 1);\n        "
RETURN = "        if (first + s.lane >= count) return;\n"
EMITTED = "            GIVEN(emitted).write(step * emits + i, value);\n        }\n    "
BACKWARDS = "after = before + 1;\n    "
#: Source, what to replace in it and by what, and what the shim says then.
PLANTED = [
    ("pairwise", LOADED + BARRIER, LOADED, "shared memory read"),
    ("pairwise", "    }\n    " + BARRIER + PULLED, "    }\n" + PULLED, "shared memory (read|written) while"),
    ("pairwise", INSIDE, INSIDE.replace("queries", "queries - 1"), "was not written"),
    ("pairwise", INSIDE, "to_x", "beyond its end"),
    ("pairwise", "bool inside = first + q < queries && s + k < rows;", "bool inside = true;", "beyond its end"),
    ("pairwise", "ys = shared.take<S>(DEPTH * (DEPTH + 1));", "ys = shared.take<S>(DEPTH * (DEPTH + 1)) + 2;",
     "shared memory accessed beyond its end"),
    ("attention", "    total = warp_sum(total);\n", "    total = lane < 16 ? warp_sum(total) : total;\n",
     "lanes of a warp at lines|deadlock"),
    ("attention", "__shfl_xor_sync(0xffffffffu, value", "__shfl_xor_sync(0xffffu, value", "not in its (own )?mask"),
    ("attention", "(S(score[s]) - mean);\n            __syncwarp();", "(S(score[s]) - mean);",
     "shared memory (read|written) while"),
    ("lrua", CHOSEN + BARRIER, CHOSEN, "shared memory read"),
    ("lrua", CHOSEN + BARRIER, CHOSEN + "if (threadIdx.x != 3)" + BARRIER, "shared memory read while"),
    ("lrua", "    if (n >= m.rows) return;\n    S mine", "    if (n < 1 || n >= m.rows) return;\n    S mine",
     "read before it is written"),
    ("lstm", "    GIVEN(h).write(n, a.o * hyperbolic_tangent(cell));\n", "", "was not written"),
    ("lstm", "    if (n >= count) return;\n    Activations", "    Activations", "beyond its end"),
    ("norm_relu_pool", PART + BARRIER, PART, "shared memory read"),
    ("norm_relu_pool", PART + BARRIER, PART + "if (threadIdx.x < 32)\n" + BARRIER + "else\n" + BARRIER,
     "__syncthreads at lines"),
    ("norm_relu_pool", PART + BARRIER, PART + "if (threadIdx.x == 5) return S(0);\n" + BARRIER, "threads have ended"),
    ("products", "bool there = k + of_k < terms && first_n + n < columns;", "bool there = true;", "beyond its end"),
    ("relu_sum_pool", "right = j + 1 < width;", "right = true;", "beyond its end"),
    ("relu_sum_pool", "lower = i + 1 < height,", "lower = i + 3 < height,", "was not written"),
    ("lstm_last", STEPPED + BARRIER, STEPPED, "shared memory read"),
    ("lstm_last", "(int64)gridDim.x * LANES) {", "(int64)gridDim.x * LANES) {\n" + RETURN, "threads have ended"),
    ("lstm_last", "else if (first + s.lane < count)", "else", "beyond its end"),
    ("lstm_last", "    for (int slot = warp; slot < slots; slot", "    for (int slot = warp; slot < slots - 1; slot",
     "read before it is written"),
    ("lrua_lstm", EMITTED + BARRIER, EMITTED, "shared memory (read|written)"),
    ("lrua_lstm", BACKWARDS + BARRIER, BACKWARDS, "shared memory (read|written) while"),
    ("lrua_lstm", "if (lane == 0) c.inputs[i] = sum;", "c.inputs[i] = sum;", "written by thread"),
    ("lrua_lstm", "    load(TAKEN(usage) + b * rows, rows, m.usage);\n", "", "read before it is written"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "old", "new", "message"), PLANTED, ids=[f"{p[0]}-{i}" for i, p in enumerate(PLANTED)])
def test_planted_bugs_are_caught(name, old, new, message, monkeypatch):
    program, ran = getattr(cuda, name)._SOURCE, []
    run = source._run_on_cpu
    monkeypatch.setattr(source, "_run_on_cpu", lambda *arguments: ran.append(arguments[1]) or run(*arguments))
    RUNS[name]()
    text = program.text
    assert text.count(old) >= 1
    monkeypatch.setattr(program, "text", text.replace(old, new))
    of_these = tuple(i for i in program.instances if i in ran)  # no others need to be compiled again
    monkeypatch.setattr(program, "instances", of_these)
    with pytest.raises(AssertionError, match=message):
        RUNS[name]()


@pytest.mark.parametrize("name", RUNS)
def test_the_order_of_threads_and_blocks_changes_nothing(name, monkeypatch):
    results = []
    for seed in range(4):
        monkeypatch.setattr(source, "seed", seed)
        found = RUNS[name]()
        results.append(found if isinstance(found, tuple) else (found,))
    for again in results[1:]:
        for a, b in zip(again, results[0], strict=True):
            np.testing.assert_array_equal(a, b)


def moved(function, arrays, along, step=1e-6):
    """The derivative of several results along a direction, by differences."""
    ahead, behind = (
        function(*(a + sign * step * v for a, v in zip(arrays, along, strict=True))) for sign in (1, -1)
    )
    return [(a - b) / (2 * step) for a, b in zip(ahead, behind, strict=True)]


def test_dual_numbers_through_an_lstm_cell():
    arrays = draw(3, 2), draw(3, 2, seed=1), draw(3, 8, seed=2), draw(3, 2, seed=3)
    along = [draw(*a.shape, seed=9) for a in arrays]
    gradient = lstm.lstm_cell_vjp
    found = gradient(*(Dual(a, v) for a, v in zip(arrays, along, strict=True)))
    for dual, expected, value in zip(found, moved(gradient, arrays, along), gradient(*arrays), strict=True):
        close(dual.tangent, expected, 1e-8)
        np.testing.assert_array_equal(dual.value, value)


@pytest.mark.parametrize("shared", [True, False])
def test_dual_numbers_through_a_memory(shared):
    """The gradient of a gradient: with the rows that were chosen held fixed, all else moves."""
    start = memory(rows=7, width=3, steps=2)

    def gradient(g_reads, *given):
        found = lrua.lrua(*given, shared=shared, eps=1e-2)
        parts = *given[:2], *given[3:], found.least_used, found.memories, found.all_weights
        return lrua.lrua_vjp(g_reads, None, None, *parts, shared=shared, eps=1e-2)

    arrays = draw(1, 2, 2, 3, seed=8), *start
    along = [draw(*a.shape, seed=9) * (a is not start[2]) for a in arrays]  # not usage, which would choose other rows
    found = gradient(*(Dual(a, v) for a, v in zip(arrays, along, strict=True)))
    for dual, expected in zip(found, moved(gradient, arrays, along), strict=True):
        close(dual.tangent, expected, 1e-7)


def test_what_a_source_does_not_declare_is_refused():
    with pytest.raises(ValueError, match=r"pairwise.cu: no instance distances<double, Cubed>; declared: dist"):
        pairwise._SOURCE.run("distances<{S}, Cubed>", (1,), 32, [draw(2)], [(2,)])


def test_a_source_that_does_not_compile_says_why():
    broken = Source("lstm", ["lstm_cell<{S}>"])
    broken.text = "int main( {"
    with pytest.raises(RuntimeError, match=r"g\+\+: .*error"):
        broken.run("lstm_cell<{S}>", (1,), 32, [draw(1)], [(1,)])


def test_too_many_blocks_are_refused():
    with pytest.raises(ValueError, match=r"distances<.*: a grid of \(1, 1, 70000\) blocks; at most .*: take fewer"):
        shim("l1", np.zeros((70000, 1, 1)), np.zeros((70000, 1, 1)))


def test_what_does_not_fit_into_a_block_is_left_to_others():
    long, reads = draw(1, 900, 16), (draw(1, 5, 2), draw(1, 5, 16), draw(1, 90, 16), draw(1, 90, 2))
    with minimeta_kernels.use("shim"):
        said = minimeta_kernels.explain("cosine_attention", draw(1, 5, 16), long, draw(1, 900, 2))
        assert "shim       refuses: needs 261504 bytes of shared memory, of 65536 that a block can have" in said
        assert "reference  runs" in said
        for kernel, given in (("cosine_attention", reads[1:]), ("cosine_attention_vjp", reads)):
            assert "shim       runs" in minimeta_kernels.explain(kernel, *given)
        second = minimeta_kernels.explain("cosine_attention_vjp2", reads[1:], *reads)
        assert "shim       refuses: needs 109536" in second  # dual numbers take twice as much
        assert "at most 1024, got 1025" in minimeta_kernels.explain("lrua_read", draw(1, 1025, 2), draw(1, 1, 2))
        assert "needs a head" in minimeta_kernels.explain("lrua_read", draw(1, 5, 2), draw(1, 0, 2))


def test_blocks_of_lstm_last_that_have_several_groups_of_sequences(monkeypatch):
    arrays = draw(150, 5), draw(3, 150, 2), draw(2, 20), draw(5, 20), draw(20)
    expected = shim("lstm_last_vjp", *arrays)
    monkeypatch.setattr(lstm_last, "_LARGEST_GRID", 2)
    close(shim("lstm_last_vjp", *arrays), expected, 1e-13)


def test_transposed_matrices_are_not_copied(monkeypatch):
    given = []
    run = Source.run
    monkeypatch.setattr(Source, "run", lambda self, *a, **k: given.append(a[3]) or run(self, *a, **k))
    a, b = draw(2, 5, 70), draw(2, 9, 70)
    close(shim("matmul", a, b.mT), a @ b.mT, 1e-13)
    assert given[0][0] is a
    assert np.shares_memory(given[0][1], b)


def test_every_source_has_a_run():
    assert set(RUNS) == set(cuda.__all__)
    sources = {attention, lrua, lrua_lstm, lstm, lstm_last, norm_relu_pool, pairwise, products, relu_sum_pool}
    assert sources == {getattr(cuda, name) for name in RUNS}
