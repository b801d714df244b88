"""Layers against plain NumPy, task by task: shared and fast weights, batch statistics and those given."""

from __future__ import annotations

import numpy as np
import pytest

from minimeta import layers, ops
from tests.learners import plain

TASKS, FILTERS = 2, 3


def of_task(values, task):
    """What one task gets: the values of all, or its own where there is an axis of tasks more than `axes`."""
    axes = {"w": 4, "gamma": 1, "beta": 1, "mean": 1, "var": 1}
    return {name: array[task] if array.ndim > axes[name] else array for name, array in values.items()}


def block_case(seed, fast, per_task):
    """Images, weights (each task its own if `fast`) and statistics (likewise if `per_task`)."""
    rng = np.random.default_rng(seed)
    channels = int(rng.integers(1, 3))
    x = rng.standard_normal((TASKS, 4, 7, 6, channels))
    own, given_own = ([TASKS] * flag for flag in (fast, per_task))
    params = {
        "w": rng.standard_normal((*own, 3, 3, channels, FILTERS)),
        "gamma": rng.standard_normal((*own, FILTERS)),  # of any sign: ReLU and pooling see the sign
        "beta": rng.standard_normal((*own, FILTERS)),
    }
    statistics = {
        "mean": rng.standard_normal((*given_own, FILTERS)),
        "var": rng.uniform(0.5, 2.0, (*given_own, FILTERS)),
    }
    return x, params, statistics


@pytest.mark.parametrize("fast", [False, True], ids=["shared", "fast"])
@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize("padding", [0, 1])
@plain.drawn(10)
def test_a_conv_block_normalises_each_task_by_its_batch(fast, pool, padding, seed):
    x, params, _ = block_case(seed, fast, False)
    found, statistics = layers.conv_block(params, x, padding=padding, pool=pool)
    for t in range(TASKS):
        y, seen = plain.blocks(x[t], {"it": of_task(params, t)}, None, padding, pool)
        np.testing.assert_allclose(found[t], y, rtol=0, atol=1e-12)
        for name in ("mean", "var"):
            np.testing.assert_allclose(statistics[name][t], seen["it"][name], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("fast", [False, True], ids=["shared", "fast"])
@pytest.mark.parametrize("per_task", [False, True], ids=["for all", "per task"])
@pytest.mark.parametrize("pool", [True, False])
@plain.drawn(10)
def test_a_conv_block_normalises_by_statistics_given(fast, per_task, pool, seed):
    """Folded into the convolution, they give what batch norm by its definition gives."""
    x, params, given = block_case(seed, fast, per_task)
    for padding in (0, 1):
        found, statistics = layers.conv_block(params, x, given, padding=padding, pool=pool)
        assert statistics is given
        for t in range(TASKS):
            y, _ = plain.blocks(x[t], {"it": of_task(params, t)}, {"it": of_task(given, t)}, padding, pool)
            np.testing.assert_allclose(found[t], y, rtol=0, atol=1e-12)


@pytest.mark.parametrize("pool", [True, False])
@plain.drawn(10)
def test_a_norm_block_is_a_conv_block_after_its_convolution(pool, seed):
    x, params, given = block_case(seed, False, True)
    maps = np.stack([plain.conv(task, params["w"]) for task in x])
    for statistics in (None, given):
        found, seen = layers.norm_block(params, maps, statistics, pool=pool)
        expected, expected_seen = layers.conv_block(params, x, statistics, pool=pool)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
        for name in ("mean", "var"):
            np.testing.assert_allclose(seen[name], expected_seen[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(TASKS, 6), (TASKS, 2, 3), (TASKS, 2, 3, 2)])
@plain.drawn(10)
def test_a_norm_block_takes_any_number_of_axes(shape, seed):
    """Fully connected layers have one between tasks and channels; the result is that for images of one row."""
    rng = np.random.default_rng(seed)
    values, params = rng.standard_normal((*shape, FILTERS)), {"beta": rng.standard_normal((TASKS, FILTERS))}
    given = {"mean": rng.standard_normal((TASKS, FILTERS)), "var": rng.uniform(0.5, 2.0, (TASKS, FILTERS))}
    for statistics in (None, given):
        found, seen = layers.norm_block(params, values, statistics, pool=False)
        for t in range(TASKS):
            rows = values[t].reshape(-1, FILTERS)
            own = (rows.mean(0), rows.var(0)) if statistics is None else (given["mean"][t], given["var"][t])
            expected = np.maximum((rows - own[0]) / np.sqrt(own[1] + 1e-5) + params["beta"][t], 0)
            np.testing.assert_allclose(found[t].reshape(-1, FILTERS), expected, rtol=0, atol=1e-12)
            variance = rows.var(0, ddof=1) if statistics is None else given["var"][t]
            np.testing.assert_allclose(seen["var"][t], variance, rtol=1e-11)


@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("fast", [True, False])
def test_a_norm_without_gamma_has_scale_1(fast, given, pool):
    x, params, statistics = block_case(0, fast, False)
    without = {name: array for name, array in params.items() if name != "gamma"}
    ones = {**params, "gamma": np.ones_like(params["gamma"])}
    found, expected = (layers.conv_block(p, x, statistics if given else None, pool=pool)[0] for p in (without, ones))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize(
    ("stride", "padding", "size"), [(2, "SAME", (4, 3)), ((2, 1), 1, (4, 6)), (1, "SAME", (7, 6)), ((1, 1), 1, (7, 6))]
)
def test_stride_padding_and_eps_are_those_of_the_parts(stride, padding, size, given):
    x, params, statistics = block_case(1, True, True)
    found, seen = layers.conv_block(
        params, x, statistics if given else None, stride=stride, padding=padding, pool=False, eps=0.5
    )
    assert found.shape[2:4] == size
    maps = ops.conv2d(x, params["w"], stride, padding)
    own = {"mean": maps.mean((1, 2, 3)), "var": maps.var((1, 2, 3))}
    mean, var, gamma, beta = (
        a[:, None, None, None] for a in (*(statistics if given else own).values(), params["gamma"], params["beta"])
    )
    expected = np.maximum((maps - mean) / np.sqrt(var + 0.5) * gamma + beta, 0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    pooled, _ = layers.conv_block(params, x, seen if given else None, stride=stride, padding=padding, eps=0.5)
    np.testing.assert_allclose(pooled, ops.max_pool2d(expected), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("size", "channels", "filters", "blocks"), [(28, 1, 4, 4), (84, 3, 2, 4), (9, 2, 3, 1), (5, 3, 2, 0)]
)
def test_a_conv_net_has_as_many_features_as_announced(size, channels, filters, blocks):
    params = layers.conv_net_init(np.random.default_rng(0), channels, filters, blocks)
    features, statistics = layers.conv_net(params, np.zeros((1, 2, size, size, channels), np.float32))
    assert features.shape == (1, 2, layers.conv_net_size(size, channels, filters, blocks))
    assert (len(params), features.dtype) == (blocks, np.float32)
    assert list(statistics) == list(params)


@plain.drawn(10)
def test_a_conv_net_is_its_blocks_one_after_another(seed):
    rng = np.random.default_rng(seed)
    x, net = rng.random((TASKS, 3, 8, 8, 1)), layers.conv_net_init(rng, 1, 2, 2)
    given = {name: {"mean": rng.standard_normal(2), "var": rng.uniform(0.5, 2, 2)} for name in net}
    for statistics in (None, given):
        found, _ = layers.conv_net(net, x, statistics)
        for t in range(TASKS):
            np.testing.assert_allclose(found[t], plain.conv_net(net, x[t], statistics)[0], rtol=0, atol=1e-12)


def test_conv_4_has_the_papers_parameters():
    """111,936 of one channel to 64 filters, of which 256 are the convolutions' biases, which norms cancel."""
    net = layers.conv_net_init(np.random.default_rng(0))
    assert sum(array.size for layer in net.values() for array in layer.values()) + 4 * 64 == 111_936


def test_weights_are_drawn_evenly_within_their_bound():
    weights = layers.uniform(np.random.default_rng(0), (100, 100), 25)
    assert weights.dtype == np.float32
    assert np.abs(weights).max() == pytest.approx(0.2, rel=1e-3)
    assert weights.std() == pytest.approx(0.2 / np.sqrt(3), rel=0.02)


def test_a_linear_layer_has_a_bias():
    params = layers.linear_init(np.random.default_rng(0), 4, 3)
    x = np.random.default_rng(1).standard_normal((2, 5, 4))
    expected = [[[row @ params["w"][:, j] + params["b"][j] for j in range(3)] for row in task] for task in x]
    np.testing.assert_allclose(layers.linear(params, x), expected, rtol=0, atol=1e-12)


def test_a_linear_layer_may_be_each_tasks_own():
    """With as many tasks as examples, where a bias broadcast over the wrong axis would go unnoticed."""
    rng = np.random.default_rng(0)
    params = {"w": rng.standard_normal((3, 4, 2)), "b": rng.standard_normal((3, 2))}
    x = rng.standard_normal((3, 3, 4))
    expected = [x[t] @ params["w"][t] + params["b"][t] for t in range(3)]
    np.testing.assert_allclose(layers.linear(params, x), expected, rtol=0, atol=1e-12)


def test_running_statistics_start_for_batch_norms_only():
    net = layers.conv_net_init(np.random.default_rng(0), 1, 2, 1)
    running = layers.running_init({**net, "fc": layers.linear_init(np.random.default_rng(0), 2, 2)})
    assert list(running) == ["conv1"]
    np.testing.assert_array_equal(running["conv1"]["mean"], [0, 0])
    np.testing.assert_array_equal(running["conv1"]["var"], [1, 1])


@plain.drawn(20)
def test_running_statistics_are_exponential_averages_of_the_tasks_mean(seed):
    rng = np.random.default_rng(seed)
    batches = rng.standard_normal((3, TASKS, FILTERS))
    running = {"conv1": {"mean": np.zeros(FILTERS)}}
    for batch in batches:
        running = layers.running_update(running, {"conv1": {"mean": batch}}, rate=0.25)
    expected = sum(0.25 * 0.75 ** (2 - i) * batch.sum(0) / TASKS for i, batch in enumerate(batches))
    np.testing.assert_allclose(running["conv1"]["mean"], expected, rtol=0, atol=1e-12)
