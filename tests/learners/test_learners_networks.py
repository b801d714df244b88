"""The adapted networks against plain NumPy: TensorFlow's geometry, sizes, first weights, tasks apart, statistics."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minimeta import ops, tree
from minimeta.learners.optimization_based.networks import ARCHITECTURES, CONVOLUTIONAL, Network
from tests.learners import plain, plain_maml

NORMED = (*CONVOLUTIONAL, "dense")


def made(architecture, size=20, channels=1, filters=2, outputs=3):
    return Network(architecture, size, channels, filters, outputs)


def drawn_case(architecture, seed, tasks=2, fast=True):
    """A network, weights with noise on all (`fast`: each task its own), and examples."""
    rng = np.random.default_rng(seed)
    network = made(architecture, channels=2)
    lead = (tasks,) if fast else ()
    params = tree.map(lambda w: w + 0.3 * rng.standard_normal((*lead, *w.shape)), network.init(rng))
    x = rng.standard_normal((tasks, 4, 1) if architecture == "regressor" else (tasks, 4, 20, 20, 2))
    return network, params, x, rng


def of_task(values, t):
    return tree.map(lambda leaf: leaf[t], values)


def assert_close(found, expected):
    for (path, a), (_, b) in zip(tree.items(found), tree.items(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-11 * max(1, np.abs(b).max()), err_msg="/".join(path))


@settings(max_examples=25)
@given(seed=plain.seeds, height=st.integers(1, 15), width=st.integers(1, 15))
def test_strided_convolutions_pad_as_tensorflow_does(seed, height, width):
    """Half the size, rounded up; where one row or column is too many to halve, it comes at the bottom or right."""
    rng = np.random.default_rng(seed)
    x, w = rng.standard_normal((2, height, width, 2)), rng.standard_normal((3, 3, 2, 3))
    found = ops.conv2d(x, w, stride=2, padding="SAME")
    assert found.shape == (2, -(-height // 2), -(-width // 2), 3)
    np.testing.assert_allclose(found, plain_maml.conv_same(x, w), rtol=0, atol=1e-12)


def test_the_padding_of_even_images_is_at_bottom_and_right():
    """By hand: a kernel that takes its first row and column from image 1..16; symmetric padding would give 0s."""
    x, w = np.arange(1.0, 17).reshape(1, 4, 4, 1), np.zeros((3, 3, 1, 1))
    w[0, 0] = 1
    np.testing.assert_array_equal(ops.conv2d(x, w, stride=2, padding="SAME")[0, ..., 0], [[1, 3], [9, 11]])
    w = w[::-1, ::-1]
    np.testing.assert_array_equal(ops.conv2d(x, w, stride=2, padding="SAME")[0, ..., 0], [[11, 0], [0, 0]])


def test_maps_of_omniglot_go_from_28_pixels_to_2():
    x, sides = np.zeros((1, 28, 28, 1)), []
    for _ in range(4):
        x = plain_maml.conv_same(x, np.zeros((3, 3, 1, 1)))
        sides.append(x.shape[1:3])
    assert sides == [(14, 14), (7, 7), (4, 4), (2, 2)]
    network, rng = made("strided-flat", size=28), np.random.default_rng(0)
    params, images = network.init(rng), rng.random((1, 3, 28, 28, 1))
    params = tree.map(lambda w: w.astype(np.float64), params)
    assert network.features == 2 * 2 * 2
    assert_close(network(params, images)[0][0], plain_maml.network("strided-flat", params, images[0])[0])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("fast", [True, False], ids=["fast", "shared"])
@plain.drawn(5)
def test_equals_plain_numpy_task_by_task(architecture, fast, seed):
    """Scores by the batch's statistics, and these statistics, unbiased."""
    network, params, x, _ = drawn_case(architecture, seed, fast=fast)
    scores, seen = network(params, x)
    for t in range(2):
        net = of_task(params, t) if fast else params
        expected, expected_seen = plain_maml.network(architecture, net, x[t])
        assert_close(scores[t], expected)
        assert_close({k: v for k, v in of_task(seen, t).items() if v}, expected_seen)


@pytest.mark.parametrize("architecture", NORMED)
@plain.drawn(5)
def test_statistics_given_are_those_normalised_by(architecture, seed):
    """Each task by its own, which come back as they are."""
    network, params, x, rng = drawn_case(architecture, seed)
    _, own = network(params, x)
    given = tree.map(lambda s: np.abs(s + 0.3 * rng.standard_normal(s.shape)), own)
    scores, used = network(params, x, given)
    tree.map(np.testing.assert_array_equal, used, given)
    for t in range(2):
        assert_close(scores[t], plain_maml.network(architecture, of_task(params, t), x[t], of_task(given, t))[0])
    alone, _ = network(params, x[:, :1], given)
    np.testing.assert_allclose(alone, scores[:, :1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@plain.drawn(3)
def test_weights_of_tasks_are_as_each_alone(architecture, seed):
    network, params, x, _ = drawn_case(architecture, seed, tasks=3)
    together, _ = network(params, x)
    for t in range(3):
        np.testing.assert_allclose(network(of_task(params, t), x[t : t + 1])[0][0], together[t], rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("architecture", "count"),
    [
        ("strided-flat", 113_221 - 4 * 64),  # Reptile's, less biases that batch norm subtracts
        ("strided", 576 + 3 * 36_864 + 4 * 64 + 64 * 5 + 5),
        ("conv4", 111_936 - 4 * 64 + 64 * 5 + 5),
        ("dense", 784 * 256 + 256 * 128 + 128 * 64 + 64 * 64 + 256 + 128 + 64 + 64 + 64 * 5 + 5),
        ("regressor", 40 + 40 + 40 * 40 + 40 + 40 * 5 + 5),
    ],
)
def test_has_the_papers_number_of_parameters(architecture, count):
    params = made(architecture, size=28, filters=64, outputs=5).init(np.random.default_rng(0))
    assert sum(leaf.size for leaf in tree.leaves(params)) == count
    assert {leaf.dtype for leaf in tree.leaves(params)} == {np.dtype(np.float32)}
    assert list(params)[-1] == "head"


def init(architecture):
    return made(architecture, size=28, filters=64, outputs=20).init(np.random.default_rng(0))


@pytest.mark.parametrize("architecture", ["dense", "regressor"])
def test_small_weights_are_normal_within_two_deviations(architecture):
    weights = np.concatenate([layer["w"].ravel() for layer in init(architecture).values()])
    assert np.abs(weights).max() <= 0.02
    assert (np.abs(weights) > 0.019).any()  # not clipped far in
    assert (np.abs(weights) > 0.01999).mean() < 0.005  # nor set to the bound
    assert weights.mean() == pytest.approx(0, abs=0.001)
    assert weights.std() == pytest.approx(0.00880, rel=0.05)  # of a normal one of deviation 0.01 cut off there


@pytest.mark.parametrize("architecture", ["strided", "strided-flat"])
def test_convolutions_start_uniform_by_fan_in_and_out(architecture):
    params = init(architecture)
    for name, channels in (("conv1", 1), ("conv2", 64)):
        w, bound = params[name]["w"], np.sqrt(6 / (9 * channels + 9 * 64))
        assert 0.98 * bound < np.abs(w).max() <= bound
        assert w.std() == pytest.approx(np.sqrt(2 / (9 * channels + 9 * 64)), rel=0.05)


def test_heads_start_as_the_papers_code_has_them():
    """Deviation 1 for MAML's convolutions, uniform for Reptile's, without biases; PyTorch's for Conv-4."""
    heads = {architecture: init(architecture)["head"] for architecture in ARCHITECTURES}
    assert heads["strided"]["w"].std() == pytest.approx(1, rel=0.05)
    assert np.abs(heads["strided-flat"]["w"]).max() == pytest.approx(np.sqrt(6 / (256 + 20)), rel=0.02)
    assert np.abs(heads["conv4"]["w"]).max() == pytest.approx(1 / 8, rel=0.02)
    for architecture in set(ARCHITECTURES) - {"conv4"}:
        np.testing.assert_array_equal(heads[architecture]["b"], 0)


@pytest.mark.parametrize("architecture", NORMED)
def test_batch_norm_starts_as_none_and_scales_where_the_paper_does(architecture):
    for name, layer in init(architecture).items():
        if name != "head":
            assert ("gamma" in layer) == (architecture in ("strided-flat", "conv4"))
            np.testing.assert_array_equal(layer["beta"], 0)
            np.testing.assert_array_equal(layer.get("gamma", 1), 1)


@pytest.mark.parametrize("size", [1, 15])
def test_images_of_which_pooling_leaves_nothing_are_refused(size):
    with pytest.raises(ValueError, match=f"conv4: poolings leave nothing of {size} x {size} pixels"):
        made("conv4", size=size)
    assert made("strided", size=size).features == 2
