"""LRUA memory: a trace by hand, a loop over single numbers, properties of the access, and every implementation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minimeta_kernels
from minimeta_kernels import launch
from tests.autodiff.numeric import close, derivative, dot
from tests.kernels import compare

few = settings(max_examples=8, deadline=None, database=None, derandomize=True)
each_backend = pytest.mark.parametrize("backend", minimeta_kernels.table()["lrua"])
either_target = pytest.mark.parametrize("shared", [True, False])


def call(backend, name, *arrays, **options):
    with minimeta_kernels.use(backend):
        return minimeta_kernels.call(name, *arrays, **options)


def problem(batch, steps, heads, rows, width, seed=0):
    """The arguments of `lrua`; usages differ by 1, so that rounding does not change a choice."""
    rng = np.random.default_rng(seed)
    usage = np.array([rng.permutation(rows) for _ in range(batch)], float).reshape(batch, rows)
    keys, adds = rng.normal(size=(2, batch, steps, heads, width))
    weights = rng.dirichlet(np.ones(rows), size=(batch, heads)) if rows else np.zeros((batch, heads, rows))
    return rng.normal(size=(batch, rows, width)), weights, usage, keys, adds, rng.uniform(size=(batch, steps, heads))


def halves(memory, weights, usage, keys, adds, gates):
    """The arguments of `lrua_write` and `lrua_read` for the first step."""
    return (memory, weights, usage, adds[:, 0], gates[:, 0]), (memory, keys[:, 0])


def derivatives(arrays, options):
    """Each forward kernel's name, its differentiable arguments by position, and its derivative's other arguments.

    Random cotangents come first, as the derivatives take them.
    """
    rng = np.random.default_rng(1)
    memory, weights, _, keys, adds, gates = arrays
    write, read = halves(*arrays)
    out = call("reference", "lrua", *arrays, **options)
    least_used = call("reference", "lrua_write", *write, shared=options["shared"])[2]
    like = lambda *shapes: tuple(rng.normal(size=a.shape) for a in shapes)  # noqa: E731
    saved = (out.least_used, out.memories, out.all_weights)
    rest = (memory, weights, keys, adds, gates, *saved)
    yield "lrua", arrays, (0, 1, 3, 4, 5), like(out.reads, memory, weights), rest, options
    rest = (weights, adds[:, 0], gates[:, 0], least_used)
    yield "lrua_write", write, (0, 1, 3, 4), like(memory, weights), rest, {"shared": options["shared"]}
    yield "lrua_read", read, (0, 1), like(keys[:, 0], weights), read, {"eps": options["eps"]}


shapes = st.tuples(
    st.integers(0, 3), st.integers(1, 3), st.integers(1, 5), st.integers(0, 30), st.sampled_from([0, 1, 3, 8, 17])
).map(lambda s: (*s[:3], s[2] + s[3], s[4]))


def every_implementation_agrees(name, inputs, options):
    """As `compare.agree`, for kernels with several results; indices are equal."""
    expected = call("reference", name, *inputs, **options)
    for backend in minimeta_kernels.table()[name]:
        for dtype, rtol in ((np.float64, 1e-12), (np.float32, 2e-5)):
            for arrange in compare.LAYOUTS:
                rest = compare.leaves(inputs, lambda a, dtype=dtype, arrange=arrange: arrange(a.astype(dtype)))
                for a, b in zip(call(backend, name, *rest, **options), expected, strict=True):
                    assert a.dtype == (dtype if b.dtype.kind == "f" else np.int64)
                    close(a, b, rtol)


@few
@given(shapes, st.booleans())
def test_implementations_agree(shape, shared):
    arrays, options = problem(*shape), {"shared": shared, "eps": 1e-3}
    every_implementation_agrees("lrua", arrays, {"decay": 0.9, **options})
    for name, forward, _, cotangents, rest, chosen in derivatives(arrays, options):
        every_implementation_agrees(name, forward, chosen)
        every_implementation_agrees(f"{name}_vjp", (*cotangents, *rest), chosen)


@each_backend
@pytest.mark.parametrize("shape", [(2, 0, 2, 5, 3), (2, 2, 0, 5, 3), (0, 0, 0, 0, 0)])
def test_without_steps_or_heads_memory_stays(backend, shape):
    arrays = problem(*shape)
    out = call(backend, "lrua", *arrays)
    np.testing.assert_array_equal(out.memory, arrays[0])
    assert out.reads.shape == arrays[3].shape
    rest = (arrays[0], arrays[1], *arrays[3:], out.least_used, out.memories, out.all_weights)
    gradient = call(backend, "lrua_vjp", None, np.ones_like(arrays[0]), None, *rest)[0]
    np.testing.assert_array_equal(gradient, np.ones_like(arrays[0]))


@each_backend
def test_three_steps_by_hand(backend):
    """N = 4 rows of W = 2, one head, decay 1/2, eps 9/16, from an empty memory with row 0 in use.

    With eps = 9/16 the key (1, 0) has cosine x / sqrt(|m|^2 + 9/16) with a row m = (x, y).
    """
    memory, weights, usage = np.zeros((1, 4, 2)), np.eye(4)[None, :1], np.eye(4)[:1]
    e = math.exp(0.8)
    z = 3 + e
    keys = np.array([[1, 0], [0, 0], [1, 0]], float).reshape(1, 3, 1, 2)
    adds = np.array([[1, 0], [0, 2 * z], [-4, 0]], float).reshape(1, 3, 1, 2)
    gates = np.array([0, 0.5, 1]).reshape(1, 3, 1)
    out = call(backend, "lrua", memory, weights, usage, keys, adds, gates, decay=0.5, eps=9 / 16)

    # 1: rows 1, 2, 3 tie at usage 0: row 1. Gate 0 writes (1, 0) there and nowhere else.
    #    Its cosine is 1 / sqrt(1 + 9/16) = 4/5, the others' 0.
    # 2: usage 1/2 + 1/z, 1 + e/z, 1/z, 1/z: row 2 before row 3. Write weights: half of each read weight, and 1/2 more
    #    for row 2. The key is zero, so all weights are 1/4, and the reads (1 + e + 1 + z + 1) / 4 = z / 2.
    # 3: usage 1/2 + 1/z, 3/4 + e/z, 3/4 + 1/z, 1/4 + 1/z: row 3, erased. Gate 1 writes a quarter of (-4, 0) everywhere.
    written = [
        [[0, 0], [1, 0], [0, 0], [0, 0]],
        [[0, 1], [1, e], [0, 1 + z], [0, 1]],
        [[-1, 1], [0, e], [-1, 1 + z], [-1, 0]],
    ]
    raised = [
        math.exp(-1 / math.sqrt(2 + 9 / 16)),
        1.0,
        math.exp(-1 / math.sqrt(1 + (1 + z) ** 2 + 9 / 16)),
        math.exp(-0.8),
    ]
    third = np.array(raised) / sum(raised)
    read = [np.array([1, e, 1, 1]) / z, np.full(4, 0.25), third]
    used = np.array([1 / 2 + 1 / z, 3 / 4 + e / z, 3 / 4 + 1 / z, 1 / 4 + 1 / z]) / 2 + third + 1 / 4
    np.testing.assert_array_equal(out.least_used.ravel(), [1, 2, 3])
    np.testing.assert_allclose(out.memories[0], written, rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(out.all_weights[0, :, 0], read, rtol=1e-14)
    np.testing.assert_allclose(out.reads[0, :2, 0], [[e / z, 0], [1 / 4, z / 2]], rtol=1e-14)
    np.testing.assert_allclose(out.reads[0, 2, 0], third @ np.array(written[2]), rtol=1e-14)
    np.testing.assert_allclose(out.usage[0], used, rtol=1e-14)
    np.testing.assert_array_equal(out.memory, out.memories[:, -1])
    np.testing.assert_array_equal(out.weights, out.all_weights[:, -1])


def one_number_at_a_time(memory, weights, usage, keys, adds, gates, decay, shared, eps):
    """One episode by the equations, for the reference: its reads and final state."""
    (steps, heads, _), rows = keys.shape, len(usage)
    memory, weights, usage, reads = memory.copy(), weights.copy(), usage.copy(), np.zeros_like(keys)
    for t in range(steps):
        least = sorted(range(rows), key=lambda n: (usage[n], n))[:heads]
        write = np.zeros((heads, rows))
        for r in range(heads):
            for n in range(rows):
                target = n in least if shared else n == least[r]
                write[r, n] = gates[t, r] * weights[r, n] + (1 - gates[t, r]) * target
        memory[least[0]] = 0
        for n in range(rows):
            for r in range(heads):
                memory[n] += write[r, n] * adds[t, r]
        for r in range(heads):
            k = keys[t, r]
            raised = [math.exp((k @ m) / math.sqrt((k @ k) * (m @ m) + eps)) for m in memory]
            weights[r] = np.array(raised) / sum(raised)
            reads[t, r] = sum(weights[r, n] * memory[n] for n in range(rows))
        for n in range(rows):
            usage[n] = decay * usage[n] + sum(weights[:, n]) + sum(write[:, n])
    return reads, memory, weights, usage


@either_target
@pytest.mark.parametrize("heads", [1, 3])
def test_reference_is_the_equations(shared, heads):
    arrays = problem(2, 4, heads, 7, 5)
    out = call("reference", "lrua", *arrays, decay=0.9, shared=shared, eps=0.1)
    for b in range(2):
        expected = one_number_at_a_time(*(a[b] for a in arrays), decay=0.9, shared=shared, eps=0.1)
        for a, e in zip((out.reads, out.memory, out.weights, out.usage), expected, strict=True):
            np.testing.assert_allclose(a[b], e, rtol=1e-12, atol=1e-14)


@few
@given(st.integers(1, 6), st.lists(st.integers(0, 3), min_size=6, max_size=40))
def test_least_used_rows_are_the_first_of_a_stable_sort(heads, values):
    usage = np.array([values, values[::-1]], float)
    rows = usage.shape[1]
    memory, weights = np.zeros((2, rows, 1)), np.zeros((2, heads, rows))
    adds, gates = np.zeros((2, heads, 1)), np.zeros((2, heads))
    for backend in minimeta_kernels.table()["lrua_write"]:
        found = call(backend, "lrua_write", memory, weights, usage, adds, gates)[2]
        np.testing.assert_array_equal(found, np.argsort(usage, axis=-1, kind="stable")[:, :heads])


@pytest.mark.parametrize(
    ("backend", "dtype"),
    [(b, d) for b in minimeta_kernels.table()["lrua"] for d in ("d", "f") if (b, d) != ("reference", "f")],
)
@pytest.mark.parametrize("rows", [24, 29, 49, 128])
def test_rows_alike_are_chosen_by_index(backend, dtype, rows):
    """All rows start alike, so those not yet written stay tied, in vectors and in the numbers left over from them.

    Except in float32 by the reference: BLAS multiplies the last rows of a matrix in another order.
    """
    _, _, _, keys, adds, gates = problem(2, 5, 4, rows, 40)
    memory, first = np.full((2, rows, 40), 0.1), np.tile(np.eye(rows)[0], (2, 1))
    weights = np.repeat(first[:, None], 4, axis=1)
    arrays = (a.astype(dtype) for a in (memory, weights, first, keys, adds, gates))
    chosen = call(backend, "lrua", *arrays).least_used
    np.testing.assert_array_equal(chosen, np.tile(np.arange(1, 21).reshape(5, 4), (2, 1, 1)))


@each_backend
def test_closed_gates_fill_memory_row_by_row(backend):
    """With gates at 0 every row is written once until memory is full, then the oldest again; it holds what was added.

    Keys are zero, so that reading uses all rows alike.
    """
    rows = 6
    memory, weights, usage, keys, adds, gates = problem(2, 2 * rows, 1, rows, 3)
    out = call(backend, "lrua", memory, weights, 0 * usage, 0 * keys, adds, 0 * gates)
    np.testing.assert_array_equal(out.least_used[..., 0], [[*range(rows), *range(rows)]] * 2)
    np.testing.assert_array_equal(out.memories[:, rows - 1], adds[:, :rows, 0])
    np.testing.assert_array_equal(out.memory, adds[:, rows:, 0])


@each_backend
@either_target
def test_usage_of_untouched_rows_decays(backend, shared):
    """Up to what the softmax gives every row."""
    arrays = problem(2, 1, 2, 9, 3)
    out = call(backend, "lrua", *arrays[:5], 0 * arrays[5], decay=0.5, shared=shared)
    gained = out.usage - 0.5 * arrays[2] - out.weights.sum(axis=1)
    written = np.zeros_like(gained)
    np.put_along_axis(written, out.least_used[:, 0], 2.0 if shared else 1.0, axis=-1)
    np.testing.assert_allclose(gained, written, atol=1e-14)


@either_target
def test_derivatives_match_differences_while_no_choice_changes(shared):
    arrays, options = problem(2, 3, 2, 6, 3), {"shared": shared, "eps": 0.05}
    chosen = call("reference", "lrua", *arrays, **options).least_used
    for name, forward, moving, cotangents, rest, chosen_options in derivatives(arrays, options):
        gradients = call("reference", f"{name}_vjp", *cotangents, *rest, **chosen_options)

        def moved(at, name=name, forward=forward, moving=moving, options=chosen_options):
            arguments = list(forward)
            for i, a in zip(moving, at, strict=True):
                arguments[i] = a
            out = call("reference", name, *arguments, **options)
            if name == "lrua":
                np.testing.assert_array_equal(out.least_used, chosen)
            return tuple(out)[: 3 if name == "lrua" else 2]

        at = tuple(forward[i] for i in moving)
        for i, gradient in enumerate(gradients):
            direction = tuple(np.random.default_rng(i).normal(size=a.shape) * (k == i) for k, a in enumerate(at))
            expected = dot(cotangents, derivative(moved, at, direction))
            np.testing.assert_allclose(dot(gradient, direction[i]), expected, rtol=1e-7, atol=1e-8)


@each_backend
def test_missing_cotangents_are_zero(backend):
    arrays, options = problem(2, 2, 2, 5, 3), {"shared": True, "eps": 1e-3}
    for name, _, _, cotangents, rest, chosen in derivatives(arrays, options):
        for i in range(len(cotangents)):
            without = tuple(None if k == i else g for k, g in enumerate(cotangents))
            zero = tuple(0 * g if k == i else g for k, g in enumerate(cotangents))
            found = call(backend, f"{name}_vjp", *without, *rest, **chosen)
            close(found, call(backend, f"{name}_vjp", *zero, *rest, **chosen), 0)


@each_backend
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_sequence_is_its_steps(backend, dtype):
    """To the bit, forward and back."""
    arrays = tuple(a.astype(dtype) for a in problem(2, 4, 3, 21, 7))
    memory, weights, usage, *inputs = arrays
    whole = call(backend, "lrua", *arrays)
    rng = np.random.default_rng(2)
    g_reads, g_memory, g_weights = (rng.normal(size=a.shape).astype(dtype) for a in (whole.reads, memory, weights))
    saved = (whole.least_used, whole.memories, whole.all_weights)
    gradients = call(backend, "lrua_vjp", g_reads, g_memory, g_weights, memory, weights, *inputs, *saved)
    taken = []
    for t in range(4):
        now = [a[:, t : t + 1] for a in inputs]
        out = call(backend, "lrua", memory, weights, usage, *now)
        taken.append((memory, weights, *now, out.least_used, out.memories, out.all_weights))
        np.testing.assert_array_equal(out.reads[:, 0], whole.reads[:, t])
        memory, weights, usage = out.memory, out.weights, out.usage
    for a, b in zip((memory, weights, usage), whole[1:4], strict=True):
        np.testing.assert_array_equal(a, b)
    for t in reversed(range(4)):
        g = g_reads[:, t : t + 1]
        g_memory, g_weights, *g_inputs = call(backend, "lrua_vjp", g, g_memory, g_weights, *taken[t])
        for a, b in zip(g_inputs, gradients[2:], strict=True):
            np.testing.assert_array_equal(a[:, 0], b[:, t])
    np.testing.assert_array_equal(g_memory, gradients[0])
    np.testing.assert_array_equal(g_weights, gradients[1])


@each_backend
@either_target
def test_a_step_is_its_halves(backend, shared):
    arrays = problem(2, 1, 2, 9, 5)
    write, _ = halves(*arrays)
    whole = call(backend, "lrua", *arrays, shared=shared)
    memory, written, least_used = call(backend, "lrua_write", *write, shared=shared)
    reads, weights = call(backend, "lrua_read", memory, arrays[3][:, 0])
    usage = 0.95 * arrays[2] + weights.sum(axis=1) + written.sum(axis=1)
    close((reads, memory, weights, usage), (whole.reads[:, 0], *whole[1:4]), 1e-14)
    np.testing.assert_array_equal(least_used, whole.least_used[:, 0])


@pytest.mark.parametrize("backend", minimeta_kernels.table()["lrua"])
def test_same_bits_on_any_number_of_threads(backend, monkeypatch):
    monkeypatch.setattr(launch, "SMALL", 0)
    arrays, options = problem(5, 2, 3, 21, 7), {"shared": False, "eps": 1e-6}
    kernels = [("lrua", arrays, options)]
    for name, forward, _, cotangents, rest, chosen in derivatives(arrays, options):
        kernels += [(name, forward, chosen), (f"{name}_vjp", (*cotangents, *rest), chosen)]
    for name, inputs, chosen in kernels:
        found = []
        for threads in "123":
            monkeypatch.setenv("MINIMETA_NUM_THREADS", threads)
            found.append(call(backend, name, *compare.leaves(inputs, np.float32), **chosen))
        close(found[1:], [found[0]] * 2, 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_zero_keys_and_empty_memory_have_finite_gradients(dtype):
    memory, weights, usage, keys, adds, gates = problem(2, 2, 2, 6, 3)
    memory[0], memory[1, 2], keys[0, 0], adds[0, 0] = 0, 0, 0, 0
    arrays = (memory, weights, usage, keys, adds, gates)
    every_implementation_agrees("lrua", arrays, {})
    for name, _, _, cotangents, rest, chosen in derivatives(arrays, {"shared": True, "eps": 1e-6}):
        for backend in minimeta_kernels.table()[name]:
            inputs = compare.leaves((*cotangents, *rest), lambda a: a.astype(dtype))
            assert all(np.isfinite(a).all() for a in call(backend, f"{name}_vjp", *inputs, **chosen))


@each_backend
def test_arguments_keep_their_values(backend):
    arrays, options = problem(2, 2, 2, 5, 3), {"shared": True, "eps": 1e-3}
    for name, forward, _, cotangents, rest, chosen in derivatives(arrays, options):
        for kernel, inputs in ((name, forward), (f"{name}_vjp", (*cotangents, *rest))):
            before = [a.copy() for a in inputs]
            call(backend, kernel, *inputs, **chosen)
            close(list(inputs), before, 0)
