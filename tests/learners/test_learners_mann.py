"""MANN and its LSTM baseline beside loops in plain NumPy, a trace by hand, and a detector of leaked labels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minimeta import data, ops, optim, tree
from minimeta.data import EpisodeSampler, SequenceSampler
from minimeta.evaluation import scores_by_presentation
from minimeta.learners import make
from minimeta.learners.model_based import base
from minimeta.learners.model_based.label_codes import CHARACTERS, STRINGS, Speech, one_hot_codes, string_codes
from minimeta.testing import check_learner
from tests.learners import plain, plain_mann

SMALL = {"way": 3, "size": 2, "hidden": 4, "rows": 5, "width": 3, "heads": 2}
#: Each of these combinations is computed in its own way: by one fused operation, step by step, the memory apart.
PATHS = [
    {"controller": controller, "feedback": feedback, "address": address}
    for controller in ("lstm", "feed-forward") for feedback in (True, False) for address in ("after", "before")
]  # fmt: skip
NETWORKS = [*PATHS, None]  # None: without a memory
each_path = pytest.mark.parametrize("path", PATHS, ids=lambda path: "-".join(map(str, path.values())))
each_network = pytest.mark.parametrize("path", NETWORKS, ids=str)
moments = st.integers(0, 4)


@st.composite
def problems(draw, path, **fixed):
    """A learner, a MANN by `path` or, None, an LSTM; parameters with noise on all; two tasks for it, in float64."""
    heads = fixed.get("heads") or draw(st.integers(1, 3))
    labels = draw(st.sampled_from(["one-hot", "strings"]))
    hyper = {"way": draw(st.integers(2, 5)), "labels": labels, "size": draw(st.integers(1, 3)),
             "hidden": draw(st.integers(1, 5))}  # fmt: skip
    if path is not None:
        hyper |= path | {
            "heads": heads, "rows": heads + draw(st.integers(1, 5)), "width": draw(st.integers(1, 4)),
            "decay": draw(st.sampled_from([0.5, 0.95])), "write_vector": draw(st.sampled_from(["separate", "key"])),
            "write_rows": draw(st.sampled_from(["all", "own"])),
        }  # fmt: skip
    learner = make("lstm" if path is None else "mann", **{**hyper, **fixed})
    rng = np.random.default_rng(draw(plain.seeds))
    n_way = draw(st.integers(2, 7 if labels == "strings" else learner.way))
    params = plain.weights(learner, rng)
    return learner, params, plain.episode(rng, way=n_way, extra=4, size=learner.size)


def codes_of(learner):
    return string_codes() if learner.labels == "strings" else np.eye(learner.way)


def plain_said(learner, params, xs, ys):
    alphabet = 5 if learner.labels == "strings" else learner.way
    return plain_mann.said(learner, params, xs, ys, codes_of(learner), alphabet)


def plain_scores(learner, params, xs, ys, n_way):
    """Of each label the log-probabilities of its characters, added."""
    said = plain_said(learner, params, xs, ys)
    return np.array([[row[code == 1].sum() for code in codes_of(learner)[:n_way]] for row in said])


def asked(xs, ys, query):
    """The support set of one task with one example more, whose label is of no matter."""
    return np.concatenate([xs, query[None]]), np.append(ys, 0)


def close(found, expected, tolerance=1e-10):
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


@each_network
@settings(max_examples=8)
@given(st.data())
def test_scores_are_the_equations(path, draws):
    learner, params, episode = draws.draw(problems(path))
    xs, ys, xq, _, n_way = episode
    presented = learner.presented(params, xs, ys, n_way)
    answers = learner.predict(params, learner.adapt(params, xs, ys, n_way), xq)
    for task in range(len(xs)):
        close(presented[task], plain_scores(learner, params, xs[task], ys[task], n_way))
        longer = asked(xs[task], ys[task], xq[task, 0])
        close(answers[task, 0], plain_scores(learner, params, *longer, n_way)[-1])


@each_path
@settings(max_examples=8)
@given(st.data())
def test_a_trace_is_what_the_network_did(path, draws):
    learner, params, episode = draws.draw(problems(path))
    inputs = learner.sequence(*episode[:2], episode.n_way)
    outputs, state = learner.outputs(params, inputs)
    traced, weights = learner.trace(params, inputs)
    assert list(weights) == ["write", "read", "usage"]
    close(traced, outputs, 1e-12)
    for task, each in enumerate(inputs):
        expected = plain_mann.walk(learner, params, each)
        close(outputs[task], expected.outputs)
        close(weights["write"][task], expected.write)
        close(weights["read"][task], expected.read)
        close(weights["usage"][task, :, 0], expected.usage)
        close(state.memory.memory[task], expected.memory[-1])
        close(state.reads[task], expected.reads[-1])


@settings(max_examples=20)
@given(st.sampled_from(NETWORKS).flatmap(lambda path: problems(path)))
def test_what_comes_in_is_each_example_with_the_label_before_it(problem):
    learner, _, (xs, ys, *_, n_way) = problem
    found, codes = learner.sequence(xs, ys, n_way), codes_of(learner)
    for each, examples, labels in zip(found, xs, ys, strict=True):
        np.testing.assert_array_equal(each, plain_mann.sequence(examples, labels, codes))
        assert not each[0, -codes.shape[1] :].any()


def one_hot_steps(learner, steps):
    """Parameters by which h of step t is (nearly) one at t alone, and so emits `steps[t]`: key, add, gate's input."""
    size = len(steps)
    lstm = learner.controller == "lstm"
    inward = 100 * np.eye(size)
    controller = {
        "w": np.concatenate([0 * inward] * 3 + [inward], axis=1) if lstm else inward,
        "u": np.zeros((learner.read_size * learner.feedback + size * lstm, size * (4 if lstm else 1))),
        # in and out gates open, nothing kept
        "b": np.repeat([700.0, -700.0, 700.0, 0.0], size) if lstm else np.zeros(size),
    }
    emitted = np.array([[*(100 * np.array(key)), *(100 * np.array(add)), gate] for key, add, gate in steps], float)
    reads = np.concatenate([np.zeros((size, learner.width)), np.eye(learner.width)])
    return {
        "controller": controller, "memory": {"w": emitted, "b": np.zeros(emitted.shape[1])},
        "out": {"w": reads, "b": np.zeros(learner.width)},
    }  # fmt: skip


def softmax(cosines):
    raised = np.exp(cosines)
    return raised / raised.sum()


@pytest.mark.parametrize("controller", ["lstm", "feed-forward"])
@pytest.mark.parametrize("feedback", [True, False])
def test_three_steps_by_hand(controller, feedback):
    """N = 4 rows of 2 numbers, one head, decay 1/2; outputs are what is read. Rows begin as (s, s), s = 1e-6."""
    learner = make("mann", hidden=3, rows=4, width=2, heads=1, decay=0.5, controller=controller, feedback=feedback)
    params = one_hot_steps(learner, [([1, 0], [1, 0], -2000), ([0, 0], [0, 1], 0), ([1, 0], [-1, 0], 2000)])
    s = eps = 1e-6

    def cosine(row):  # with the key (1, 0)
        return row[0] / math.sqrt(row[0] ** 2 + row[1] ** 2 + eps)

    # 1: gate 0. Row 0 is in use, the others tie: row 1 is erased, gets (1, 0) and nothing else does.
    first = [[s, s], [1, 0], [s, s], [s, s]]
    read_1 = softmax([cosine(row) for row in first])
    r, top = read_1[0], read_1[1]
    # 2: gate 1/2. Usage 1/2 + r, 1 + top, r, r: row 2 is erased. Half of (0, 1) goes there, half to where was read.
    #    A key of zeros reads a quarter of every row.
    second = [[s, s + r / 2], [1, top / 2], [0, r / 2 + 1 / 2], [s, s + r / 2]]
    # 3: gate 1. Usage 1/2 + r, 3/4 + top, 3/4 + r, 1/4 + r: row 3 is erased. (-1, 0) goes to where was read, a quarter
    #    to every row, and nothing to the least used as such.
    third = [[s - 1 / 4, s + r / 2], [3 / 4, top / 2], [-1 / 4, r / 2 + 1 / 2], [-1 / 4, 0]]
    read_3 = softmax([cosine(row) for row in third])

    outputs, state = learner.outputs(params, np.eye(3)[None])
    _, weights = learner.trace(params, np.eye(3)[None])
    quarter = np.full(4, 1 / 4)
    close(outputs[0], [read_1 @ first, quarter @ second, read_3 @ third], 1e-14)
    close(state.memory.memory[0], third, 1e-14)
    close(weights["write"][0, :, 0], [[0, 1, 0, 0], read_1 / 2 + [0, 0, 1 / 2, 0], quarter], 1e-14)
    close(weights["read"][0, :, 0], [read_1, quarter, read_3], 1e-14)
    used = np.array([1 / 2 + r, 3 / 4 + top, 3 / 4 + r, 1 / 4 + r])
    usage = [np.array([1 / 2, 1, 0, 0]) + read_1, used, used / 2 + quarter + read_3]
    close(weights["usage"][0, :, 0], usage, 1e-14)


@pytest.mark.parametrize("address", ["after", "before"])
@plain.drawn(10)
def test_keys_are_looked_up_after_the_write_or_before_it_and_what_is_read_is_there_after_it(address, seed):
    learner = make("mann", **SMALL, address=address)
    rng = np.random.default_rng(seed)
    params = closed(learner, plain.weights(learner, rng))
    _, state = learner.outputs(params, rng.random((1, 1, 7)))
    memory, weights = state.memory.memory[0], state.memory.weights[0]
    close(state.reads[0].reshape(2, 3), weights @ memory, 1e-14)
    alike = np.ptp(weights, axis=1) < 1e-14  # before the first write all rows are
    assert alike.all() if address == "before" else not alike.any()


def closed(learner, params):
    """With gates at 0, whatever the controller says."""
    weights = tree.map(np.copy, params["memory"])
    weights["w"][:, -learner.heads :] = 0
    weights["b"][-learner.heads :] = -1000
    return {**params, "memory": weights}


def closed_trace(learner, params, steps):
    """Of one sequence, with gates at 0: its inputs and weights [L, R, N] by name."""
    inputs = np.random.default_rng(0).random((1, steps, len(params["controller"]["w"])))
    _, weights = learner.trace(closed(learner, params), inputs)
    return inputs, {name: weight[0] for name, weight in weights.items()}


@settings(max_examples=20)
@given(st.sampled_from(PATHS).flatmap(lambda path: problems(path, heads=1, decay=0.95, write_vector="separate")))
def test_closed_gates_fill_the_memory_row_by_row(problem):
    """The row that was erased holds just what was added. Keys are zero, so that reading uses all rows alike."""
    learner, params, _ = problem
    width = learner.width
    for name in ("w", "b"):
        params["memory"][name][..., :width] = 0
    inputs, weights = closed_trace(learner, params, learner.rows)
    order = [*range(1, learner.rows), 0]  # row 0 counts as written before all others
    np.testing.assert_array_equal(weights["write"][:, 0], np.eye(learner.rows)[order])
    params = closed(learner, params)
    memory = learner.outputs(params, inputs)[1].memory.memory[0]
    for t, row in enumerate(order):
        hidden = learner.outputs(params, inputs[:, : t + 1])[1].hidden[0]
        emitted = np.tanh(hidden @ params["memory"]["w"] + params["memory"]["b"])
        close(memory[row], emitted[width : 2 * width], 1e-14)


@settings(max_examples=20)
@given(st.sampled_from(PATHS).flatmap(lambda path: problems(path)))
def test_as_many_rows_are_least_used_as_there_are_heads_however_many_tie(problem):
    learner, params, _ = problem
    _, weights = closed_trace(learner, params, 6)
    heads, shared = learner.heads, learner.write_rows == "all"
    for written in weights["write"]:
        assert np.isin(written, [0, 1]).all()
        assert written.sum(axis=1).tolist() == [heads if shared else 1] * heads
        assert np.count_nonzero(written.any(axis=0)) == heads
    first = weights["write"][0]  # all but row 0 tie
    expected = [range(1, heads + 1)] * heads if shared else [[r] for r in range(1, heads + 1)]
    assert [np.flatnonzero(row).tolist() for row in first] == [list(rows) for rows in expected]


@settings(max_examples=20)
@given(st.sampled_from(PATHS).flatmap(lambda path: problems(path)))
def test_usage_of_rows_not_written_decays_to_what_the_softmax_gives_every_row(problem):
    learner, params, _ = problem
    _, weights = closed_trace(learner, params, 8)
    usage, kept = weights["usage"][:, 0], ~weights["write"][1:].any(axis=1)
    gained = usage[1:] - learner.decay * usage[:-1]
    close(gained[kept], weights["read"][1:].sum(axis=1)[kept], 1e-14)
    close(gained[~kept], (weights["read"] + weights["write"])[1:].sum(axis=1)[~kept], 1e-14)
    # cosines lie in -1..1
    floor = learner.heads * math.exp(-1) / (math.exp(-1) + (learner.rows - 1) * math.exp(1))
    assert gained.min() > floor


def leak(learner, params, xs, ys, n_way, moment):
    """How much scores up to that moment change when every label from it on does; and the scores after it."""
    rng = np.random.default_rng(moment)
    later = np.arange(ys.shape[1]) >= moment
    other = (ys + later * rng.integers(1, n_way, ys.shape)) % n_way
    change = np.abs(learner.presented(params, xs, ys, n_way) - learner.presented(params, xs, other, n_way))
    return change[:, : moment + 1].max(), change[:, moment + 1 :].max()


def with_leak(monkeypatch):
    """The mistake: an example comes with its own label."""
    monkeypatch.setattr(base, "_sequence", lambda xs, labels: ops.concatenate([base._flat(xs), labels], axis=-1))


@each_network
@settings(max_examples=8)
@given(st.data(), moments)
def test_a_label_counts_from_the_next_example_on_and_not_before(path, draws, moment):
    learner, params, (xs, ys, *_, n_way) = draws.draw(problems(path))
    before, after = leak(learner, params, xs, ys, n_way, moment)
    assert before == 0
    assert after > 1e-6


@settings(max_examples=20)
@given(st.sampled_from(NETWORKS).flatmap(lambda path: problems(path)), moments)
def test_a_leaked_label_would_be_seen(problem, moment):
    learner, params, (xs, ys, *_, n_way) = problem
    with pytest.MonkeyPatch.context() as monkeypatch:
        with_leak(monkeypatch)
        assert leak(learner, params, xs, ys, n_way, moment)[0] > 1e-6


def trained_accuracy(steps):
    """Of a small network after so many steps on 5-way episodes: accuracy when a class comes first, and again."""
    learner = make("mann", way=5, size=10, hidden=16, rows=16, width=8, heads=1)
    training, test = (
        EpisodeSampler(data.load("glyphs", part, size=10), way=5, shot=2, query=0, shuffle_support=True)
        for part in ("train", "test")
    )
    params, optimizer = learner.init(np.random.default_rng(0)), optim.adam(1e-2)
    state = optimizer.init(params)
    for step in range(steps):
        params, state = optimizer.update(learner.meta_grad(params, training.batch(16 * step, 16)).grads, state, params)
    return scores_by_presentation(learner, params, test, 1000)[1].mean(axis=1)


def test_no_more_first_presentations_are_right_than_by_saying_a_label_not_yet_seen(monkeypatch):
    """That is (1/1 + 1/2 + ... + 1/5) / 5 = 45.7 %, soon learned. A network that is told the label is far above."""
    bound = sum(1 / i for i in range(1, 6)) / 5
    first, second = trained_accuracy(250)
    assert 0.4 < first < bound + 0.02  # 3 standard errors of 1000 episodes
    assert second > 0.3
    with_leak(monkeypatch)
    assert trained_accuracy(60)[0] > 0.8


@settings(max_examples=12)
@given(st.sampled_from(NETWORKS).flatmap(lambda path: problems(path)))
def test_every_task_and_every_query_begins_with_a_memory_of_its_own(problem):
    learner, params, episode = problem
    xs, ys, xq, _, n_way = episode
    presented, answers = learner.presented(params, xs, ys, n_way), plain.logits(learner, params, episode)
    close(learner.presented(params, xs, ys, n_way), presented, 0)  # nothing is left of the first time
    for task in range(len(xs)):
        alone = episode.tasks(slice(task, task + 1))
        close(learner.presented(params, *alone[:2], n_way)[0], presented[task], 1e-12)
        for q in range(xq.shape[1]):
            close(plain.logits(learner, params, alone._replace(xq=alone.xq[:, [q]]))[0, 0], answers[task, q], 1e-12)
            longer = asked(xs[task], ys[task], xq[task, q])
            close(learner.presented(params, *(a[None] for a in longer), n_way)[0, -1], answers[task, q], 1e-12)


def plain_loss(learner):
    def loss(params, xs, ys, xq, yq, n_way):
        """The cross-entropies of labels presented, added, and the mean of those asked for."""
        said = plain_said(learner, params, xs, ys)
        answers = [plain_said(learner, params, *asked(xs, ys, query))[-1] for query in xq]
        codes = codes_of(learner)
        return -sum(row @ codes[y] for row, y in zip(said, ys, strict=True)) - np.mean(
            [row @ codes[y] for row, y in zip(answers, yq, strict=True)]
        )

    return loss


@each_path
@settings(max_examples=2)
@given(st.data())
def test_meta_gradient_is_that_of_the_plain_loss(path, draws):
    learner, params, episode = draws.draw(problems(path))
    plain.check_meta_gradient(learner, params, episode, plain_loss(learner))


@plain.drawn(5)
def test_loss_of_the_baseline_is_the_plain_loss(seed):
    rng = np.random.default_rng(seed)
    learner = make("lstm", way=3, size=2, hidden=4)
    params, episode = plain.weights(learner, rng), plain.episode(rng, size=2)
    expected = [plain_loss(learner)(params, *task, 3) for task in zip(*episode[:4], strict=True)]
    np.testing.assert_allclose(learner.meta_loss(params, episode)[0], np.mean(expected), rtol=1e-12)


@pytest.mark.parametrize("name", ["mann", "lstm"])
@pytest.mark.parametrize(("labels", "guess"), [("one-hot", math.log(5)), ("strings", 5 * math.log(5))])
@pytest.mark.parametrize("query", [0, 3])
def test_chance_is_the_sum_over_time_and_the_mean_over_tasks(name, labels, guess, query):
    """A network that says the same of everything: 10 labels a task, and one more where there are queries."""
    learner = make(name, way=5, size=2, hidden=4, labels=labels)
    params, rng = learner.init(np.random.default_rng(0)), np.random.default_rng(1)
    params["out"] = tree.map(np.zeros_like, params["out"])
    episode = plain.episode(rng, way=4, extra=6, query=query, tasks=3, size=2)
    loss, aux = learner.meta_loss(params, episode)
    assert loss == pytest.approx((10 + (query > 0)) * guess)
    assert aux["accuracy"] == pytest.approx(1 / 4)


@pytest.mark.parametrize("name", ["mann", "lstm"])
@plain.drawn(3)
def test_bits_that_count_are_told_by_the_same_network(name, seed):
    learner = make(name, **{**(SMALL if name == "mann" else {"hidden": 4}), "way": 0, "bits": 2})
    params = plain.weights(learner, np.random.default_rng(seed))
    sequences = SequenceSampler("copy", longest=3, varied=True, bits=2, seed=seed).batch(0, 3)
    inputs, targets, mask = (a.astype(float) for a in sequences)
    loss, wrong = 0, 0
    for each, bits, counts in zip(inputs, targets, mask, strict=True):
        said = plain_mann.walk(learner, params, each).outputs[counts == 1]
        for number, bit in zip(said.ravel(), bits[counts == 1].ravel(), strict=True):
            loss -= math.log(plain.sigmoid(number if bit else -number)) / 3
            wrong += ((number > 0) != bit) / 3
    found, aux = learner.meta_loss(params, sequences._replace(inputs=inputs, targets=targets, mask=mask))
    np.testing.assert_allclose(found, loss, rtol=1e-12)
    assert aux["bit_error"] == pytest.approx(wrong)


def test_strings_are_all_strings_of_five_of_five_characters():
    codes = string_codes()
    assert codes.shape == (STRINGS, 25) == (5**5, 25)
    assert np.isin(codes, [0, 1]).all()
    assert (codes.reshape(STRINGS, CHARACTERS, 5).sum(axis=2) == 1).all()
    assert len(np.unique(codes, axis=0)) == STRINGS
    assert (codes[:5] @ codes[:5].T == 5 * np.eye(5)).all()  # the first five have no character in common


@given(plain.seeds, st.integers(1, STRINGS))
def test_scores_of_strings_are_sums_of_log_probabilities_of_characters(seed, n_way):
    rng = np.random.default_rng(seed)
    outputs = rng.normal(size=25)
    label = int(rng.integers(n_way))
    speech = Speech(string_codes(), 5, n_way, outputs)
    scores, total = speech.scores(outputs), 0
    for place, spelled in zip(outputs.reshape(5, 5), string_codes()[label].reshape(5, 5), strict=True):
        total += math.log(plain.softmax(place)[spelled.argmax()])
    assert scores.shape == (n_way,)
    np.testing.assert_allclose(scores[label], total, rtol=1e-12)
    np.testing.assert_allclose(speech.surprise(outputs, np.array(label)), -total, rtol=1e-12)


@given(plain.seeds)
def test_a_string_wins_if_and_only_if_all_its_characters_do(seed):
    rng = np.random.default_rng(seed)
    outputs, label = rng.normal(size=25), int(rng.integers(STRINGS))
    outputs += 2 * string_codes()[label]  # so that all five are often right
    said = outputs.reshape(5, 5).argmax(axis=1)
    right = (said == string_codes()[label].reshape(5, 5).argmax(axis=1)).all()
    assert (Speech(string_codes(), 5, STRINGS, outputs).scores(outputs).argmax() == label) == right


@pytest.mark.parametrize(("codes", "alphabet"), [(one_hot_codes(5), 5), (string_codes(), 5)])
def test_there_are_words_for_so_many_classes(codes, alphabet):
    for n_way in (0, len(codes) + 1):
        with pytest.raises(ValueError, match=f"n_way={n_way}; the network has words for 1 to {len(codes)} classes"):
            Speech(codes, alphabet, n_way, np.zeros(1))


def test_labels_are_drawn_from_all_strings_or_are_as_many_as_classes():
    assert make("mann", labels="strings").label_count == make("lstm", labels="strings").label_count == 3125
    assert make("mann").label_count is make("lstm").label_count is None


def test_as_many_parameters_as_in_the_specification():
    params = make("mann", size=20, way=5).init(np.random.default_rng(0))
    assert sum(leaf.size for leaf in tree.leaves(params)) == 679_729


def test_the_baseline_has_no_memory():
    learner, (xs, ys, *_) = make("lstm", way=3, size=2, hidden=4), plain.episode(np.random.default_rng(0), size=2)
    params = learner.init(np.random.default_rng(0))
    state = learner.adapt(params, xs, ys, 3).state
    assert learner.read_size == state.reads.size == 0
    assert state.memory is None
    assert params["memory"] == learner.trace(params, learner.sequence(xs, ys, 3))[1] == {}


def test_at_first_the_cell_forgets_little():
    for learner in (make("mann"), make("lstm")):
        bias = learner.init(np.random.default_rng(0))["controller"]["b"]
        np.testing.assert_array_equal(bias, np.repeat([0, 1, 0, 0], 200))
    assert not make("mann", controller="feed-forward").init(np.random.default_rng(0))["controller"]["b"].any()


@pytest.mark.parametrize(
    ("name", "hyper"),
    [
        ("mann", {}),
        ("mann", {"labels": "strings"}),
        ("mann", {"controller": "feed-forward", "write_rows": "own"}),
        ("mann", {"address": "before", "write_vector": "key"}),
        ("mann", {"feedback": False}),
        ("lstm", {}),
        ("lstm", {"labels": "strings"}),
    ],
)
def test_keeps_every_promise_of_a_learner(name, hyper):
    memory = {"rows": 8, "width": 4, "heads": 2} if name == "mann" else {}
    learner = make(name, way=3, size=10, hidden=16, **memory, **hyper)
    assert learner.order_sensitive
    assert learner.label_sensitive
    assert learner.exact_gradient
    check_learner(learner, size=10)


BAD = [
    ("mann", {"controller": "gru"}, "MANN: controller='gru'; choose from lstm, feed-forward"),
    ("mann", {"labels": "words"}, "MANN: labels='words'; choose from one-hot, strings"),
    ("mann", {"write_vector": "both"}, "MANN: write_vector='both'; choose from separate, key"),
    ("mann", {"write_rows": "first"}, "MANN: write_rows='first'; choose from all, own"),
    ("mann", {"address": "never"}, "MANN: address='never'; choose from after, before"),
    ("mann", {"heads": 4, "rows": 3}, "MANN: heads=4, rows=3; need a row for every head"),
    ("mann", {"decay": 1.0}, "MANN: decay=1.0; need 0 <= decay < 1"),
    ("mann", {"decay": -0.1}, "MANN: decay=-0.1; need 0 <= decay < 1"),
    ("mann", {"way": 1}, "MANN: way=1; need 2 classes or more, or 0 for sequences of bits"),
    ("lstm", {"way": 1}, "LSTM: way=1; need 2 classes or more, or 0 for sequences of bits"),
    ("lstm", {"controller": "feed-forward"}, "LSTM: controller='feed-forward'; without a memory it must be 'lstm'"),
    *[("mann", {n: 0}, f"MANN: {n}=0; need {n} >= 1") for n in ("rows", "width", "heads", "size", "channels")],
    *[("lstm", {n: 0}, f"LSTM: {n}=0; need {n} >= 1") for n in ("hidden", "bits")],
]


def test_bad_settings_are_named():
    for name, hyper, message in BAD:
        with pytest.raises(ValueError, match=message):
            make(name, **hyper)


def test_classes_the_network_has_no_words_for_are_refused():
    learner, bits = make("mann", **SMALL), make("mann", **{**SMALL, "way": 0})
    xs, ys = np.zeros((1, 4, 2, 2, 1)), np.arange(4)[None]
    with pytest.raises(ValueError, match="n_way=4; the network has words for 1 to 3 classes"):
        learner.adapt(learner.init(np.random.default_rng(0)), xs, ys, 4)
    with pytest.raises(ValueError, match="MANN: way=0; a network for sequences of bits has no classes"):
        bits.presented(bits.init(np.random.default_rng(0)), xs, ys, 4)
