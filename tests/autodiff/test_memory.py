"""Graphs die by reference count, as early as they can."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest

from minimeta import Tensor, grad, jvp, ops, value_and_grad, vjp
from minimeta.autodiff import Node, checkpoint, op


@pytest.fixture
def no_collector():
    """Whatever vanishes during the test vanishes by reference count."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def wave(x: Any) -> Any:
    return (ops.tanh(x) * x).sum()


def held_bytes() -> int:
    """Memory of all arrays that nodes keep."""
    arrays: dict[int, np.ndarray] = {}
    for node in gc.get_objects():
        if type(node) is Node:
            arrays |= {id(a): a for a in (*node.inputs, node.out) if isinstance(a, np.ndarray)}
    return sum(a.nbytes for a in arrays.values())


X = np.array([0.5, -1.0])

TRANSFORMS = {
    "third order": lambda: grad(lambda x: grad(lambda x: grad(wave)(x).sum())(x).sum())(X),
    "jvp of grad": lambda: jvp(grad(wave), (X,), (X,)),
    "checkpoint": lambda: grad(lambda x: grad(checkpoint(wave))(x).sum())(X),
    "pullback": lambda: vjp(wave, X)[1](1.0),
    "aux": lambda: value_and_grad(lambda x: (wave(x), x * x), has_aux=True)(X),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_no_cycles(name, no_collector, live_nodes):
    result = TRANSFORMS[name]()
    assert live_nodes() == 0
    assert gc.collect() == 0
    del result


def test_a_pullback_holds_the_graph_and_lets_go_of_it(no_collector, live_nodes):
    y, pullback = vjp(lambda x: ops.exp(x * x), X)
    assert live_nodes() == 3  # x, x * x, exp
    pullback(y)
    pullback(y)
    assert live_nodes() == 3
    del pullback
    assert live_nodes() == 0


def test_an_error_inside_leaves_nothing(no_collector, live_nodes):
    with pytest.raises(ValueError, match="one number"):
        grad(lambda x: x * x)(X)
    assert live_nodes() == 0


def test_constants_make_no_nodes(live_nodes):
    y = ops.tanh(Tensor(X)) * X
    assert type(y) is Tensor
    assert live_nodes() == 0


def test_the_graph_is_freed_while_it_is_walked(live_nodes):
    alive = []

    @op()
    def probe(xp: Any, x: Any) -> Any:
        return x * 1.0

    @probe.vjp(0)
    def _(g: Any, y: Any, x: Any) -> Any:
        alive.append(live_nodes())
        return g

    def chain(x: Any) -> Any:
        for _ in range(6):
            x = probe(x)
        return x.sum()

    value_and_grad(lambda x: (chain(x), x * 2), has_aux=True)(X)
    assert alive == [7, 6, 5, 4, 3, 2]  # at each probe: itself, what is older, and the variable


def test_checkpoint_holds_its_arguments_only(live_nodes):
    def block(x: Any) -> Any:
        for _ in range(50):
            x = ops.tanh(x) * 0.9
        return x

    x = np.ones(1000)
    _, stored = vjp(block, x)
    nodes, memory = live_nodes(), held_bytes()
    del stored
    y, recomputed = vjp(checkpoint(block), x)
    assert nodes == 101
    assert live_nodes() < 8
    assert memory >= 50 * x.nbytes
    assert held_bytes() <= 3 * x.nbytes
    expected = vjp(block, x)[1](y)
    np.testing.assert_array_equal(recomputed(y), expected)


def test_ops_that_need_no_values_hold_none():
    _, pullback = vjp(lambda x: (x + 1.0).reshape(-1).sum(), np.ones(1000))
    assert held_bytes() == 0
    del pullback


def long_chain(x: Any, length: int) -> Any:
    for _ in range(length // 2):
        x = ops.tanh(x) + x
    return x.sum()


def test_a_chain_of_100_000_operations_runs_forward_backward_and_is_freed(no_collector, live_nodes):
    value, slope = value_and_grad(lambda x: long_chain(x * 1e-9, 100_000))(X)
    assert np.isfinite(value)
    assert slope.shape == X.shape
    assert live_nodes() == 0


def test_a_long_graph_is_torn_down_without_recursion(no_collector, live_nodes):
    _, pullback = vjp(lambda x: long_chain(x, 100_000), X)
    assert live_nodes() == 100_002
    del pullback
    assert live_nodes() == 0


def test_a_long_chain_at_second_order(no_collector, live_nodes):
    grad(lambda x: grad(lambda x: long_chain(x * 1e-9, 20_000))(x).sum())(X)
    assert live_nodes() == 0
