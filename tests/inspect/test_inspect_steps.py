"""The stepper shows the engine's own walk: what it adds up is what `grad` returns, to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimeta import Tensor, grad, inspect, ops
from minimeta.autodiff import checkpoint, op
from minimeta.autodiff.watching import watchers
from tests.autodiff.random_programs import points, run

X = np.array([1.0, -0.5])


def wave(x: Any) -> Any:
    return (ops.tanh(x) * x).sum()


@given(points(1), st.integers(1, 2))
def test_it_adds_up_what_grad_returns(drawn, order):
    program, x = drawn

    def f(x: Any) -> Any:
        return run(program, ops, x)

    expected = grad(f)(x) if order == 1 else grad(lambda x: grad(f)(x).sum())(x)
    walk = inspect.steps(f, x, order=order)
    sums: dict[str, Any] = {}
    for step in walk:
        if step.name in sums:  # the value itself is sent nothing
            np.testing.assert_array_equal(sums.pop(step.name), step.cotangent)
        for sent in step.contributions:
            before = sums.get(sent.name)
            sums[sent.name] = sent.value if before is None else before + sent.value
        for sent in step.contributions:
            np.testing.assert_array_equal(sent.total, sums[sent.name])
    assert set(sums) <= {"x"}
    np.testing.assert_array_equal(walk.gradient, expected)
    np.testing.assert_array_equal(sums.get("x", np.zeros_like(x)), expected)


@given(points(1))
def test_the_engines_own_rules_ran(drawn):
    """Every node of the path has its turn, youngest first; contributions have the shapes of what they are for."""
    program, x = drawn
    walk = inspect.steps(lambda x: run(program, ops, x), x)
    numbers = [node.number for node in walk.path]
    steps = list(walk)
    assert [step.node.number for step in steps] == [n for n in numbers if n in {s.node.number for s in steps}]
    assert numbers == sorted(numbers, reverse=True)
    for step in steps:
        assert step.cotangent.shape == step.node.shape
        assert all(sent.value.shape == sent.parent.shape for sent in step.contributions)


def test_a_step_reads_like_a_page_of_a_book():
    walk = inspect.steps(wave, X)
    line = ops.reduce.sum.op.rules[0].__code__.co_firstlineno
    assert str(next(walk)) == (
        "step 1: sum_1 = sum(multiply_1)\n"
        "  comes in: float64[] 1.\n"
        f"  rule, minimeta/ops/reduce.py:{line}:\n"
        "    @sum.vjp(0)\n"
        "    def _(g: Any, y: Any, x: Any, axis: Axis = None, keepdims: bool = False) -> Any:\n"
        "        return broadcast_to(restore(g, x.ndim, axis, keepdims), x.shape)\n"
        "  to multiply_1 (argument x): float64[2] [1., 1.], norm 1.414"
    )
    second, third = walk
    assert "which has now" not in str(second)
    assert str(third).splitlines()[-2:] == [
        "  to x (argument x): float64[2] [ 0.42  , -0.3932], norm 0.5753",
        "    which has now float64[2] [ 1.1816, -0.8553], norm 1.459",
    ]


def test_a_rule_for_all_arguments_is_shown_once_and_its_contributions_by_argument():
    @op()
    def weighted(xp: Any, x: Any, w: Any) -> Any:
        return x * w

    @weighted.vjp()
    def _(g: Any, y: Any, x: Any, w: Any) -> Any:
        return g * w, g * x

    walk = inspect.steps(lambda a, b: weighted(a, b).sum(), X, X + 1, argnums=(0, 1))
    step = list(walk)[-1]
    assert [sent.name for sent in step.contributions] == ["a", "b"]
    assert str(step).count("  rule, ") == 1
    assert [g.tolist() for g in walk.gradient] == [(X + 1).tolist(), X.tolist()]


def test_trees_of_arguments_have_names_and_come_back():
    params = {"w": np.eye(2), "layers": [np.ones(2), np.array(3.0)]}

    def loss(params: Any, scale: Any) -> Any:
        return ((params["w"] @ params["layers"][0]) * scale).sum()

    walk = inspect.steps(loss, params, 2.0)
    names = {sent.name for step in walk for sent in step.contributions}
    assert {"params['w']", "params['layers'][0]"} <= names
    gradient, expected = walk.gradient, grad(loss)(params, 2.0)
    assert gradient["layers"][1].tolist() == 0.0
    np.testing.assert_array_equal(gradient["w"], expected["w"])


def test_inside_a_function_it_walks_from_a_tensor_to_tensors():
    seen = []

    def f(x: Any) -> Any:
        y = x * x
        z = (ops.tanh(y) * x).sum()
        walk = inspect.steps(z, {"y": y})
        seen.extend(step.node.op.name for step in walk)
        return walk.gradient["y"].sum()  # recorded: it can be differentiated once more

    second = grad(f)(X)
    assert seen == ["sum", "multiply", "tanh"]
    expected = grad(lambda x: grad(lambda y: (ops.tanh(y) * x).sum())(x * x).sum())(X)
    np.testing.assert_allclose(second, expected, rtol=1e-12)


def test_the_gradient_is_there_before_all_steps_are_taken():
    walk = inspect.steps(wave, X)
    next(walk)
    np.testing.assert_array_equal(walk.gradient, grad(wave)(X))
    assert list(walk) == []


def test_a_rule_that_no_file_holds_is_named():
    names: dict[str, Any] = {"op": op}
    text = "def typed(xp, x): return x * 1.0\ndef rule(g, y, x): return g\ntyped = op(saves='none')(typed)"
    exec(text + "\ntyped.vjp(0)(rule)", names)
    step = list(inspect.steps(lambda x: names["typed"](x).sum(), X))[-1]
    assert str(step.contributions[0].source) == "a rule without a file:0"
    assert step.contributions[0].source.text == "rule"


def test_a_checkpoint_is_let_go_with_all_that_its_rule_holds_on_to():
    """Its rule has its arguments; that no node is left behind is what every test here is held to."""
    walk = inspect.steps(lambda x: checkpoint(wave)(x * 2.0), X)
    assert [step.node.op.name for step in walk] == ["reshape", "getitem", "checkpoint", "multiply"]
    np.testing.assert_array_equal(walk.gradient, grad(lambda x: wave(x * 2.0))(X))


def test_a_function_of_nothing_differentiable_has_no_steps():
    walk = inspect.steps(lambda x: np.array(3.0), X)
    assert list(walk) == []
    assert walk.gradient.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: inspect.steps(3.0), TypeError, "takes a function or a Tensor, got float"),
        (lambda: inspect.steps(Tensor(X)), ValueError, "the Tensor is a constant"),
        (lambda: inspect.steps(wave, X, order=0), ValueError, "order=0; need order >= 1"),
        (lambda: inspect.steps(lambda x: x, X), ValueError, "the function returns one number"),
        (lambda: inspect.steps(wave, np.arange(2)), TypeError, "argument 0 has dtype int64"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
    assert not watchers


def test_what_to_differentiate_by_must_be_traced():
    def f(x: Any) -> Any:
        with pytest.raises(TypeError, match=r"wrt\['w'\] is not a traced Tensor"):
            inspect.steps(x.sum(), {"w": Tensor(X)})
        return x.sum()

    grad(f)(X)
