"""The Taylor study against closed forms, plain NumPy loops and finite differences."""

from dataclasses import replace
from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimeta import grad, ops, tree
from minimeta.analysis import taylor
from minimeta.analysis.taylor_problems import problem
from minimeta.data import DataError
from tests.autodiff.numeric import close, derivative

seeds, counts = st.integers(0, 2**32 - 1), st.integers(2, 4)
N = 4  # parameters


class Quadratic:
    """x -> (x - c)' H (x - c) / 2 with a symmetric, indefinite H."""

    def __init__(self, rng):
        matrix = rng.standard_normal((N, N))
        self.hessian, self.center = matrix + matrix.T, rng.standard_normal(N)

    def __call__(self, x):
        away = x - self.center
        return away @ (away @ self.hessian) / 2

    def slope(self, x):
        return self.hessian @ (x - self.center)


class Ripples:
    """Tasks of smooth losses, far from quadratic: x -> sum cos(X x - y), with the gradient by hand."""

    def __init__(self, batches, seed=0):
        self.batches, self.seed = batches, seed

    def start(self, tasks):
        return np.tile(np.random.default_rng(self.seed).standard_normal(N), (tasks, 1))

    def draw(self, task, j):
        rng = np.random.default_rng((self.seed, task, j))
        return rng.standard_normal((3, N)), rng.standard_normal(3)

    def losses(self, first, tasks):
        def loss_on(j):
            x, y = (np.stack(parts) for parts in zip(*(self.draw(first + t, j) for t in range(tasks)), strict=True))
            return lambda params: ops.cos(ops.einsum("tin,tn->ti", x, params) - y).sum()

        return [loss_on(j) for j in range(self.batches)]

    def slope(self, task, j, params):
        x, y = self.draw(task, j)
        return -np.sin(x @ params - y) @ x


def drawn(seed, k):
    rng = np.random.default_rng(seed)
    return [Quadratic(rng) for _ in range(k)], rng.standard_normal(N), rng.uniform(0.01, 0.2)


def unrolled(losses, start, alpha):
    """The gradient of every step, and MAML's by the product of Jacobians, the last step's factor first."""
    x, steps = start, []
    for loss in losses:
        steps.append(loss.slope(x))
        x = x - alpha * steps[-1]
    maml = steps[-1]
    for loss in losses[-2::-1]:
        maml = maml - alpha * loss.hessian @ maml
    return maml, steps


@given(seeds, counts)
def test_gradients_of_quadratics_are_the_closed_forms(seed, k):
    losses, start, alpha = drawn(seed, k)
    maml, steps = unrolled(losses, start, alpha)
    close(taylor.meta_gradients(losses, start, alpha), taylor.ByAlgorithm(maml, steps[-1], sum(steps)))


@given(seeds, counts)
def test_on_one_batch_reptile_never_sees_the_fresh_one(seed, k):
    (loss, fresh), start, alpha = drawn(seed, 2)
    maml, steps = unrolled([loss] * k + [fresh], start, alpha)
    expected = taylor.ByAlgorithm(maml, steps[-1], sum(steps[:-1]))
    close(taylor.meta_gradients_same_batch(loss, fresh, k, start, alpha), expected)


@given(seeds)
def test_two_quadratics_obey_the_formulas_exactly(seed):
    (one, two), start, alpha = drawn(seed, 2)
    h1, h2 = one.slope(start), two.slope(start)
    maml, fomaml, reptile = taylor.meta_gradients([one, two], start, alpha)
    close(fomaml, h2 - alpha * two.hessian @ h1)
    close(reptile, h1 + h2 - alpha * two.hessian @ h1)
    first_order = h2 - alpha * (two.hessian @ h1 + one.hessian @ h2)
    close(maml - first_order, alpha**2 * one.hessian @ two.hessian @ h1)


@given(seeds, counts)
def test_averages_are_those_over_batches_and_ordered_pairs(seed, k):
    losses, start, _ = drawn(seed, k)
    a, b, s = taylor.averages(losses, start)
    close(a, np.mean([loss.slope(start) for loss in losses], axis=0))
    close(b, np.mean([f.hessian @ g.slope(start) for f, g in permutations(losses, 2)], axis=0))
    close(s, np.mean([f.hessian @ f.slope(start) for f in losses], axis=0))


@given(seeds)
def test_the_second_term_is_half_the_gradient_of_the_inner_product(seed):
    (one, two), start, _ = drawn(seed, 2)
    close(taylor.averages([one, two], start)[1], 0.5 * grad(lambda x: grad(one)(x) @ grad(two)(x))(start))


@given(seeds, counts)
def test_maml_is_the_derivative_of_the_whole_loop(seed, k):
    """By finite differences of a loop in plain NumPy."""
    ripples = Ripples(k, seed)
    rng = np.random.default_rng(seed)
    start, direction = rng.standard_normal((2, N))

    def last_loss(x):
        for j in range(k - 1):
            x = x - 0.1 * ripples.slope(0, j, x)
        design, y = ripples.draw(0, k - 1)
        return np.cos(design @ x - y).sum()

    maml = taylor.meta_gradients(ripples.losses(0, 1), start[None], 0.1).maml[0]
    assert maml @ direction == pytest.approx(derivative(last_loss, start, direction), rel=1e-6, abs=1e-7)


@given(st.integers(2, 9))
def test_orders_are_balanced(k):
    found = taylor.orders(k)
    assert len(set(found)) == len(found)
    assert all(sorted(order) == list(range(k)) for order in found)
    assert {sum(order[-1] == j for order in found) for j in range(k)} == {len(found) // k}
    for i, j in combinations(range(k), 2):
        assert 2 * sum(order.index(i) < order.index(j) for order in found) == len(found)


def ratios(study):
    residuals = np.array(study.residuals)
    return residuals[:, :-1] / residuals[:, 1:]


@pytest.mark.parametrize("same_batch", [False, True])
@pytest.mark.parametrize("k", [2, 3, 4])
def test_the_residual_falls_by_four(k, same_batch):
    ripples = Ripples(taylor.mini_batches(k, same_batch))
    found = taylor.study(ripples, k, tasks=8, alpha=1e-3, same_batch=same_batch)
    np.testing.assert_allclose(ratios(found), 4, rtol=0.02)
    np.testing.assert_allclose(found.coefficients, found.theory, rtol=0.02)


@pytest.mark.parametrize("algorithm", taylor.NAMES._fields)
def test_a_factor_missing_from_the_theory_would_show(monkeypatch, algorithm):
    def wrong(k, same_batch=False):
        a, b = getattr(right(k, same_batch), algorithm)
        return right(k, same_batch)._replace(**{algorithm: (a, b / 2)})

    right = taylor.theory
    monkeypatch.setattr(taylor, "theory", wrong)
    found = taylor.study(Ripples(3), 3, tasks=4, alpha=1e-3)._asdict()
    for name, residuals in found["residuals"]._asdict().items():
        assert residuals[0] / residuals[1] == pytest.approx(2 if name == algorithm else 4, rel=0.05)


@given(seeds)
def test_a_product_in_the_wrong_order_would_show(seed):
    losses, start, alpha = drawn(seed, 4)
    _, steps = unrolled(losses, start, alpha)
    reversed_product = steps[-1]
    for loss in losses[:-1]:
        reversed_product = reversed_product - alpha * loss.hessian @ reversed_product
    assert np.abs(taylor.meta_gradients(losses, start, alpha).maml - reversed_product).max() > 1e-7


@pytest.mark.parametrize(("data", "k", "tasks"), [("sinusoid", 2, 8), ("sinusoid", 3, 8), ("glyphs", 2, 4)])
@pytest.mark.parametrize("same_batch", [False, True])
def test_fitted_coefficients_are_the_theory(data, k, tasks, same_batch):
    tasks_of = problem(data, taylor.mini_batches(k, same_batch))
    found = taylor.study(tasks_of, k, tasks, alpha=2e-4, same_batch=same_batch)
    np.testing.assert_allclose(found.coefficients, found.theory, rtol=0.05)
    np.testing.assert_allclose(ratios(found), 4, rtol=0.05)


def test_kinks_spoil_the_expansion():
    found = taylor.study(problem("sinusoid", 2, activation="relu"), 2, tasks=16, alpha=1e-3)
    assert (ratios(found).mean(axis=1) < 3).all()


def test_one_order_leaves_the_noise_of_few_tasks():
    """The mini-batch that happens to come last is not the average: the very reason for balanced orders."""
    waves, alpha = problem("sinusoid", 2), 1e-3
    spread = {}
    for name, orders in {"one": [(0, 1)], "balanced": taylor.orders(2)}.items():
        fitted = []
        for task in range(8):
            losses, start = waves.losses(task, 1), waves.start(1)
            a, b, _ = (flat(mean) for mean in taylor.averages(losses, start))
            found = [taylor.meta_gradients([losses[j] for j in order], start, alpha).fomaml for order in orders]
            fitted.append(taylor.fit(sum(map(flat, found)) / len(found), a, b)[1] / alpha)
        spread[name] = np.std(fitted)
    assert spread["balanced"] < 0.2
    assert spread["one"] > 10


def flat(values):
    return np.concatenate([leaf.ravel() for leaf in tree.leaves(values)])


def test_mini_batches_divide_a_task():
    """Each has one drawing of every class, none is in two, and tasks are those of the sampler."""
    seen = []
    glyphs = replace(problem("glyphs", 3), network=lambda params, x: seen.append(x) or np.zeros((2, 5, 5)))
    for loss in glyphs.losses(first=4, tasks=2):
        assert loss(glyphs.start(2)) == pytest.approx(2 * np.log(5))
    support = glyphs.episodes.batch(4, 2).xs.reshape(2, 5, 3, 28, 28, 1)  # class by class
    np.testing.assert_array_equal(np.stack(seen, axis=2), support)


@pytest.mark.parametrize("data", ["sinusoid", "glyphs"])
def test_tasks_are_treated_apart(data):
    tasks_of = problem(data, 2)
    together = grad(tasks_of.losses(0, 3)[1])(tasks_of.start(3))
    alone = [grad(tasks_of.losses(t, 1)[1])(tasks_of.start(1)) for t in range(3)]
    close(together, tree.map(lambda *leaves: np.concatenate(leaves), *alone))
    assert {leaf.dtype for leaf in tree.leaves(together)} == {np.dtype(np.float64)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 1}, "k=1: with less than 2 steps"),
        ({"tasks": 1}, "tasks=1: an interval needs at least 2"),
        ({"alpha": 0.0}, "alpha=0.0: a rate is positive"),
        ({"alpha": float("nan")}, "alpha=nan"),
        ({"k": 3}, r"problem\.batches=2: k=3, same_batch=False needs 3"),
    ],
)
def test_impossible_studies_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        taylor.study(Ripples(2), **{"k": 2, "tasks": 4, "alpha": 0.1, **change})


def test_an_overflow_is_an_error():
    with np.errstate(all="ignore"), pytest.raises(ArithmeticError, match=r"alpha=1e\+200: the inner loop overflows"):
        taylor.study(problem("sinusoid", 3), 3, tasks=2, alpha=1e200)


@pytest.mark.parametrize(
    ("error", "options", "message"),
    [
        (ValueError, {"data": "sinusoid", "batches": 2, "activation": "step"}, "unknown activation 'step'; choose"),
        (ValueError, {"data": "mnist", "batches": 2}, "unknown data 'mnist'"),
        (DataError, {"data": "glyphs", "batches": 20}, "20-shot"),
    ],
)
def test_impossible_problems_are_refused(error, options, message):
    with pytest.raises(error, match=message):
        problem(**options)
