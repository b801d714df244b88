"""What the engine says when it cannot do what was asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minimeta import NotDifferentiableError, Tensor, grad, hessian, ops, value_and_grad, vjp
from minimeta.autodiff import op

X = np.array([1.0, 2.0])


def test_grad_needs_a_single_number():
    message = r"minimeta.grad: .* one number, got shape \(2,\); sum\(\) it, or use minimeta.vjp"
    with pytest.raises(ValueError, match=message):
        grad(lambda x: x * x)(X)
    with pytest.raises(TypeError, match=r"minimeta.grad: .* one number, got tuple; see has_aux"):
        grad(lambda x: (x.sum(), x))(X)
    with pytest.raises(TypeError, match="got NoneType"):
        grad(lambda x: None)(X)


def test_a_single_number_may_have_any_shape():
    assert grad(lambda x: (x * x).reshape(1, 1))(np.array([3.0])).tolist() == [6.0]
    assert hessian(lambda x: (x**3).sum(keepdims=True))(X).shape == (2, 2)


def test_has_aux_needs_a_pair():
    with pytest.raises(TypeError, match=r"has_aux: the function returns \(value, aux\), got Tensor"):
        value_and_grad(lambda x: x.sum(), has_aux=True)(X)


@pytest.mark.parametrize("argnums", [2, (0, 2), -1])
def test_argnums_outside_the_arguments(argnums):
    with pytest.raises(ValueError, match=r"minimeta.grad: argnums=.* needs more than the 2 arguments"):
        grad(lambda x, y: x, argnums)(1.0, 2.0)


def test_argnums_twice_the_same():
    with pytest.raises(ValueError, match=r"minimeta.grad: argnums=\(0, 0\) names an argument twice"):
        grad(lambda x: x, (0, 0))(1.0)


def test_a_cotangent_of_another_shape_or_tree():
    _, pullback = vjp(lambda x: {"y": x * x}, X)
    with pytest.raises(ValueError, match=r"minimeta.vjp: the cotangent has shape \(3,\), the result has shape \(2,\)"):
        pullback({"y": np.ones(3)})
    with pytest.raises(ValueError, match=r"trees differ at the root: dict with keys \['y'\] against a leaf"):
        pullback(np.ones(2))


def test_an_operation_without_a_rule_names_itself_its_argument_and_the_way_out():
    @op()
    def spin(xp: Any, angle: Any, radius: Any) -> Any:
        return angle * radius

    @spin.vjp(1)
    def _(g: Any, y: Any, angle: Any, radius: Any) -> Any:
        return g * angle

    assert grad(lambda r: spin(X, r).sum())(X).tolist() == X.tolist()
    message = r"minimeta.spin: no derivative with respect to argument 'angle'; .*minimeta.stop_gradient.*@spin.vjp\(0\)"
    with pytest.raises(NotDifferentiableError, match=message):
        grad(lambda a: spin(a, X).sum())(X)


def test_an_operation_of_many_arguments_names_the_one_without_a_rule():
    @op()
    def mix(xp: Any, *parts: Any) -> Any:
        return sum(parts)

    message = r"minimeta.mix: no derivative with respect to argument 'parts\[1\]'"
    with pytest.raises(NotDifferentiableError, match=message):
        grad(lambda x: mix([X, x]).sum())(X)


def test_a_rule_of_the_wrong_shape_is_named():
    @op()
    def twice(xp: Any, x: Any) -> Any:
        return x * 2

    @twice.vjp(0)
    def _(g: Any, y: Any, x: Any) -> Any:
        return g.sum()

    message = r"minimeta.twice: the rule for argument 'x' returned shape \(\), the argument has shape \(2,\)"
    with pytest.raises(ValueError, match=message):
        grad(lambda x: twice(x).sum())(X)


def test_a_failing_forward_tells_operation_arguments_and_values():
    with pytest.raises(ValueError, match=r"minimeta.add: .*broadcast.*; got x1.shape=\(2,\), x2.shape=\(3,\)"):
        ops.add(Tensor(X), np.ones(3))
    with pytest.raises(ValueError, match=r"minimeta.reshape: .*; got x.shape=\(2,\), shape=\(3,\)"):
        ops.reshape(X, (3,))
    with pytest.raises(IndexError, match=r"minimeta.getitem: .*; got x.shape=\(2,\), index=5"):
        Tensor(X)[5]
    with pytest.raises(TypeError, match=r"minimeta.multiply: .*; got x1.shape=\(2,\), x2='text'"):
        Tensor(X) * "text"


def test_too_many_positional_options():
    message = "sum: 3 positional options given after the arrays, at most 2 are open"
    with pytest.raises(TypeError, match=message):
        ops.sum(X, 0, True, None)


def test_a_sequence_operation_wants_a_list():
    with pytest.raises(TypeError, match=r"minimeta\.stack: takes a list or tuple of arrays, got ndarray"):
        ops.stack(X)


def test_saves_is_checked_when_the_operation_is_made():
    def f(xp: Any, x: Any) -> Any:
        return x

    with pytest.raises(ValueError, match="op f: saves='output'; choose 'inputs', 'out', 'all' or 'none'"):
        op(saves="output")(f)


@pytest.mark.parametrize(
    "rule",
    [
        lambda g, y, x: g * x,
        lambda g, y, x: x - g,
        lambda g, y, x: ops.square(x),
        lambda g, y, x: -x,
        lambda g, y, x: ops.where(x > 0, g, 0.0),
        lambda g, y, x: x[...],
    ],
)
def test_a_rule_that_uses_what_was_not_saved_is_told_so(rule):
    @op(saves="out")
    def f(xp, x):
        return x * 1.0

    f.vjp(0)(rule)
    message = r"needs the values of an array of which only shape \(2,\) and dtype float64 were kept: say so in saves="
    with pytest.raises(TypeError, match=message):
        grad(lambda x: f(x * 2.0).sum())(np.ones(2))
    with pytest.raises(TypeError, match=message):
        grad(lambda x: grad(lambda x: f(x).sum())(x).sum())(np.ones(2))
