"""A recording knows of every node which pass made it, by whose rule, in which scope; and nothing when it is over."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given

from minimeta import grad, inspect, learners, ops
from minimeta.autodiff import checkpoint
from minimeta.autodiff.watching import scopes, watchers
from minimeta.data.episodes import Episode
from tests.autodiff.random_programs import points, run

X = np.array([1.0, -0.5])


def wave(x: Any) -> Any:
    return (ops.tanh(x) * x).sum()


@given(points(1))
def test_orders_rise_with_each_pass_and_never_fall_from_parent_to_child(drawn):
    program, x = drawn

    def f(x: Any) -> Any:
        return run(program, ops, x)

    with inspect.recording() as record:
        grad(lambda x: grad(lambda x: grad(f)(x).sum())(x).sum())(x)
    for node in record.nodes:
        order, maker, _ = record.origin(node)
        assert 0 <= order <= 2  # the last pass is not recorded: nobody differentiates it
        assert (maker is None) == (order == 0)
        if maker is not None:
            assert record.order(maker) < order
            assert maker.number < node.number
        if order:  # a rule's nodes come from that pass or earlier ones
            assert all(record.order(parent) <= order for parent in node.parents if parent is not None)


def test_forward_backward_and_the_backward_of_the_backward_by_hand():
    with inspect.recording() as record:
        grad(grad(ops.exp))(1.0)
    exp = next(node for node in record.nodes if node.op.name == "exp")
    assert [(n.op.name, record.order(n), record.origin(n).maker) for n in record.nodes] == [
        ("alias", 0, None), ("alias", 0, None), ("exp", 0, None), ("multiply", 1, exp),
    ]  # fmt: skip
    assert [(kind, node.op.name) for kind, node in record.events] == [
        ("made", "alias"), ("made", "alias"), ("made", "exp"), ("made", "multiply"), ("walked", "exp"),
        ("walked", "multiply"), ("walked", "exp"), ("walked", "alias"),
    ]  # fmt: skip


def test_inner_steps_of_maml_are_forward_passes_again():
    def adapted(w: Any) -> Any:
        for k in (1, 2):
            with inspect.scope(f"inner step {k}"):
                w = w - 0.1 * grad(wave)(w)
        return wave(w)

    with inspect.recording() as record:
        grad(adapted)(X)
    seen = {(record.origin(node).scopes, record.order(node)) for node in record.nodes}
    first, second = ("inner step 1",), ("inner step 2",)
    assert seen == {((), 0), (first, 0), (first, 1), (second, 0), (second, 1)}


def test_scopes_nest_and_end_with_an_exception():
    with inspect.recording():
        with inspect.scope("a"), inspect.scope("b"):
            assert scopes == ["a", "b"]
        with pytest.raises(KeyError), inspect.scope("a"), inspect.scope("b"):
            raise KeyError
        assert scopes == []
    with inspect.scope("nobody looks"):
        assert scopes == []


def test_what_a_checkpoint_computes_again_belongs_to_the_backward_pass():
    with inspect.recording() as record:
        grad(lambda x: grad(checkpoint(wave))(x).sum())(X)
    tanhs = [record.order(node) for node in record.nodes if node.op.name == "tanh"]
    assert tanhs  # computed again, within a rule
    assert min(tanhs) > 0


def test_values_are_those_that_were_computed():
    with inspect.recording() as record:
        grad(wave)(X)
    values = {node.op.name: record.values[node.number] for node in record.nodes}
    np.testing.assert_array_equal(values["tanh"], np.tanh(X))
    assert values["sum"] == (np.tanh(X) * X).sum()


def test_derivatives_are_the_same_and_nothing_stays_when_it_is_over():
    expected = grad(wave)(X)
    with inspect.recording() as record, inspect.recording():
        assert len(watchers) == 2
        np.testing.assert_array_equal(grad(wave)(X), expected)
    count = len(record.nodes)
    grad(wave)(X)
    assert len(record.nodes) == count
    assert not watchers


def test_it_ends_with_an_exception_from_within_a_walk():
    def broken(x: Any) -> Any:
        raise KeyError

    with pytest.raises(KeyError), inspect.recording():
        grad(broken)(X)
    assert not watchers


@pytest.mark.parametrize("name", ["maml", "lstm-meta"])
def test_learners_name_their_inner_steps(name):
    learner = learners.make(name, way=2, size=16, filters=4, inner_steps=2)
    drawn = np.random.default_rng(0).random((1, 4, 16, 16, 1), np.float32)
    episode = Episode(drawn[:, :2], np.array([[0, 1]]), drawn[:, 2:], np.array([[0, 1]]), 2)
    with inspect.recording() as record:
        learner.meta_grad(learner.init(np.random.default_rng(0)), episode)
    seen = {record.origin(node).scopes for node in record.nodes}
    assert seen == {(), ("inner step 1",), ("inner step 2",)}
