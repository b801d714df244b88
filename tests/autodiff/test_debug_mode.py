"""Debug mode names the user's line, catches NaN and Inf where they arise and freezes arrays; outside, nothing."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

from minimeta import Tensor, debug, grad, ops, vjp
from minimeta.autodiff import op, watching

X = np.array([1.0, -1.0])


def line_of(f: Any, text: str) -> int:
    """The number of the line of `f` that holds `text`."""
    lines, first = inspect.getsourcelines(f)
    return first + next(i for i, line in enumerate(lines) if text in line)


@op(saves="out")
def fragile(xp: Any, x: Any) -> Any:
    return x * 1.0


@fragile.vjp(0)
def _(g: Any, y: Any, x: Any) -> Any:
    return g * np.nan


def test_nan_is_caught_at_the_operation_and_the_line_is_the_users():
    def user(x: Any) -> Any:
        with np.errstate(invalid="ignore"):
            return ops.log(x).sum()  # here

    place = f"test_debug_mode.py:{line_of(user, '# here')}"
    message = rf"minimeta.log: the result has NaN \(1 of 2 entries\); made at .*{place}"
    with debug(), pytest.raises(FloatingPointError, match=message):
        grad(user)(X)


def test_inf_is_caught_too():
    message = r"minimeta\.exp: the result has Inf"
    with debug(), np.errstate(over="ignore"), pytest.raises(FloatingPointError, match=message):
        ops.exp(Tensor(X * 1000))


def test_nan_of_a_rule_names_rule_argument_and_where_the_node_was_made():
    def user(x: Any) -> Any:
        return fragile(x).sum()  # here

    message = rf"minimeta.fragile: the gradient of argument 'x' has NaN .*test_debug_mode.py:{line_of(user, '# here')}"
    with debug(), pytest.raises(FloatingPointError, match=message):
        grad(user)(X)


def test_the_message_tells_how_the_program_came_to_the_line():
    def inner(x: Any) -> Any:
        return fragile(x)  # innermost

    def outer(x: Any) -> Any:
        return inner(x).sum()  # further out

    with debug(), pytest.raises(FloatingPointError) as caught:
        grad(outer)(X)
    first, *stack = str(caught.value).splitlines()
    del caught  # its frames hold nodes
    assert f"made at {__file__}:{line_of(inner, '# innermost')}: return fragile(x)  # innermost" in first
    assert stack[0] == (
        f"  called from {__file__}:{line_of(outer, '# further out')}: return inner(x).sum()  # further out (in outer)"
    )
    assert not any("minimeta/autodiff" in line for line in stack)


def test_a_rule_of_the_wrong_shape_is_placed_too():
    @op(saves="none")
    def misshapen(xp: Any, x: Any) -> Any:
        return x * 1.0

    @misshapen.vjp(0)
    def _(g: Any, y: Any, x: Any) -> Any:
        return g.sum()

    def user(x: Any) -> Any:
        return misshapen(x).sum()  # here

    place = f"test_debug_mode.py:{line_of(user, '# here')}"
    with pytest.raises(ValueError, match=r"returned shape \(\), the argument has shape \(2,\)$"):
        grad(user)(X)
    with debug(), pytest.raises(ValueError, match=rf"returned shape \(\), .*made at .*{place}: return misshapen"):
        grad(user)(X)


def test_an_operator_is_placed_at_its_line_and_so_is_an_operation_made_of_others():
    sites = []

    def user(x: Any) -> Any:
        y = x * 2  # operator
        z = ops.std(y)  # composite
        sites.extend([y.node.site, z.node.site])
        return z

    with debug():
        grad(user)(X)
    assert [site[0].lineno for site in sites] == [line_of(user, "# operator"), line_of(user, "# composite")]
    assert all(site[0].filename == __file__ for site in sites)


def test_results_are_read_only():
    with debug():
        y = ops.tanh(Tensor(X))
        z = Tensor(X) * 2
    for t in (y, z):
        with pytest.raises(ValueError, match="read-only"):
            t.data[0] = 0.0


def test_derivatives_are_unchanged():
    def f(x: Any) -> Any:
        return grad(lambda y: (ops.tanh(y) * y * x).sum())(x).sum()

    expected = grad(f)(X)
    with debug():
        assert grad(f)(X).tolist() == expected.tolist()


def test_second_order_rules_are_checked():
    @op(saves="out")
    def brittle(xp: Any, x: Any) -> Any:
        return x * 1.0

    @brittle.vjp(0)
    def _(g: Any, y: Any, x: Any) -> Any:
        return fragile(g)

    with debug():
        assert grad(lambda x: brittle(x).sum())(X).tolist() == [1.0, 1.0]
        _, pullback = vjp(lambda x: brittle(x), X)
        with pytest.raises(FloatingPointError, match=r"minimeta\.fragile: the gradient of argument 'x'"):
            grad(lambda c: pullback(c)[0].sum())(X)


def test_it_is_off_by_default():
    assert not watching.watchers
    with np.errstate(invalid="ignore"):
        y = ops.log(Tensor(X))
    assert np.isnan(y.data[1])
    y.data[1] = 0.0  # writable
    assert grad(lambda x: x * 0.0 if x.node.site is None else x)(1.0) == 0.0


def test_it_is_restored_after_an_exception():
    with pytest.raises(KeyError), debug():
        raise KeyError
    assert not watching.watchers


def test_it_nests():
    with debug():
        with debug():
            pass
        assert len(watching.watchers) == 1
    assert not watching.watchers
