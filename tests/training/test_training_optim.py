"""Optimizers against independent scalar loops and closed forms; schedules and clipping by their properties."""

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minimeta
from minimeta import ops, optim, tree

numbers = st.floats(-10, 10).filter(lambda x: x == 0 or abs(x) > 1e-3)
gradients = st.lists(numbers, min_size=1, max_size=8)
rates = st.floats(1e-4, 1)


def run(optimizer, w, grads):
    params = {"layer": {"w": np.array([w])}, "bias": [np.array(w)]}
    state = optimizer.init(params)
    for g in grads:
        params, state = optimizer.update({"layer": {"w": np.array([g])}, "bias": [np.array(g)]}, state, params)
    assert params["layer"]["w"][0] == params["bias"][0]
    return float(params["bias"][0])


@given(numbers, gradients, rates)
def test_sgd_subtracts_the_scaled_sum(w, grads, lr):
    assert run(optim.sgd(lr), w, grads) == pytest.approx(w - lr * math.fsum(grads), abs=1e-9)


@given(numbers, gradients, rates, st.floats(0, 0.99), st.booleans())
def test_momentum_is_torchs(w, grads, lr, beta, nesterov):
    expected, buffer = w, 0.0
    for g in grads:
        buffer = beta * buffer + g
        expected -= lr * (g + beta * buffer if nesterov else buffer)
    assert run(optim.momentum(lr, beta, nesterov), w, grads) == pytest.approx(expected, abs=1e-9)


@given(numbers, gradients, rates, st.floats(0, 0.99), st.floats(0, 0.999), st.floats(1e-8, 1e-2))
def test_adam_is_algorithm_1_of_the_paper(w, grads, lr, beta1, beta2, eps):
    expected, m, v = w, 0.0, 0.0
    for t, g in enumerate(grads, 1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        expected -= lr * (m / (1 - beta1**t)) / (math.sqrt(v / (1 - beta2**t)) + eps)
    assert run(optim.adam(lr, beta1, beta2, eps), w, grads) == pytest.approx(expected, abs=1e-8)


@given(numbers, gradients, rates, st.floats(0, 0.99), st.floats(1e-6, 1e-2))
def test_rmsprop_is_torchs(w, grads, lr, decay, eps):
    expected, v = w, 0.0
    for g in grads:
        v = decay * v + (1 - decay) * g**2
        expected -= lr * g / (math.sqrt(v) + eps)
    assert run(optim.rmsprop(lr, decay, eps), w, grads) == pytest.approx(expected, abs=1e-8)


@given(st.floats(0.01, 0.99), st.integers(1, 20))
def test_momentum_under_a_constant_gradient_is_a_geometric_sum(beta, steps):
    # velocity after k steps: (1 - beta^k) / (1 - beta)
    expected = -sum((1 - beta**k) / (1 - beta) for k in range(1, steps + 1))
    assert run(optim.momentum(1.0, beta), 0.0, [1.0] * steps) == pytest.approx(expected)


@pytest.mark.parametrize("name", optim.OPTIMIZERS)
def test_update_is_pure_and_keeps_float32(name):
    optimizer = optim.OPTIMIZERS[name](0.1)
    params = {"w": np.ones(3, np.float32)}
    grads = {"w": np.full(3, 2, np.float32)}
    state = optimizer.init(params)
    first = optimizer.update(grads, state, params)
    again = optimizer.update(grads, state, params)
    assert params["w"].tolist() == [1, 1, 1]
    assert grads["w"].tolist() == [2, 2, 2]
    for a, b in zip(tree.leaves(first), tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.ndim(a) == 0 or a.dtype == np.float32


@pytest.mark.parametrize("name", optim.OPTIMIZERS)
def test_same_code_serves_an_inner_loop_and_is_differentiated_through(name):
    target = np.array([1.0, -2.0])

    def after_three_steps(rate_and_start):
        rate, start = rate_and_start
        optimizer = optim.OPTIMIZERS[name](rate)
        fast, state = {"w": start}, optimizer.init({"w": start})
        for _ in range(3):
            grads = minimeta.grad(lambda p: ops.sum((p["w"] - target) ** 2))(fast)
            fast, state = optimizer.update(grads, state, fast)
        return ops.sum((fast["w"] - target) ** 2)

    at = (np.array(0.05), np.array([0.3, 0.4]))
    slopes = minimeta.grad(after_three_steps)(at)
    h = 1e-6
    for which, index in ((0, ()), (1, 0), (1, 1)):
        ends = []
        for sign in (1, -1):
            moved = [a.copy() for a in at]
            moved[which][index] += sign * h
            ends.append(float(after_three_steps(tuple(moved))))
        numeric = (ends[0] - ends[1]) / (2 * h)
        assert slopes[which][index] == pytest.approx(numeric, rel=1e-5, abs=1e-7)


def test_every_optimizer_finds_the_minimum_of_a_quadratic():
    for name, make in optim.OPTIMIZERS.items():
        optimizer = make(optim.cosine(0.1))
        w = np.array([5.0, -3.0])
        state = optimizer.init(w)
        for step in range(300):
            w, state = optimizer.update(2 * (w - 1), state, w, progress=step / 300)
        np.testing.assert_allclose(w, 1, atol=1e-2, err_msg=name)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(1e-5, 1))
def test_schedules_never_rise_and_stay_within_the_rate(a, b, lr):
    early, late = sorted((a, b))
    for name, make in optim.SCHEDULES.items():
        schedule = make(lr)
        assert schedule(0.0) == pytest.approx(lr), name
        assert 0 <= schedule(late) <= schedule(early) <= lr * (1 + 1e-12), name


@given(st.integers(1, 10), st.integers(1, 50))
def test_step_decay_halves_every_n_steps(drops, n):
    steps = n * (drops + 1)
    schedule = optim.step_decay(1.0, drops)
    for step in range(steps):
        # a division may fall just short of a whole number, so look at the middle of the step
        assert schedule((step + 0.5) / steps) == 0.5 ** (step // n)


@given(st.integers(1, 1000), st.floats(1e-5, 10))
def test_linear_falls_by_the_same_amount_every_step_and_ends_at_0(steps, lr):
    rates = [optim.SCHEDULES["linear"](lr)(step / steps) for step in range(steps + 1)]
    np.testing.assert_allclose(np.diff(rates), -lr / steps, rtol=1e-6, atol=1e-12 * lr)
    assert (rates[0], rates[-1]) == (lr, 0)


@given(st.lists(numbers, min_size=1, max_size=6), st.floats(0.01, 100))
def test_global_norm_clipping_keeps_the_direction_and_bounds_the_length(values, limit):
    grads = {"a": np.array(values), "b": [np.array(values[0])]}
    norm = math.sqrt(sum(v * v for v in values) + values[0] ** 2)
    clipped = optim.clip_global_norm(grads, limit)
    factor = 1.0 if norm <= limit else limit / norm
    np.testing.assert_allclose(clipped["a"], factor * grads["a"], rtol=1e-12)
    assert float(optim.global_norm(clipped)) <= limit * (1 + 1e-9)


def test_a_zero_gradient_is_clipped_to_zero_without_a_warning():
    assert optim.clip_global_norm({"w": np.zeros(2)}, 1.0)["w"].tolist() == [0, 0]


@given(st.lists(numbers, min_size=1, max_size=6), st.floats(0.01, 100))
def test_elementwise_clipping_is_numpys(values, limit):
    clipped = optim.clip_elementwise([np.array(values)], limit)
    np.testing.assert_array_equal(clipped[0], np.clip(values, -limit, limit))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: optim.momentum(0.1, beta=1.0), "optim.momentum: beta=1.0; need 0 <= beta < 1"),
        (lambda: optim.adam(0.1, beta2=-0.1), "optim.adam: beta2=-0.1"),
        (lambda: optim.rmsprop(0.1, decay=2), "optim.rmsprop: decay=2"),
        (lambda: optim.clip_global_norm({}, 0), "optim.clip_global_norm: max_norm=0; need max_norm > 0"),
        (lambda: optim.clip_elementwise({}, -1), "optim.clip_elementwise: limit=-1"),
    ],
)
def test_errors_name_the_value_and_the_rule(call, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        call()


def test_adam_on_a_conv_net_is_fast_enough_not_to_matter():
    rng = np.random.default_rng(0)
    shapes = [(3, 3, 1, 64), *[(3, 3, 64, 64)] * 3, *[(64,)] * 12]
    params = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    optimizer = optim.adam(1e-3)
    state = optimizer.init(params)
    fastest = math.inf
    for _ in range(20):
        start = time.perf_counter()
        params, state = optimizer.update(params, state, params)
        fastest = min(fastest, time.perf_counter() - start)
    print(f"Adam on {sum(p.size for p in params)} parameters: {1e3 * fastest:.2f} ms")
    assert fastest < 0.02  # typically below 1 ms; a step of training takes 100
