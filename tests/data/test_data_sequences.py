"""Properties of the sequences of bits: what is due follows from what came in, by a decoder that sees nothing else."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minimeta.data import DataError, SequenceSampler

COPY, REPEAT, RECALL, SORT = TASKS = ("copy", "repeat-copy", "associative-recall", "priority-sort")


def samplers(tasks=TASKS, least_bits=1):
    return st.sampled_from(tasks).flatmap(lambda task: samplers_of(task, least_bits))


def samplers_of(task, least_bits):
    return st.builds(
        SequenceSampler, st.just(task), st.integers(2, 8), varied=st.booleans(),
        repeats=st.integers(1, 5 if task == REPEAT else 1), bits=st.integers(least_bits, 9), seed=st.integers(0, 2**40),
    )  # fmt: skip


numbers = st.integers(0, 500)


def alone(sampler, number):
    """Sequence `number` without padding: what comes in [L, bits + 2], and what is due [L', bits + 1]."""
    inputs, targets, mask = (array[0] for array in sampler.batch(number, 1))
    return inputs[mask == 0], targets[mask == 1]


def decoded(sampler, told):
    """The vectors [n, bits] without the step of marks at the end, and the marks of all steps [L, 2]."""
    return told[:-1, : sampler.bits], told[:, sampler.bits :]


def items_told(sampler, told):
    """Of associative recall: the items in their order, and the one asked for."""
    vectors, marks = told[:, : sampler.bits], told[:, sampler.bits :]
    begins, asks = np.flatnonzero(marks[:, 0]), np.flatnonzero(marks[:, 1])
    ends = [*begins[1:], asks[0]]
    items = [vectors[begin + 1 : end].tolist() for begin, end in zip(begins, ends, strict=True)]
    return items, vectors[asks[0] + 1 : asks[1]].tolist()


@given(samplers(), numbers)
def test_a_number_is_the_same_sequence_in_any_batch(sampler, first):
    inputs, targets, mask = sampler.batch(first, 4)
    lengths = []
    for i in range(4):
        single = sampler.batch(first + i, 1)
        lengths.append(single.mask.shape[1])
        for whole, one in zip((inputs, targets, mask), single, strict=True):
            assert np.array_equal(whole[i, : lengths[i]], one[0])
            assert not whole[i, lengths[i] :].any()
    assert inputs.shape[1] == max(lengths)


@given(samplers(least_bits=8), numbers)
def test_only_seed_and_number_decide(sampler, number):
    options = {name: getattr(sampler, name) for name in ("varied", "repeats", "bits")}
    twin = SequenceSampler(sampler.task, sampler.longest, **options, seed=sampler.seed)
    other = SequenceSampler(sampler.task, sampler.longest, **options, seed=sampler.seed + 1)
    sampler.batch(number + 1, 2)  # leaves no trace
    bits = [alone(one, number)[0].tobytes() for one in (sampler, twin)]
    assert bits[0] == bits[1]
    series = [one.batch(number, 5).inputs.tobytes() for one in (sampler, other)]
    series.append(sampler.batch(number + 1, 5).inputs.tobytes())
    assert len(set(series)) == 3


@given(samplers(), numbers, st.integers(1, 4))
def test_shapes_and_what_the_mask_says(sampler, first, tasks):
    batch = sampler.batch(first, tasks)
    length = batch.mask.shape[1]
    assert batch.inputs.shape == (tasks, length, sampler.bits + 2)
    assert batch.targets.shape == (tasks, length, sampler.bits + 1)
    assert batch.mask.shape == (tasks, length)
    assert {array.dtype for array in batch} == {np.dtype(np.float32)}
    for inputs, targets, mask in zip(*batch, strict=True):
        begin, due = int(mask.argmax()), int(mask.sum())
        assert np.array_equal(mask, [0] * begin + [1] * due + [0] * (length - begin - due))
        assert inputs[begin - 1].any()  # a mark comes before what is due, and nothing after it
        assert not inputs[begin:].any()
        assert not targets[mask == 0].any()
        assert np.isin(targets, (0, 1)).all()
        assert np.isin(inputs[:, : sampler.bits], (0, 1)).all()


@given(samplers([COPY]), numbers)
def test_copy_says_what_came(sampler, number):
    told, due = alone(sampler, number)
    vectors, marks = decoded(sampler, told)
    assert np.array_equal(due[:, :-1], vectors)
    assert not due[:, -1].any()
    assert np.array_equal(marks, [(0, 0)] * len(vectors) + [(1, 0)])
    assert not told[-1, : sampler.bits].any()


@given(samplers([REPEAT]), numbers)
def test_repeat_copy_says_it_as_often_as_the_mark_says_and_ends(sampler, number):
    told, due = alone(sampler, number)
    vectors, marks = decoded(sampler, told)
    assert np.array_equal(marks[:, 0], [0] * len(vectors) + [1])
    assert not marks[:-1, 1].any()
    repeats = round(10 * float(marks[-1, 1]))
    assert marks[-1, 1] == np.float32(repeats / 10)
    assert 1 <= repeats <= sampler.repeats
    assert sampler.varied or repeats == sampler.repeats
    assert np.array_equal(due[:-1, :-1], np.concatenate([vectors] * repeats))
    assert np.array_equal(due[:, -1], [0] * (repeats * len(vectors)) + [1])
    assert not due[-1, :-1].any()


@given(samplers([RECALL]), numbers)
def test_recall_says_the_item_after_the_one_asked_for(sampler, number):
    told, due = alone(sampler, number)
    items, asked = items_told(sampler, told)
    assert {len(item) for item in (*items, asked)} == {3}
    assert len(told) == 4 * len(items) + 5  # each with its mark, then one between two
    assert not told[told[:, sampler.bits :].any(axis=1), : sampler.bits].any()
    assert told[:, sampler.bits :].sum() == len(items) + 2
    # few bits make equal items, and then any of those that follow one may be meant
    assert due[:, :-1].tolist() in [after for item, after in pairwise(items) if item == asked]
    assert not due[:, -1].any()


@given(samplers([SORT]), numbers)
def test_sort_says_the_four_fifths_with_the_highest_priority(sampler, number):
    told, due = alone(sampler, number)
    vectors, marks = decoded(sampler, told)
    assert np.array_equal(marks[:, 0], [0] * len(vectors) + [1])
    priorities = marks[:-1, 1].tolist()
    assert (np.abs(priorities) <= 1).all()
    ranked = sorted(zip(priorities, vectors.tolist(), strict=True), reverse=True)
    expected = next(n for n in range(len(vectors) + 1) if 5 * n >= 4 * len(vectors))
    assert due[:, :-1].tolist() == [vector for _, vector in ranked[:expected]]
    assert not due[:, -1].any()


def items_of(sampler, number):
    told, _ = alone(sampler, number)
    return len(items_told(sampler, told)[0]) if sampler.task == RECALL else len(told) - 1


@pytest.mark.parametrize("task", TASKS)
@settings(max_examples=20)
@given(st.integers(2, 12), st.integers(0, 2**40), numbers)
def test_without_variation_the_length_is_the_longest(task, longest, seed, number):
    assert items_of(SequenceSampler(task, longest, seed=seed), number) == longest


@pytest.mark.parametrize(("task", "shortest"), [(COPY, 1), (REPEAT, 1), (RECALL, 2), (SORT, 1)])
def test_varied_lengths_cover_the_range_evenly(task, shortest):
    sampler = SequenceSampler(task, longest=6, varied=True, bits=2)
    found = np.bincount([items_of(sampler, number) for number in range(600)])
    assert not found[:shortest].any()
    assert_even(found[shortest:], 7 - shortest)


def test_varied_repeats_cover_the_range_evenly():
    sampler = SequenceSampler(REPEAT, longest=3, varied=True, repeats=4, bits=2)
    marks = [10 * alone(sampler, number)[0][-1, -1] for number in range(400)]
    assert_even(np.bincount(np.round(marks).astype(int))[1:], 4)


def test_any_item_but_the_last_is_asked_for():
    sampler = SequenceSampler(RECALL, longest=6)
    told = [items_told(sampler, alone(sampler, number)[0]) for number in range(400)]
    assert_even(np.bincount([items.index(asked) for items, asked in told]), 5)


@pytest.mark.parametrize("task", TASKS)
def test_every_bit_is_one_half_of_the_time(task):
    sampler = SequenceSampler(task, longest=12, bits=3)
    told = [alone(sampler, number)[0] for number in range(150)]
    vectors = np.concatenate([one[1:4] if task == RECALL else one[:-1] for one in told])[:, :3]
    assert_even(vectors.sum(axis=0) * 2, 3, len(vectors) * 3)


def test_priorities_cover_their_range_evenly():
    sampler = SequenceSampler(SORT, longest=10)
    priorities = np.concatenate([alone(sampler, number)[0][:-1, -1] for number in range(100)])
    assert_even(np.histogram(priorities, bins=8, range=(-1, 1))[0], 8, 1000)


def assert_even(counts, kinds, total=None):
    total = counts.sum() if total is None else total
    assert len(counts) == kinds
    assert (np.abs(counts - total / kinds) < 5 * np.sqrt(total / kinds)).all(), counts


@given(samplers(), st.slices(4))
def test_some_of_a_batch(sampler, which):
    batch = sampler.batch(0, 4)
    for whole, part in zip(batch, batch.tasks(which), strict=True):
        assert np.array_equal(part, whole[which])


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ("sort", {}, "unknown task 'sort'; choose from copy, repeat-copy, associative-recall, priority-sort"),
        (COPY, {"longest": 0}, "copy: longest must be at least 1, got 0"),
        (RECALL, {"longest": 1}, "associative-recall: longest must be at least 2, got 1"),
        (REPEAT, {"repeats": 0}, "repeat-copy: repeats must be at least 1, got 0"),
        (COPY, {"repeats": 2}, "copy: repeats=2; only repeat-copy has any"),
        (SORT, {"bits": 0}, "priority-sort: bits must be at least 1, got 0"),
    ],
)
def test_impossible_samplers_are_refused(task, options, message):
    with pytest.raises(DataError, match=message):
        SequenceSampler(task, **{"longest": 5, **options})


@pytest.mark.parametrize(("first", "tasks"), [(-1, 1), (0, 0)])
def test_impossible_batches_are_refused(first, tasks):
    with pytest.raises(DataError, match=f"first={first}, tasks={tasks}"):
        SequenceSampler("copy", longest=2).batch(first, tasks)
