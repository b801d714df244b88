"""The memory listing says what is really there: measured by looking at all nodes alive while the engine works."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minimeta import Tensor, grad, inspect, ops
from minimeta.autodiff import Node, checkpoint
from minimeta.autodiff.watching import Watcher, watched_by
from minimeta.inspect.graph import held
from tests.autodiff.random_programs import points, run

X = np.linspace(-1.0, 1.0, 50)


class Scales(Watcher):
    """What all nodes alive keep, after each node made, and after each walked one where that can be seen."""

    def __init__(self) -> None:
        self.moments: list[tuple[str, int | None]] = []

    def made(self, name: str, node: Node | None, out: Any) -> None:
        if node is not None:
            self.moments.append(("made", alive()))

    def walked(self, found: Any, steps: Iterator[Any]) -> Iterator[Any]:
        for step in steps:
            self.moments.append(("walked", None))  # the node is still being held by the walk
            yield step
            del step

    def sent(self, node: Node, i: int, value: Any) -> None:
        if self.moments[-1] == ("walked", None):  # by now it is not
            self.moments[-1] = ("walked", alive())


def alive() -> int:
    """Bytes of all arrays that nodes keep, each once, views as what they are views of."""
    arrays = {id(a): a for node in gc.get_objects() if type(node) is Node for a, _ in held(node)}
    return sum(a.nbytes for a in arrays.values())


def weighed(f: Any, x: Any) -> list[tuple[str, int | None]]:
    scales = Scales()
    gc.collect()
    gc.freeze()
    with watched_by(scales):
        grad(f)(x)
    return scales.moments


def wave(x: Any) -> Any:
    return (ops.tanh(x) * x).sum()


def adapted(w: Any) -> Any:
    for _ in range(3):
        w = w - 0.1 * grad(wave)(w)
    return wave(w)


FUNCTIONS = {
    "first order": wave,
    "second order": lambda x: grad(wave)(x).sum(),
    "third order": lambda x: grad(lambda x: grad(wave)(x).sum())(x).sum(),
    "through three gradient steps": adapted,
    "checkpoint": lambda x: checkpoint(wave)(x) * wave(x),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_timeline_is_what_is_alive(name):
    f = FUNCTIONS[name]
    timeline, measured = inspect.memory(f, X).timeline, weighed(f, X)
    assert [moment.kind for moment in timeline] == [kind for kind, _ in measured]
    for moment, (_, nbytes) in zip(timeline, measured, strict=True):
        assert nbytes in (None, moment.nbytes), moment
    assert sum(nbytes is not None for _, nbytes in measured) > len(measured) / 2
    assert timeline[-1].nbytes == 0


@settings(max_examples=40)
@given(points(1), st.integers(1, 2))
@example((([("average", (0, 0))], [()]), np.zeros(1)), 2)
def test_a_backward_walk_lets_go_as_the_timeline_says(drawn, order):
    program, x = drawn

    def f(x: Any) -> Any:
        return run(program, ops, x)

    # times x, so that something is made after the inner walk, which f's value is alive in, even if f is linear
    g = f if order == 1 else lambda x: (grad(f)(x) * x).sum()
    check_the_last_walk(g, x)


def test_a_node_stays_as_long_as_what_was_made_from_it():
    """exp of the inner variable is not on the way of the last walk, but the rule of square made nodes from it."""
    check_the_last_walk(lambda x: grad(lambda y: (ops.square(ops.exp(y)) * x).sum())(X).sum(), X)


def check_the_last_walk(f: Any, x: Any) -> None:
    """By then there are no handles left that f itself keeps, which a timeline knows nothing of."""
    timeline, measured = inspect.memory(f, x).timeline, weighed(f, x)
    assert len(timeline) == len(measured)
    forward = max(i for i, moment in enumerate(timeline) if moment.kind == "made") + 1
    for moment, (_, nbytes) in list(zip(timeline, measured, strict=True))[forward:]:
        assert nbytes in (None, moment.nbytes), moment


def test_the_peak_agrees_with_what_python_allocates():
    """Of large arrays nothing else matters: what the listing says is kept is what a run takes, within a fifth."""
    x = np.random.default_rng(0).random(100_000)

    def deep(x: Any) -> Any:
        for _ in range(20):
            x = ops.tanh(x)
        return x.sum()

    tracemalloc.start()
    grad(deep)(x)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert inspect.memory(deep, x).nbytes == 20 * x.nbytes
    assert 20 * x.nbytes <= peak <= 24 * x.nbytes


def test_who_keeps_what_and_why():
    kept = inspect.memory(lambda x: (ops.tanh(x) * x * 2.0).sum(), X).kept
    assert [(array.name, array.type, array.nbytes, array.keepers) for array in kept] == [
        ("tanh_1", "float64[50]", 400, ("tanh_1 (out)", "multiply_1 (x1)")),
        ("x", "float64[50]", 400, ("multiply_1 (x2)",)),
        ("multiply_1", "float64[50]", 400, ("multiply_2 (x1)",)),
    ]


def test_constants_and_views_are_named_after_what_they_are():
    data = np.ones((50, 2))
    kept = inspect.memory(lambda x: (x.reshape(50, 1)[1:] * data[1:]).sum(), X).kept
    assert [(array.name, array.nbytes, array.keepers) for array in kept] == [
        ("constant", data.nbytes, ("multiply_1 (x2)",)),
        ("x", X.nbytes, ("multiply_1 (x1)",)),
    ]


def test_a_tensor_shows_what_its_graph_keeps_now():
    seen = []

    def f(x: Any) -> Any:
        y = ops.exp(x)
        seen.append(inspect.memory(y))
        return y.sum()

    grad(f)(X)
    assert [(array.name, array.keepers) for array in seen[0].kept] == [("exp_1", ("exp_1 (out)",))]
    assert seen[0].timeline == []
    assert str(seen[0]).splitlines()[-1] == f"{X.nbytes:12,}  in all"


def test_a_recorded_training_step():
    params = {"w": X, "b": np.zeros(50)}
    with inspect.recording() as record:
        for _ in range(2):
            params = {k: w - 0.1 * g for (k, w), g in zip(params.items(), grad(_loss)(params).values(), strict=True)}
    memory = inspect.memory(record)
    assert [moment.kind for moment in memory.timeline].count("walked") == 2 * 4
    assert memory.timeline[-1].nbytes == 0
    assert memory.nbytes == max(moment.nbytes for moment in memory.timeline) == 3 * X.nbytes


def _loss(params: Any) -> Any:
    return (ops.tanh(params["w"] * X) + params["b"]).sum()


def test_a_checkpoint_buys_memory():
    def deep(x: Any) -> Any:
        for _ in range(4):
            x = ops.tanh(x)
        return x

    whole = inspect.memory(lambda x: deep(deep(deep(x))).sum(), X).nbytes
    parts = inspect.memory(lambda x: checkpoint(deep)(checkpoint(deep)(checkpoint(deep)(x))).sum(), X).nbytes
    assert whole == 12 * X.nbytes
    assert parts < 8 * X.nbytes


def test_what_is_computed_again_has_names_after_all_others():
    kept = inspect.memory(lambda x: checkpoint(lambda x: ops.tanh(ops.tanh(x) * 2.0))(x).sum(), X).kept
    assert [(array.name, array.keepers) for array in kept] == [
        ("x", ("checkpoint_1 (inputs[0])",)),
        ("tanh_1", ("tanh_1 (out)", "multiply_1 (x1)")),
        ("tanh_2", ("tanh_2 (out)",)),
    ]


def test_long_lists_end_in_a_sum():
    def f(x: Any) -> Any:
        for _ in range(30):
            x = ops.tanh(x)
        return x.sum()

    lines = str(inspect.memory(f, X)).splitlines()
    assert lines[21].split() == ["4,000", "in", "10", "more"]
    assert lines[22].split() == ["12,000", "in", "all"]


@pytest.mark.parametrize("shape", [(2,), (1, 1, 1, 1, 1, 1, 1, 1, 2)])
def test_columns_line_up(shape):
    head, row, *_ = str(inspect.memory(lambda x: ops.sum(ops.tanh(x)), np.ones(shape))).splitlines()
    assert head.index("  kept by") == row.index("  tanh_1 (out)")


def test_nothing_kept_is_nothing():
    memory = inspect.memory(lambda x: (x + 1.0).sum(), X)
    assert memory.nbytes == 0
    assert "0  in all" in str(memory)
    assert inspect.memory(inspect.Recording()).timeline == []


def test_bad_input_is_named():
    with pytest.raises(TypeError, match="takes a function or a Tensor, got ndarray"):
        inspect.memory(X)
    with pytest.raises(ValueError, match="the Tensor is a constant"):
        inspect.memory(Tensor(X))
