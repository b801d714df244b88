"""Every operation and every rule asks the module of its arguments for all it does: none of them assumes NumPy."""

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from minimeta import grad, ops, testing, tree
from minimeta.ops.record import RECORDS

few = settings(
    max_examples=10, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)  # fmt: skip
ORDERS = [(name, order) for name, record in sorted(RECORDS.items()) for order in range(min(record.orders, 2) + 1)]


def draw(name, data):
    args, options = RECORDS[name].cases(testing.HypothesisDraw(data))
    arrays = tree.map(lambda leaf: np.asarray(leaf) if isinstance(leaf, np.generic) else leaf, args)
    return testing.Case(RECORDS[name], arrays, options)


def moved(case, device):
    """The same call with the arrays on the device."""
    return testing.Case(case.record, device.put(case.args), device.put(case.options))


def derivatives(case, args, order):
    """The result of order 0, the gradient of order 1, of order 2 that of the gradient's squares."""
    if order == 0:
        return case.call(*args)
    if order == 1:
        return case.gradients(args)
    places = [i for i, leaf in enumerate(tree.leaves(args)) if "float" in str(getattr(leaf, "dtype", ""))]

    def squares(variables):
        leaves = tree.leaves(args)
        for i, variable in zip(places, variables, strict=True):
            leaves[i] = variable
        return sum((g * g).sum() for g in case.gradients(tree.unflatten(args, leaves)))

    return grad(squares)([tree.leaves(args)[i] for i in places])


@pytest.mark.parametrize(("name", "order"), ORDERS)
@few
@given(data=st.data())
def test_same_values_and_derivatives_as_on_numpy(device, name, order, data):
    case = draw(name, data)
    there = moved(case, device)
    device.assert_close(derivatives(there, there.args, order), derivatives(case, case.args, order), 1e-9)


def test_the_last_of_several_values_stays(device):
    x, index = device.put(np.zeros((4, 2))), device.put(np.array([1, 3, 1, 1, 3]))
    values = np.arange(10.0).reshape(5, 2)
    updated = ops.index_update(x, index, device.put(values))
    device.assert_close(updated, np.array([[0, 0], [6, 7], [0, 0], [8, 9]], float), 0)
    weights = device.put(np.arange(8.0).reshape(4, 2))
    slopes = grad(lambda values: (ops.index_update(x, index, values) * weights).sum())(device.put(values))
    device.assert_close(slopes, np.array([[0, 0], [0, 0], [0, 0], [2, 3], [6, 7]], float), 0)


def test_batches_of_systems_broadcast(device):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(3, 1, 2, 2)) + 3 * np.eye(2), rng.normal(size=(4, 2, 1))
    device.assert_close(ops.solve(device.put(a), device.put(b)), np.linalg.solve(a, b), 1e-9)


def test_labels_out_of_range_are_nan_where_they_cannot_be_looked_at(device):
    logits, labels = device.put(np.zeros((3, 2))), device.put(np.array([0, 2, -1]))
    with device.no_copies_to_host():
        losses = ops.cross_entropy(logits, labels, "none")
        rows = ops.one_hot(labels, 2)
    device.assert_close(losses, np.array([np.log(2), np.nan, np.nan]), 1e-9)
    device.assert_close(rows, np.array([[1, 0], [0, 0], [0, 0]], np.float32), 0)


INDEXED = {
    "getitem": lambda x, rows: x[rows],
    "take_along_axis": lambda x, rows: ops.take_along_axis(x, rows[:, None]),
    "index_add": lambda x, rows: ops.index_add(x, rows, x[:3]),
    "index_update": lambda x, rows: ops.index_update(x, rows, x[:3]),
    "cross_entropy": lambda x, rows: ops.cross_entropy(x, rows),
    "one_hot": lambda x, rows: x @ ops.one_hot(rows, 3, dtype="float64"),
    "sort": lambda x, rows: ops.sort(x) * x,
}


@pytest.mark.parametrize("name", INDEXED)
def test_gradients_by_index_copy_nothing(device, name):
    x, rows = device.put([np.random.default_rng(0).normal(size=(3, 3)), np.array([2, 0, 2])])
    with device.no_copies_to_host(), device.copies_to_device() as copied:
        grad(lambda x: INDEXED[name](x, rows).sum())(x)
    assert copied() == 0
