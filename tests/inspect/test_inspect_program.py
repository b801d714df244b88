"""Listings, golden: what they say is checked by eye once, and by these texts from then on."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from minimeta import grad, inspect, ops
from minimeta.inspect.graph import Graph
from tests.autodiff.random_programs import points, run

X = np.array([1.0, -0.5])

INNER_STEP = """\
params['w'] = input  # float64[2]
inner step:
  alias_1 = alias(params['w'])  # float64[2]
  loss:
    tanh_1 = tanh(alias_1)  # float64[2], holds out 16 B
    square_1 = square(tanh_1)  # float64[2], let go
  add_1 = add(tanh_1, tanh_1)  # float64[2], order 1 by square_1
  multiply_1 = multiply(float64[2], add_1)  # float64[2], order 1 by square_1, holds x1 8 B, x2 16 B
  square_2 = square(tanh_1)  # float64[2], order 1 by tanh_1, holds x
  multiply_2 = multiply(multiply_1, square_2)  # float64[2], order 1 by tanh_1, holds x1 16 B, x2 16 B
  subtract_1 = subtract(multiply_1, multiply_2)  # float64[2], order 1 by tanh_1
  multiply_3 = multiply(0.1, subtract_1)  # float64[2], holds x2 16 B
  subtract_2 = subtract(params['w'], multiply_3)  # float64[2]
tanh_2 = tanh(subtract_2)  # float64[2], holds out 16 B
sum_1 = sum(tanh_2)  # float64[]
return sum_1  # 13 nodes, 7 arrays held, 104 B"""


def inner_step(params: Any) -> Any:
    def loss(params: Any) -> Any:
        with inspect.scope("loss"):
            return ops.square(ops.tanh(params["w"])).sum()

    with inspect.scope("inner step"):
        w = params["w"] - 0.1 * grad(loss)(params)["w"]
    return ops.tanh(w).sum()


def test_an_inner_gradient_step_with_scopes_and_orders():
    assert inspect.program(inner_step, {"w": X}) == INNER_STEP


def test_options_constants_and_views():
    def f(x: Any) -> Any:
        return (ops.reshape(x, (2, 1)) * np.ones((2, 3), np.float32) * 2).sum(axis=(0, 1))

    assert inspect.program(f, X.astype(np.float32)) == """\
x = input  # float32[2]
reshape_1 = reshape(x, shape=(2, 1))  # float32[2, 1]
multiply_1 = multiply(reshape_1, float32[2, 3])  # float32[2, 3], holds x1 8 B, x2 24 B
multiply_2 = multiply(multiply_1, 2)  # float32[2, 3], holds x1 24 B
sum_1 = sum(multiply_2, axis=(0, 1))  # float32[]
return sum_1  # 5 nodes, 3 arrays held, 56 B"""


def test_a_tensor_inside_a_function():
    texts = []

    def f(x: Any) -> Any:
        y = ops.exp(x) * x
        texts.append(inspect.program(y))
        return y.sum()

    grad(f)(X)
    assert texts == ["""\
input_1 = input  # float64[2]
exp_1 = exp(input_1)  # float64[2], holds out 16 B
multiply_1 = multiply(exp_1, input_1)  # float64[2], holds x1, x2 16 B
return multiply_1  # 3 nodes, 2 arrays held, 32 B"""]


@given(points(1), st.integers(1, 3))
def test_it_is_the_same_every_time_and_complete(drawn, order):
    program, x = drawn
    texts = [inspect.program(lambda x: run(program, ops, x), x, order=order) for _ in range(2)]
    assert texts[0] == texts[1]
    *lines, last = texts[0].splitlines()
    names = [line.split(" = ")[0].strip() for line in lines]
    assert len(set(names)) == len(names)
    assert last.endswith("# a constant") if not names else f"# {len(names)} nodes" in last
    known: set[str] = set()
    for name, line in zip(names, lines, strict=True):  # whatever is used was there before
        used = line.split(" = ")[1].split("  # ")[0]
        inside = used[used.find("(") + 1 : -1].split(", ") if "(" in used else []
        assert {part for part in inside if part in names} <= known
        known.add(name)


def test_one_node_more_leaves_the_names_of_other_operations_alone():
    def f(x: Any, twice: bool) -> Any:
        y = ops.tanh(x)
        return (ops.tanh(ops.negative(y)) if twice else ops.tanh(y)).sum()

    one, two = (inspect.program(lambda x, twice=twice: f(x, twice), X).splitlines() for twice in (False, True))
    assert len(set(two) - set(one)) == 3  # the new node, the one that takes it, and the count at the end


def test_names_given_twice_do_not_clash():
    def f(tanh_1: Any) -> Any:
        return ops.tanh(tanh_1).sum()

    names = [line.split(" = ")[0] for line in inspect.program(f, X).splitlines()[:-1]]
    assert names == ["tanh_1", "tanh_2", "sum_1"]


def test_a_graph_without_recording_counts_all_nodes_as_forward():
    def f(x: Any) -> Any:
        y = ops.exp(x)
        graph = Graph([y.node])
        assert [(v.name, v.origin.order, v.live) for v in graph] == [("input_1", 0, True), ("exp_1", 0, True)]
        assert graph[y.node].value is y.node.out
        return y.sum()

    grad(f)(X)


def test_what_depends_on_nothing_is_a_constant():
    assert inspect.program(lambda x: x * 3.0, 2.0, order=2) == "return 3.0  # a constant"
    walk = inspect.steps(lambda x: x * 3.0, 2.0, order=2)
    assert walk.gradients() == {"x": 0.0}
    assert inspect.memory(lambda x: x * 3.0, 2.0, order=2).timeline[0].name == "x"
