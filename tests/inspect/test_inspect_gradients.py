"""gradient_flow and compare: numbers that are right, and faults that are found where they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimeta import inspect, ops
from minimeta.autodiff import op
from tests.autodiff.random_programs import points, run


@op(saves="inputs")
def bent(xp: Any, x: Any) -> Any:
    return x * x


@bent.vjp(0)
def _(g: Any, y: Any, x: Any) -> Any:
    return g * ops.where(np.arange(x.size) == 2, 2.5 * x, 2.0 * x)  # wrong at entry 2


@op(saves="inputs")
def void(xp: Any, x: Any) -> Any:
    return x * x


@void.vjp(0)
def _(g: Any, y: Any, x: Any) -> Any:
    return g * np.nan


@given(points(1))
def test_right_gradients_differ_by_rounding_only(drawn):
    program, x = drawn
    rows = inspect.compare(lambda x: run(program, ops, x), x)
    assert [(row.name, row.compared) for row in rows] == [("x", x.size)]
    assert rows.worst.error < 1e-8


def test_a_wrong_entry_is_found_among_right_ones():
    params = {"good": np.ones(3), "bad": np.full(4, 2.0)}
    rows = inspect.compare(lambda params: (params["good"] ** 2).sum() + bent(params["bad"]).sum(), params)
    assert rows.worst.name == "params['bad']"
    assert rows.worst.worst == (2,)
    assert (rows.worst.gradient, round(rows.worst.expected, 6)) == (5.0, 4.0)
    assert rows[0].error < 1e-9
    lines = str(rows).splitlines()
    assert lines[2].startswith("params['bad'][2] ")
    assert lines[2].endswith("2.5e-01  4 of 4  <- worst")
    assert "worst" not in lines[1]


def test_nan_is_the_worst_of_all():
    worst = inspect.compare(lambda a, b: void(a) + bent(b).sum(), 1.0, np.ones(4)).worst
    assert (worst.name, worst.worst, worst.error) == ("a", (), np.inf)


def test_of_many_entries_so_many_are_drawn():
    x = np.ones((20, 20))
    first, again, other = (inspect.compare(lambda x: (x**2).sum(), x, entries=7, seed=seed)[0] for seed in (0, 0, 1))
    assert first == again
    assert first.compared == 7
    assert str(inspect.compare(lambda x: (x**2).sum(), x, entries=7)).endswith("7 of 400")
    assert isinstance(other.worst, tuple)
    with pytest.raises(ValueError, match="entries=0; need entries >= 1"):
        inspect.compare(lambda x: (x**2).sum(), x, entries=0)
    with pytest.raises(ValueError, match="the function returns one number"):
        inspect.compare(lambda x: x**2, x)


def test_float32_is_compared_in_float64_and_integers_are_left_alone():
    rows = inspect.compare(lambda x, n: (x**2).sum() * n, np.ones(3, np.float32), 3)
    assert [row.name for row in rows] == ["x"]
    assert rows.worst.error < 1e-9


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=6), st.floats(1e-6, 1e6))
def test_norms_and_zeros_are_numpys(values, scale):
    w = np.array(values)
    (row,) = inspect.gradient_flow([w], [w * scale])
    assert (row.name, row.size, row.bad) == ("params[0]", w.size, 0)
    assert row.norm == pytest.approx(np.sqrt((w**2).sum()))
    assert row.gradient == pytest.approx(np.sqrt(((w * scale) ** 2).sum()))
    assert row.zeros == (w * scale == 0).sum()


def test_bars_are_by_powers_of_ten():
    grads = {"a": np.array([1e-4]), "b": np.array([1e-2]), "c": np.array([1.0]), "d": np.zeros(1)}
    lines = str(inspect.gradient_flow({k: np.ones(1) for k in grads}, grads)).splitlines()[1:]
    assert [line.count("█") for line in lines] == [1, 12 + 1, 24, 0]
    assert "100%" in lines[3]


def test_nan_and_inf_are_told():
    rows = inspect.gradient_flow({"w": np.ones(3)}, {"w": np.array([1.0, np.nan, np.inf])})
    assert rows[0].bad == 2
    assert str(rows).endswith("2 of 3 entries NaN or Inf")


@pytest.mark.parametrize("name", ["w", "a_name_longer_than_the_head_of_its_column"])
def test_columns_line_up(name):
    compared = str(inspect.compare(lambda p: p[name] ** 2, {name: 1.0})).splitlines()
    assert compared[0].index("  compared") == compared[1].index("  1 of 1")
    flows = str(inspect.gradient_flow(1.0, 1.0)).splitlines()
    assert flows[0].index("zeros") + 5 == flows[1].index(" 0%") + 3


def test_trees_that_differ_are_named():
    with pytest.raises(ValueError, match="trees differ at the root"):
        inspect.gradient_flow({"w": np.ones(3)}, {"v": np.ones(3)})
    with pytest.raises(ValueError, match=r"params\['w'\] has shape \(3,\), its gradient \(2,\)"):
        inspect.gradient_flow({"w": np.ones(3)}, {"w": np.ones(2)})
