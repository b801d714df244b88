"""Properties of the sinusoid tasks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimeta.data import DataError, SinusoidSampler


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**40), st.integers(0, 500), st.integers(1, 5))
def test_episodes_are_the_waves_they_say(shot, query, seed, first, tasks):
    sampler = SinusoidSampler(shot, query, seed=seed)
    xs, ys, xq, yq, n_way = sampler.batch(first, tasks)
    amplitude, phase = (wave[:, None, None] for wave in sampler.waves(first, tasks))
    assert n_way == 0
    assert xs.shape == ys.shape == (tasks, shot, 1)
    assert xq.shape == yq.shape == (tasks, query, 1)
    for x, y in ((xs, ys), (xq, yq)):
        assert x.dtype == y.dtype == np.float32
        assert (np.abs(x) <= 5).all()
        np.testing.assert_allclose(y, amplitude * np.sin(x - phase), atol=1e-5)


@given(st.integers(0, 2**40), st.integers(0, 500))
def test_any_chunking_gives_the_same_episodes(seed, first):
    sampler = SinusoidSampler(3, 4, seed=seed)
    whole, halves = sampler.batch(first, 4), [sampler.batch(first, 2), sampler.batch(first + 2, 2)]
    for got, *parts in zip(whole[:4], *(half[:4] for half in halves), strict=True):
        assert np.array_equal(got, np.concatenate(parts))


def test_tasks_cover_the_published_ranges_evenly():
    sampler = SinusoidSampler(5, 5, seed=3)
    amplitude, phase = sampler.waves(0, 2000)
    x = sampler.batch(0, 2000).xs
    for values, low, high in ((amplitude, 0.1, 5), (phase, 0, np.pi), (x, -5, 5)):
        counts, _ = np.histogram(values, bins=10, range=(low, high))
        assert counts.sum() == values.size
        assert (np.abs(counts - values.size / 10) < 5 * np.sqrt(values.size / 10)).all()


@pytest.mark.parametrize(("shot", "query", "message"), [(0, 5, "shot must be at least 1"), (5, 0, "query must be")])
def test_impossible_samplers_are_refused(shot, query, message):
    with pytest.raises(DataError, match=message):
        SinusoidSampler(shot, query)


def test_impossible_batches_are_refused():
    with pytest.raises(DataError, match="tasks=0"):
        SinusoidSampler(1, 1).batch(0, 0)
