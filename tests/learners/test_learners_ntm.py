"""The Neural Turing Machine beside loops over rows and heads; what it is to do exactly; and what no memory could do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minimeta
from minimeta import optim, tree
from minimeta.data import Sequences, SequenceSampler
from minimeta.learners import make
from minimeta.learners.base import bit_errors, chunked_meta_grad
from minimeta.learners.model_based.label_codes import string_codes
from minimeta.learners.model_based.ntm import address, rotate, write
from minimeta.testing import check_grads, check_learner
from tests.learners import plain, plain_ntm

SMALL: dict[str, Any] = {"way": 0, "bits": 3, "hidden": 5, "rows": 6, "width": 3}
OFF, ON = -1000.0, 1000.0  # emitted for a gate or a share that is to be exactly 0 or 1

controllers = pytest.mark.parametrize("controller", ["lstm", "feed-forward"])
orders = pytest.mark.parametrize("order", ["read-write", "write-read"])
heads = pytest.mark.parametrize(("reads", "writes", "shift"), [(1, 1, 1), (2, 3, 2), (3, 2, 0)])


def learner_of(**hyper):
    return make("ntm", **{**SMALL, **hyper})


def weights(learner, seed):
    """Parameters by which heads do not all do nearly the same."""
    params = plain.weights(learner, np.random.default_rng(seed))
    return {**params, "memory": tree.map(lambda w: 2 * w, params["memory"])}


def sequences_of(seed, tasks=3, longest=3, task="repeat-copy"):
    repeats = 2 if task == "repeat-copy" else 1
    batch = SequenceSampler(task, longest, varied=True, repeats=repeats, bits=3, seed=seed).batch(0, tasks)
    return tree.map(lambda array: array.astype(np.float64), batch)


def example(seed, **hyper):
    learner = learner_of(**hyper)
    return learner, weights(learner, seed), sequences_of(seed)


def emitted(key, beta, gate, shifts, gamma):
    """Of one head, in a batch of one."""
    return np.array([*key, beta, gate, *shifts, gamma])[None, None]


@controllers
@orders
@heads
@plain.drawn(3)
def test_outputs_and_weights_equal_loops(controller, order, reads, writes, shift, seed):
    learner, params, sequences = example(
        seed, controller=controller, order=order, reads=reads, writes=writes, shift=shift
    )
    found, _ = learner.outputs(params, sequences.inputs)
    traced, traces = learner.trace(params, sequences.inputs)
    assert set(traces) == {"read", "write"}
    for task, inputs in enumerate(sequences.inputs):
        said, weights = plain_ntm.run(learner, params, inputs)
        np.testing.assert_allclose(found[task], said, rtol=0, atol=1e-10)
        np.testing.assert_allclose(traced[task], said, rtol=0, atol=1e-10)
        for kind, expected in weights.items():
            np.testing.assert_allclose(traces[kind][task], expected, rtol=0, atol=1e-10)


@controllers
@plain.drawn(3)
def test_going_on_from_a_state_is_the_whole_sequence(controller, seed):
    learner, params, (inputs, _, _) = example(seed, controller=controller)
    whole, end = learner.outputs(params, inputs)
    first, middle = learner.outputs(params, inputs[:, :2])
    second, last = learner.outputs(params, inputs[:, 2:], middle)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), whole, rtol=0, atol=1e-12)
    for found, expected in zip(tree.leaves(last), tree.leaves(end), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_the_order_of_reading_and_writing_matters():
    _, params, (inputs, _, _) = example(0)
    first, second = (learner_of(order=order).outputs(params, inputs)[0] for order in ("read-write", "write-read"))
    assert np.abs(first - second).max() > 1e-3


@given(st.data())
def test_a_shift_rotates_one_row_exactly(data):
    rows = data.draw(st.integers(1, 12), "rows")
    reach = data.draw(st.integers(0, min(3, (rows - 1) // 2)), "reach")
    by, at = data.draw(st.integers(-reach, reach), "by"), data.draw(st.integers(0, rows - 1), "at")
    rng = np.random.default_rng(data.draw(plain.seeds, "seed"))
    before, expected = np.eye(rows)[at], np.eye(rows)[(at + by) % rows]
    assert np.array_equal(rotate(before, np.eye(2 * reach + 1)[by + reach]), expected)
    head = emitted(rng.standard_normal(3), rng.standard_normal(), OFF, ON * np.eye(2 * reach + 1)[by + reach], OFF)
    found = address(head, rng.standard_normal((1, rows, 3)), before[None, None], reach)
    np.testing.assert_allclose(found[0, 0], expected, rtol=0, atol=1e-14)


@given(st.integers(1, 8), st.integers(1, 5), plain.seeds)
def test_full_erasure_and_an_addition_replace_one_row_and_no_other(rows, width, seed):
    rng = np.random.default_rng(seed)
    memory, vector, at = rng.standard_normal((1, rows, width)), rng.standard_normal(width), rng.integers(rows)
    found = write(memory, np.eye(rows)[[[at]]], np.ones((1, 1, width)), vector[None, None])
    memory[0, at] = vector
    assert np.array_equal(found, memory)


@given(st.integers(1, 4), plain.seeds)
def test_all_heads_erase_before_any_adds(writes, seed):
    rng = np.random.default_rng(seed)
    memory, add, at = rng.standard_normal((1, 5, 3)), rng.standard_normal((1, writes, 3)), rng.integers(5)
    one_row = np.eye(5)[[[at] * writes]]
    found = write(memory, one_row, np.ones((1, writes, 3)), add)[0, at]
    np.testing.assert_allclose(found, add[0].sum(axis=0), rtol=0, atol=1e-12)
    many_rows, erase = rng.dirichlet(np.ones(5), (1, writes)), rng.random((1, writes, 3))
    found = write(memory, many_rows, erase, add)[0]
    np.testing.assert_allclose(found, plain_ntm.write(memory[0], many_rows[0], erase[0], add[0]), rtol=0, atol=1e-12)


@given(st.integers(0, 5), st.floats(0.01, 100), plain.seeds)
def test_a_strong_key_finds_its_row_and_a_weak_one_all(row, length, seed):
    rng = np.random.default_rng(seed)
    memory, before = rng.standard_normal((1, 6, 4)), rng.dirichlet(np.ones(6))[None, None]
    strong, weak = (
        address(emitted(length * memory[0, row], beta, ON, [0, ON, 0], OFF), memory, before, 1)[0, 0]
        for beta in (1e9, OFF)
    )
    np.testing.assert_allclose(strong, np.eye(6)[row], rtol=0, atol=1e-12)
    np.testing.assert_allclose(weak, np.full(6, 1 / 6), rtol=0, atol=1e-12)


@settings(max_examples=200)
@given(st.data())
def test_weightings_sum_to_one_whatever_is_emitted(data):
    """Zero rows, zero keys, no weights before and magnitudes far from 1: no NaN, in gradients neither."""
    dtype, smallest, largest = data.draw(st.sampled_from([(np.float32, -30, 8), (np.float64, -100, 30)]), "dtype")
    rows, width, shift = data.draw(st.tuples(st.integers(3, 9), st.integers(1, 4), st.integers(0, 1)), "sizes")
    powers = st.none() | st.sampled_from([-1, 0, 1]) | st.integers(smallest, largest)
    rng = np.random.default_rng(data.draw(plain.seeds, "seed"))
    drawn = data.draw(st.lists(powers, min_size=6, max_size=6), "powers of ten")
    *parts, memory = (0.0 if power is None else 10.0**power for power in drawn)
    sizes = np.repeat(parts, [width, 1, 1, 2 * shift + 1, 1])
    memory = memory * rng.standard_normal((2, rows, width)) * rng.integers(2, size=(2, rows, 1))
    before = rng.dirichlet(np.full(rows, data.draw(st.sampled_from([0.01, 1.0]), "spread")), (2, 3))
    before[0, 0] = 0
    arrays = [a.astype(dtype) for a in (sizes * rng.standard_normal((2, 3, len(sizes))), memory, before)]
    found = address(*arrays, shift)
    assert found.dtype == dtype
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(axis=-1), 1, rtol=0, atol=10 * np.finfo(dtype).eps)
    mix = rng.standard_normal(found.shape).astype(dtype)
    for gradient in minimeta.grad(lambda arrays: (address(*arrays, shift) * mix).sum())(arrays):
        assert np.isfinite(gradient).all()


@controllers
@orders
@settings(max_examples=5)
@given(st.sampled_from([1e-3, 1.0, 10.0, 1e6]), plain.seeds)
def test_no_weights_make_a_network_say_nan(controller, order, scale, seed):
    learner = learner_of(controller=controller, order=order, reads=2, writes=2)
    params = tree.map(lambda w: np.float32(scale) * w, learner.init(np.random.default_rng(seed)))
    sequences = SequenceSampler("copy", longest=6, bits=3, seed=seed).batch(0, 2)
    said, weights = learner.trace(params, sequences.inputs)
    for weighting in weights.values():
        np.testing.assert_allclose(weighting.sum(axis=-1), 1, rtol=0, atol=2e-6)
    # with enormous weights the gradient itself is beyond float32
    grads = learner.meta_grad(params, sequences).grads if scale <= 10 else {}
    for leaf in tree.leaves((said, grads)):
        assert leaf.dtype == np.float32
        assert np.isfinite(leaf).all()


@controllers
@orders
@plain.drawn(1)
def test_gradient_equals_finite_differences(controller, order, seed):
    learner, params, sequences = example(seed, controller=controller, order=order, reads=2, writes=2)
    for name in params:

        def loss(part, name=name):
            return learner.meta_loss({**params, name: part}, sequences)[0]

        # the cosine of a row that nobody has written to, 1e-6 long, bends fast
        check_grads(loss, [params[name]], order=1, eps=1e-6)


@plain.drawn(5)
def test_loss_and_errors_are_of_the_bits_that_are_due(seed):
    learner, params, sequences = example(seed)
    losses, errors = [], []
    for inputs, targets, mask in zip(*sequences, strict=True):
        due, said = targets[mask == 1], plain.sigmoid(plain_ntm.run(learner, params, inputs)[0][mask == 1])
        losses.append(-np.log(np.where(due == 1, said, 1 - said)).sum())
        errors.append(((said > 0.5) != (due == 1)).sum())
    loss, aux = learner.meta_loss(params, sequences)
    np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-12)
    assert aux["bit_error"] == np.mean(errors)


@plain.drawn(5)
def test_nothing_else_has_influence(seed):
    learner, params, sequences = example(seed)
    noise = np.random.default_rng(seed).standard_normal(sequences.targets.shape)
    disturbed = sequences._replace(targets=sequences.targets + noise * (1 - sequences.mask[..., None]))
    assert not np.array_equal(disturbed.targets, sequences.targets)
    found, expected = (tree.leaves(learner.meta_grad(params, given)) for given in (disturbed, sequences))
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


@plain.drawn(20)
def test_each_wrong_bit_that_is_due_counts_once(seed):
    rng = np.random.default_rng(seed)
    sequences = sequences_of(seed, task="priority-sort")
    flipped = rng.integers(2, size=sequences.targets.shape)
    signs = 2 * np.abs(sequences.targets - flipped) - 1
    found = bit_errors(signs * rng.uniform(0.01, 100, signs.shape), sequences)
    assert found.tolist() == [flips[mask == 1].sum() for flips, mask in zip(flipped, sequences.mask, strict=True)]


@plain.drawn(5)
def test_a_sequence_is_alone_and_padding_is_nothing(seed):
    """A batch's loss, errors and gradient are means over its sequences, each trimmed to its length or made longer."""
    learner, params, sequences = example(seed)
    sampler = SequenceSampler("repeat-copy", 3, varied=True, repeats=2, bits=3, seed=seed)
    singles = [tree.map(lambda a: a.astype(np.float64), sampler.batch(i, 1)) for i in range(3)]
    longer = Sequences(*(np.pad(a, ((0, 0), (0, 4), (0, 0))[: a.ndim]) for a in sequences))
    expected = learner.meta_grad(params, sequences)
    means = tree.map(lambda *leaves: sum(leaves) / 3, *(learner.meta_grad(params, single) for single in singles))
    for found in (means, learner.meta_grad(params, longer), chunked_meta_grad(learner, params, sequences, chunk=2)):
        for leaf, wanted in zip(tree.leaves(found), tree.leaves(expected), strict=True):
            np.testing.assert_allclose(leaf, wanted, rtol=0, atol=1e-10)
    said = learner.outputs(params, sequences.inputs)[0]
    turned = learner.outputs(params, sequences.inputs[::-1])[0]
    np.testing.assert_allclose(turned[::-1], said, rtol=0, atol=1e-12)
    np.testing.assert_allclose(learner.outputs(params, longer.inputs)[0][:, :-4], said, rtol=0, atol=1e-12)


@controllers
@pytest.mark.parametrize("labels", ["one-hot", "strings"])
@plain.drawn(3)
def test_an_episode_is_a_sequence_with_each_label_one_step_late(controller, labels, seed):
    learner = learner_of(way=4, size=3, labels=labels, controller=controller)
    rng = np.random.default_rng(seed)
    params, episode = weights(learner, seed), plain.episode(rng, size=3)  # 3 of the 4 classes
    codes = (np.eye(4) if labels == "one-hot" else string_codes())[:3].astype(np.float64)
    alphabet = 4 if labels == "one-hot" else 5

    def scores(said):
        characters = [np.log(plain.softmax(part)) for part in said.reshape(-1, alphabet)]
        return codes @ np.concatenate(characters)

    losses, hits = [], []
    presented, answered = learner.presented(params, *episode[:2], 3), plain.logits(learner, params, episode)
    for task, (xs, ys, xq, yq) in enumerate(zip(*episode[:4], strict=True)):
        late = [np.zeros(codes.shape[1]), *codes[ys]]
        support = [np.concatenate([x.ravel(), label]) for x, label in zip(xs, late[:-1], strict=True)]
        np.testing.assert_array_equal(learner.sequence(episode.xs, episode.ys, 3)[task], support)
        told = [scores(said) for said in plain_ntm.run(learner, params, np.array(support))[0]]
        asked = [
            scores(plain_ntm.run(learner, params, np.array([*support, np.concatenate([x.ravel(), late[-1]])]))[0][-1])
            for x in xq
        ]
        np.testing.assert_allclose(presented[task], told, rtol=0, atol=1e-10)
        np.testing.assert_allclose(answered[task], asked, rtol=0, atol=1e-10)
        of_told, of_asked = ([s[y] for s, y in zip(*pair, strict=True)] for pair in ((told, ys), (asked, yq)))
        losses.append(-np.sum(of_told) - np.mean(of_asked))
        hits += [s.argmax() == y for s, y in zip([*told, *asked], [*ys, *yq], strict=True)]
    loss, aux = learner.meta_loss(params, episode)
    np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-12)
    np.testing.assert_allclose(aux["accuracy"], np.mean(hits), rtol=1e-12)


def test_learns_to_copy_by_its_memory_alone():
    """The controller has no state: whatever it says of bits that it no longer sees it has written and read."""
    learner = make("ntm", way=0, bits=2, controller="feed-forward", hidden=16, rows=8, width=4)
    sampler = SequenceSampler("copy", longest=3, bits=2, seed=1)
    params, optimizer = learner.init(np.random.default_rng(1)), optim.adam(1e-2)
    state, first = optimizer.init(params), learner.meta_loss(params, sampler.batch(0, 64))[0]
    for step in range(100):
        grads = learner.meta_grad(params, sampler.batch(16 * step, 16)).grads
        params, state = optimizer.update(grads, state, params)
    loss, aux = learner.meta_loss(params, sampler.batch(10_000, 64))
    assert first > 4  # log 2 for each of 6 bits is 4.16
    assert loss < 1
    assert aux["bit_error"] < 0.1


def test_keeps_every_promise_of_a_learner():
    learner = make("ntm", way=3, size=14, hidden=16, rows=8, width=4)
    assert learner.order_sensitive
    assert learner.label_sensitive
    assert learner.exact_gradient
    check_learner(learner, size=14)


@plain.drawn(20)
def test_first_weights_are_three_times_those_of_a_layer_and_cells_forget_little(seed):
    learner = learner_of(hidden=16)
    params = learner.init(np.random.default_rng(seed))
    controller, bound = params["controller"], 3 / np.sqrt(3 + 2 + 3 + 16)
    assert 0.97 * bound < np.abs(np.concatenate([controller["w"], controller["u"]])).max() <= bound
    assert 0.97 * 3 / 4 < np.abs(params["memory"]["w"]).max() <= 3 / 4
    assert np.abs(params["out"]["w"]).max() <= 1 / np.sqrt(16 + 3)
    assert np.array_equal(controller["b"], np.repeat([0, 1, 0, 0], 16))
    assert {leaf.dtype for leaf in tree.leaves(params)} == {np.dtype(np.float32)}


def test_has_the_parameters_of_its_equations():
    """The paper counts 17,162 for this setting, and does not say of what."""
    params = make("ntm", way=0, controller="feed-forward").init(np.random.default_rng(0))
    count = {name: sum(leaf.size for leaf in tree.leaves(part)) for name, part in params.items()}
    a_head, vectors = 20 + 1 + 1 + 3 + 1, 2 * 20
    assert count == {
        "controller": (8 + 2 + 20 + 1) * 100,
        "memory": (100 + 1) * (2 * a_head + vectors),
        "out": (100 + 20 + 1) * (8 + 1),
    }
    assert sum(count.values()) == 13_481


@pytest.mark.parametrize(
    ("hyper", "message"),
    [
        ({"order": "both"}, "order='both'; choose from read-write, write-read"),
        ({"controller": "gru"}, "controller='gru'; choose from lstm, feed-forward"),
        ({"labels": "words"}, "labels='words'; choose from one-hot, strings"),
        ({"shift": 3}, r"shift=3, rows=6; need 2 shift \+ 1 <= rows"),
        ({"shift": -1}, "shift=-1; need shift >= 0"),
        ({"way": 1}, "way=1; need 2 classes or more, or 0 for sequences of bits"),
        ({"way": -1}, "way=-1; need way >= 0"),
        *(({name: 0}, f"{name}=0; need {name} >= 1") for name in ("rows", "width", "reads", "writes", "hidden")),
    ],
)
def test_unknown_settings_are_named(hyper, message):
    with pytest.raises(ValueError, match=f"NTM: {message}"):
        learner_of(**hyper)


def test_classes_that_it_has_no_words_for_are_refused():
    xs, ys = np.zeros((1, 3, 3, 3, 1)), np.array([[0, 1, 2]])
    for way, message in ((0, "NTM: way=0; a network for sequences"), (2, "n_way=3; the network has words for 1 to 2")):
        learner = learner_of(way=way, size=3)
        with pytest.raises(ValueError, match=message):
            learner.adapt(learner.init(np.random.default_rng(0)), xs, ys, 3)


@pytest.mark.parametrize(("hyper", "bits"), [({"way": 0, "bits": 8}, 3), ({"way": 3, "size": 3}, 8)])
def test_sequences_of_other_bits_are_refused(hyper, bits):
    learner = learner_of(**hyper)
    sequences = SequenceSampler("copy", 2, bits=bits).batch(0, 1)
    with pytest.raises(ValueError, match=f"sequences of {bits} bits need way=0, bits={bits}"):
        learner.meta_loss(learner.init(np.random.default_rng(0)), sequences)
