"""The checkers are checked: each must fail on a bug of its kind and name the place."""

import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import minimeta
from minimeta import ops
from minimeta.autodiff import op
from minimeta.ops.record import OpRecord, unary
from minimeta.testing import CHECKS, Case, HypothesisDraw, check_grads, check_op


def planted(rule, forward=lambda xp, x: xp.sin(x), saves="inputs"):
    """An operation with the given rule."""

    @op(saves=saves)
    def bad(xp, x):
        return forward(xp, x)

    bad.vjp(0)(rule)
    return bad


right = planted(lambda g, y, x: g * ops.cos(x))
wrong = planted(lambda g, y, x: g * ops.cos(x) * 1.0001)
wrong_at_second = planted(lambda g, y, x: g * minimeta.stop_gradient(ops.cos(x)))
wrong_in_cotangent = planted(lambda g, y, x: minimeta.stop_gradient(g) * ops.cos(x))
wrong_at_third = planted(lambda g, y, x: g * wrong_at_second(x + np.pi / 2))
X = np.array([0.3, -0.7, 1.1])


def test_a_right_rule_passes():
    check_grads(right, [X], order=3)


@pytest.mark.parametrize(
    ("function", "order"), [(wrong, 1), (wrong_at_second, 2), (wrong_in_cotangent, 2), (wrong_at_third, 3)]
)
def test_a_wrong_rule_fails_at_its_order_and_not_before(function, order):
    if order > 1:
        check_grads(function, [X], order=order - 1, modes=("vjp",))
    with pytest.raises(AssertionError, match=f"gradient of order {order} differs from finite differences"):
        check_grads(function, [X], order=order, modes=("vjp",))


def test_jvp_mode_finds_a_rule_that_is_not_linear_in_the_cotangent():
    with pytest.raises(AssertionError, match="the jvp of order 1 differs"):
        check_grads(wrong_in_cotangent, [X], order=1)
    with pytest.raises(ValueError, match="modes="):
        check_grads(wrong_in_cotangent, [X], modes=["reverse"])


def test_second_order_bug_inside_a_composition():
    with pytest.raises(AssertionError, match="order 2"):
        check_grads(lambda x: ops.exp(wrong_at_second(x) * x), [X])


def test_the_message_names_argument_entry_and_both_values():
    one_entry = planted(lambda g, y, x: g * np.array([1.0, 1.0, 3.0]), forward=lambda xp, x: x * 1.0)

    def f(scale, params):
        return scale * one_entry(params["layers"][1]["w"])

    with pytest.raises(AssertionError) as caught:
        check_grads(f, [2.0, {"layers": [None, {"w": X}]}], order=1)
    message = str(caught.value)
    assert "args[1]['layers'][1]['w'][2]" in message
    found, expected = map(float, re.search(r"gradient (\S+), finite differences (\S+) \(", message).groups())
    assert found == pytest.approx(3 * expected)


def test_nan_is_a_failure():
    nan = planted(lambda g, y, x: g * np.nan)
    with pytest.raises(AssertionError, match="gradient nan"):
        check_grads(nan, [X], order=1)


def test_integer_leaves_are_constants_and_float32_is_checked_in_float64():
    def f(tree):
        assert tree["x"].dtype == np.float64
        return {"picked": ops.sin(tree["x"])[tree["i"]], "count": tree["i"] + 1}

    check_grads(f, [{"x": X.astype(np.float32), "i": np.array([0, 0, 2])}])


def test_functions_without_results_or_arguments_to_differentiate_pass():
    check_grads(lambda x: x, [np.zeros((0, 3))])
    check_grads(lambda i: i, [np.arange(3)])


def test_check_leaves_no_graph_for_tensors():
    check_grads(ops.tanh, [minimeta.Tensor(X)], order=2)


def broken_cases():
    def record(forward, rule=lambda g, y, x: g * ops.cos(x), reference="numpy.sin"):
        return OpRecord(planted(rule, forward), unary(), reference)

    def in_place(xp, x):
        y = xp.sin(x)
        x += 1
        return y

    def by_memory(xp, x):
        return xp.sin(x) if x.flags.c_contiguous else xp.sin(x) + 1

    return {
        "value": record(lambda xp, x: xp.sin(x) * 1.001),
        "gradients": record(lambda xp, x: xp.sin(x), lambda g, y, x: g * minimeta.stop_gradient(ops.cos(x))),
        "dtypes": record(lambda xp, x: xp.sin(x).astype(np.float64)),
        "layouts": record(by_memory),
        "purity": record(in_place),
    }


@pytest.mark.parametrize("check", CHECKS)
def test_each_generic_check_fails_on_its_bug(check):
    record = broken_cases()[check]

    @settings(max_examples=30, deadline=None, database=None, derandomize=True, phases=[Phase.generate])
    @given(st.data())
    def run(data):
        draw = HypothesisDraw(data)
        CHECKS[check](Case(record, (draw.array(draw.shape(min_dims=1, min_side=2)),), {}))

    with pytest.raises((AssertionError, ValueError)):
        run()


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_draws_keep_what_the_protocol_promises(data):
    draw = HypothesisDraw(data)
    shape = draw.shape(min_dims=1, max_dims=2, min_side=0, max_side=4)
    assert 1 <= len(shape) <= 2
    assert max(shape) <= 4
    x = draw.array(shape, -1.0, 2.0, avoid=(0.0, 1.0, 5.0))
    assert x.shape == shape
    assert x.dtype == np.float64
    assert len(np.unique(x)) == x.size
    assert np.all((x >= -1) & (x <= 2) & (np.abs(x) >= 0.05) & (np.abs(x - 1) >= 0.05))
    np.broadcast_shapes(*draw.broadcastable(3))
    np.sum(np.ones(shape), axis=draw.axes(len(shape)))
    assert draw.choice("abc") in "abc"


def test_check_op_goes_through_all_checks():
    @settings(max_examples=5, deadline=None, database=None)
    @given(st.data())
    def run(data):
        check_op(OpRecord(right, unary(), "numpy.sin"), HypothesisDraw(data))

    run()


def test_without_hypothesis_the_error_names_the_extra():
    code = (
        "import sys; sys.modules['hypothesis'] = None\n"
        "from minimeta import testing, ops\n"
        "testing.check_grads(ops.sin, [1.0])\n"
        "try:\n    testing.HypothesisDraw(None)\n"
        "except ImportError as error:\n    print(error)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "minimeta[test]" in out.stdout
