"""The LSTM with LRUA memory: its steps one by one, differences, every implementation, and the operation's errors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minimeta
import minimeta_kernels
from minimeta import ops
from minimeta_kernels import launch
from minimeta_kernels.reference.lrua_lstm import LRUALSTM
from tests.autodiff.numeric import close, derivative, dot
from tests.kernels import compare

few = settings(max_examples=8, deadline=None, database=None, derandomize=True)
each_backend = pytest.mark.parametrize("backend", minimeta_kernels.table()["lrua_lstm"])
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])
either_target = pytest.mark.parametrize("shared", [True, False])
either_write = pytest.mark.parametrize("separate", [True, False])


def call(backend, name, *arrays, **options):
    with minimeta_kernels.use(backend):
        return minimeta_kernels.call(name, *arrays, **options)


def problem(batch, steps, heads, rows, width, units, separate=True, seed=0):
    """The arguments of `lrua_lstm`; usages differ by 1, so that rounding does not change a choice."""
    rng = np.random.default_rng(seed)
    normal = lambda *shape: rng.normal(size=shape)  # noqa: E731
    size = heads * width
    emitted = (2 if separate else 1) * size + heads
    usage = np.array([rng.permutation(rows) for _ in range(batch)], float).reshape(batch, rows)
    weights = rng.dirichlet(np.ones(rows), size=(batch, heads))
    state = normal(batch, units), normal(batch, units), normal(batch, heads, width), normal(batch, rows, width)
    linear = normal(size + units, 4 * units) / (size + units) ** 0.5, normal(units, emitted), normal(emitted)
    return *state, weights, usage, normal(batch, steps, 4 * units), *linear


def gradient_problem(arrays, options, seed=1):
    """The arguments of `lrua_lstm_vjp`, with random cotangents."""
    out = call("reference", "lrua_lstm", *arrays, **options)
    rng = np.random.default_rng(seed)
    cotangents = tuple(rng.normal(size=a.shape) for a in out[:7])
    return *cotangents, *arrays[7:9], *out[8:]


#: Batch, steps, heads, rows, width, units.
shapes = st.tuples(
    st.sampled_from([0, 1, 2, 9]), st.integers(0, 3), st.integers(1, 5), st.integers(0, 40),
    st.sampled_from([1, 3, 17]), st.sampled_from([1, 4, 13, 50]),
).map(lambda s: (*s[:3], s[2] + s[3], *s[4:]))  # fmt: skip


@few
@given(shapes, st.booleans(), st.booleans())
def test_implementations_agree(shape, shared, separate):
    arrays, options = problem(*shape, separate), {"shared": shared, "eps": 1e-3}
    kernels = {"lrua_lstm": arrays, "lrua_lstm_vjp": gradient_problem(arrays, options)}
    for name, inputs in kernels.items():
        expected = call("reference", name, *inputs, **options)
        for backend in minimeta_kernels.table()[name]:
            for dtype, rtol in ((np.float64, 1e-11), (np.float32, 1e-4)):
                for arrange in compare.LAYOUTS:
                    given = compare.leaves(inputs, lambda a, dtype=dtype, arrange=arrange: arrange(a.astype(dtype)))
                    for a, b in zip(call(backend, name, *given, **options), expected, strict=True):
                        assert a.dtype == (dtype if b.dtype.kind == "f" else np.int64)
                        close(a, b, rtol)


def chain(state, gates, recurrent, heads, bias, **options):
    """`ops.lrua_lstm` by the operations of single steps."""
    hidden, cell, reads, *memory = state
    memory, (batch, count, width) = ops.LruaState(*memory), reads.shape
    hiddens, all_reads = [], []
    for t in range(gates.shape[1]):
        inputs = ops.concatenate([reads.reshape(batch, count * width), hidden], axis=-1)
        hidden, cell = ops.lstm_gates(gates[:, t] + inputs @ recurrent, cell)
        emitted = hidden @ heads + bias
        vectors = ops.tanh(emitted[:, :-count]).reshape(batch, -1, width)
        keys, adds = vectors[:, :count], vectors[:, -count:]
        reads, memory, _ = ops.lrua_step(memory, keys, adds, ops.sigmoid(emitted[:, -count:]), **options)
        hiddens.append(hidden)
        all_reads.append(reads)
    return ops.stack(hiddens, 1), ops.stack(all_reads, 1), ops.LruaLstmState(hidden, cell, reads, *memory)


@each_backend
@either_target
@either_write
def test_a_sequence_is_its_steps(backend, shared, separate):
    """Values and gradients; weights of the heads, the feedback of the reads and the order of usage all matter."""
    *state, gates, recurrent, heads, bias = problem(3, 4, 2, 7, 3, 5, separate)
    usage = state.pop()
    rng = np.random.default_rng(3)
    looks = [rng.normal(size=s) for s in ((3, 4, 5), (3, 4, 2, 3), *(a.shape for a in state))]

    def results(sequence, *arrays):
        after = ops.LruaLstmState(*arrays[:5], usage)
        hidden, reads, after = sequence(after, *arrays[5:], decay=0.9, shared=shared, eps=1e-2)
        return hidden, reads, *after

    arrays = (*state, gates, recurrent, heads, bias)
    with minimeta_kernels.use(backend):
        close(results(ops.lrua_lstm, *arrays), results(chain, *arrays), 1e-12)
        found, expected = (
            minimeta.grad(
                lambda arrays, sequence=sequence: sum(
                    (a * look).sum() for a, look in zip(results(sequence, *arrays)[:7], looks, strict=True)
                )
            )(arrays)
            for sequence in (ops.lrua_lstm, chain)
        )
    close(found, expected, 1e-11)


@either_target
@either_write
def test_derivative_matches_differences_while_no_choice_changes(shared, separate):
    arrays, options = problem(2, 3, 2, 6, 3, 4, separate), {"shared": shared, "eps": 0.05}
    inputs = gradient_problem(arrays, options)
    gradients = call("reference", "lrua_lstm_vjp", *inputs, **options)
    chosen = call("reference", "lrua_lstm", *arrays, **options).least_used
    moving = [i for i in range(10) if i != 5]

    def moved(at):
        out = call("reference", "lrua_lstm", *at[:5], arrays[5], *at[5:], **options)
        np.testing.assert_array_equal(out.least_used, chosen)
        return tuple(out[:7])

    at = tuple(arrays[i] for i in moving)
    for i, gradient in enumerate(gradients):
        direction = tuple(np.random.default_rng(i).normal(size=a.shape) * (k == i) for k, a in enumerate(at))
        expected = dot(inputs[:7], derivative(moved, at, direction))
        np.testing.assert_allclose(dot(gradient, direction[i]), expected, rtol=1e-7, atol=1e-8)


@each_backend
@each_dtype
def test_a_sequence_can_be_cut_anywhere(backend, dtype):
    """To the bit: the state that comes out is the whole state."""
    *state, gates, recurrent, heads, bias = (a.astype(dtype) for a in problem(3, 5, 2, 21, 7, 6))
    whole = call(backend, "lrua_lstm", *state, gates, recurrent, heads, bias)
    first = call(backend, "lrua_lstm", *state, gates[:, :2], recurrent, heads, bias)
    second = call(backend, "lrua_lstm", *first[2:8], gates[:, 2:], recurrent, heads, bias)
    for a, b in zip(second[2:8], whole[2:8], strict=True):
        np.testing.assert_array_equal(a, b)
    for i in (0, 1):
        np.testing.assert_array_equal(np.concatenate([first[i], second[i]], axis=1), whole[i])


@each_backend
def test_without_steps_the_state_stays(backend):
    arrays = problem(2, 0, 2, 5, 3, 4)
    out = call(backend, "lrua_lstm", *arrays)
    for a, b in zip(out[2:8], arrays[:6], strict=True):
        np.testing.assert_array_equal(a, b)
    inputs = gradient_problem(arrays, {})
    found = call(backend, "lrua_lstm_vjp", *inputs)
    for a, b in zip(found[:5], inputs[2:7], strict=True):
        np.testing.assert_array_equal(a, b)
    assert all(not a.any() for a in found[5:])


@each_backend
def test_missing_cotangents_are_zero(backend):
    cotangents, rest = (inputs := gradient_problem(problem(2, 2, 2, 5, 3, 4), {}))[:7], inputs[7:]
    for i in range(7):
        without = (None if k == i else g for k, g in enumerate(cotangents))
        zero = (0 * g if k == i else g for k, g in enumerate(cotangents))
        close(call(backend, "lrua_lstm_vjp", *without, *rest), call(backend, "lrua_lstm_vjp", *zero, *rest), 0)


@each_backend
@each_dtype
@pytest.mark.parametrize("batch", [1, 5, 19])
def test_same_bits_on_any_number_of_threads(backend, dtype, batch, monkeypatch):
    """Threads also decide how many episodes go through the steps together."""
    monkeypatch.setattr(launch, "SMALL", 0)
    arrays, options = problem(batch, 3, 3, 21, 7, 30), {"shared": False, "eps": 1e-6}
    for name, inputs in (("lrua_lstm", arrays), ("lrua_lstm_vjp", gradient_problem(arrays, options))):
        found = []
        for threads in "123":
            monkeypatch.setenv("MINIMETA_NUM_THREADS", threads)
            found.append(tuple(call(backend, name, *compare.leaves(inputs, lambda a: a.astype(dtype)), **options)))
        close(found[1:], [found[0]] * 2, 0)


@each_backend
def test_arguments_keep_their_values(backend):
    arrays = problem(2, 2, 2, 5, 3, 4)
    for name, inputs in (("lrua_lstm", arrays), ("lrua_lstm_vjp", gradient_problem(arrays, {}))):
        before = [a.copy() for a in inputs]
        call(backend, name, *inputs)
        close(list(inputs), before, 0)


@each_backend
def test_results_are_named(backend):
    assert isinstance(call(backend, "lrua_lstm", *problem(1, 1, 1, 1, 1, 1)), LRUALSTM)


def test_chosen_rows_stay_in_higher_derivatives():
    """Rows tied in usage: the gradient's gradient takes those that the sequence took."""
    *state, gates, recurrent, heads, bias = problem(2, 3, 2, 6, 3, 4)
    state = ops.LruaLstmState(*state)._replace(usage=np.zeros((2, 6)))
    v = np.random.default_rng(1).normal(size=gates.shape)

    def loss(gates):
        hidden, reads, after = ops.lrua_lstm(state, gates, recurrent, heads, bias, shared=False, eps=0.05)
        return (hidden**2).sum() + (reads**2).sum() + (after.memory**3).sum()

    expected = derivative(minimeta.grad(loss), gates, v)
    close(minimeta.hvp(loss, gates, v), expected, 1e-7)
    state = ops.LruaLstmState(*(a.astype("f") for a in state))
    recurrent, heads, bias = (a.astype("f") for a in (recurrent, heads, bias))
    single = minimeta.hvp(loss, gates.astype("f"), v.astype("f"))
    assert single.dtype == np.float32
    close(single, expected, 1e-3)


#: What is wrong, by argument: its shape, and what the error must say.
WRONG = {
    "hidden": ((4,), r"hidden.shape=\(4,\); need \[B, H\]"),
    "cell": ((2, 3), r"cell.shape=\(2, 3\).*need cell \(2, 4\)"),
    "reads": ((2, 6), r"reads.shape=\(2, 6\); need \[B, R, W\]"),
    "memory": ((2, 5, 2), r"memory.shape=\(2, 5, 2\).*need memory \(2, 5, 3\)"),
    "weights": ((2, 5, 2), r"weights.shape=\(2, 5, 2\).*need weights \(2, 2, 5\)"),
    "usage": ((5,), r"usage.shape=\(5,\).*need usage \(2, 5\)"),
    "gates": ((3, 2, 16), r"gates.shape=\(3, 2, 16\).*need gates \(2, 2, 16\)"),
    "recurrent": ((4, 16), r"recurrent.shape=\(4, 16\).*need recurrent \(10, 16\)"),
    "heads": ((4, 12), r"heads.shape=\(4, 12\).*K = 14 for keys, adds and gates or K = 8 for keys and gates"),
    "bias": ((8,), r"bias.shape=\(8,\).*need bias \(14,\)"),
}
NAMES = (*ops.LruaLstmState._fields, "gates", "recurrent", "heads", "bias")


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_named(name):
    arrays = dict(zip(NAMES, problem(2, 2, 2, 5, 3, 4), strict=True))
    shape, message = WRONG[name]
    arrays[name] = np.zeros(shape)
    with pytest.raises(ValueError, match=f"minimeta.lrua_lstm: {message}"):
        ops.lrua_lstm(ops.LruaLstmState(*list(arrays.values())[:6]), *list(arrays.values())[6:])


@pytest.mark.parametrize("sizes", [(0, 2, 5, 3, 4), (2, 6, 5, 3, 4)])
def test_sizes_out_of_range_are_named(sizes):
    steps, heads, rows, width, units = sizes
    weights = np.zeros((2, heads, rows))
    state = ops.LruaLstmState(
        np.zeros((2, units)), np.zeros((2, units)), np.zeros((2, heads, width)), np.zeros((2, rows, width)), weights,
        np.zeros((2, rows)),
    )  # fmt: skip
    emitted = 2 * heads * width + heads
    linear = np.zeros((heads * width + units, 4 * units)), np.zeros((units, emitted)), np.zeros(emitted)
    with pytest.raises(ValueError, match=f"{steps} steps, 4 units, {heads} heads and 5 rows of width 3; need one"):
        ops.lrua_lstm(state, np.zeros((2, steps, 4 * units)), *linear)
