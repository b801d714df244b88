"""Corner cases of indexing and sorting that the generic checks do not reach."""

import numpy as np
import pytest

import minimeta
from minimeta import Tensor, ops
from minimeta.testing import check_grads

rng = np.random.default_rng(0)
X = rng.normal(size=(4, 3, 5))
MASK = X > 0

INDICES = [
    0, -1, np.int64(2), slice(None), slice(None, None, -1), slice(3, 0, -2), slice(2, 2), None, Ellipsis, (),
    (Ellipsis, 1), (1, Ellipsis, None), (None, slice(1), None, 0), (slice(None), 1, slice(None, None, 2)),
    [0, 0, 3], np.array([[1, 1], [-1, 0]]), np.array([], int), (slice(None), [2, 2, -1]), ([0, 0, 1], [1, 1, 2]),
    ([0, 0], slice(None), [1, 1]), ([0, 3, 3], 1), (Ellipsis, [4, 4], None), (np.arange(4)[:, None], [0, 0]),
    MASK, MASK[:, 0, 0], (slice(None), MASK[0]), (MASK[:, :, 0], [1]), np.zeros(4, bool), (MASK[:, 0, 0], 0), True,
    ([True, False, True, True], slice(1)),
]  # fmt: skip


@pytest.mark.parametrize("index", INDICES, ids=repr)
def test_getitem_add_and_update_by_every_kind_of_index(index):
    np.testing.assert_array_equal(Tensor(X)[index].data, X[index])
    check_grads(lambda x: x[index] * x[index], [X])
    values = rng.normal(size=X[index].shape)
    added, updated = X.copy(), X.copy()
    np.add.at(added, index, values)
    updated[index] = values
    np.testing.assert_allclose(ops.index_add(X, index, values), added, rtol=1e-12)
    np.testing.assert_array_equal(ops.index_update(X, index, values), updated)
    check_grads(lambda x, v: ops.index_add(x, index, v * v), [X, values])
    check_grads(lambda x, v: ops.index_update(x, index, v * v), [X, values])


def test_picking_an_element_twice_collects_both_gradients():
    gradient = minimeta.grad(lambda x: (x[[0, 0, 2]] * np.array([1.0, 10.0, 100.0])).sum())(np.zeros(3))
    np.testing.assert_array_equal(gradient, [11.0, 0.0, 100.0])


def test_many_repeated_rows_in_float32_are_summed_precisely():
    labels = np.zeros(100_000, int)
    gradient = minimeta.grad(lambda x: x[labels].sum() * 0.1)(np.zeros((2, 1), np.float32))
    assert gradient.dtype == np.float32
    np.testing.assert_allclose(gradient, [[10_000.0], [0.0]], rtol=1e-6)


def test_an_overwritten_value_gets_no_gradient():
    gradients = minimeta.grad(lambda x, v: ops.index_update(x, [1, 1, 0], v).sum(), (0, 1))
    by_x, by_values = gradients(np.ones(3), np.ones(3))
    np.testing.assert_array_equal(by_x, [0.0, 0.0, 1.0])
    np.testing.assert_array_equal(by_values, [0.0, 1.0, 1.0])


@pytest.mark.parametrize("values", [2.0, np.ones(()), np.ones(3), np.ones((2, 3))])
def test_values_broadcast_and_inputs_stay(values):
    x = np.zeros((2, 3))
    np.testing.assert_array_equal(ops.index_add(x, [0, 0], values)[0], 2 * np.broadcast_to(values, (2, 3))[0])
    np.testing.assert_array_equal(ops.index_update(x, Ellipsis, values), np.broadcast_to(values, (2, 3)))
    np.testing.assert_array_equal(x, np.zeros((2, 3)))


def test_update_keeps_the_dtype_of_x_and_values_their_own():
    x, v = np.zeros(3, np.float32), np.ones(1)
    assert ops.index_update(x, slice(1), v).dtype == np.float32
    assert minimeta.grad(lambda v: ops.index_update(x, slice(1), v).sum())(v).dtype == np.float64


def test_tensors_serve_as_indices():
    x, rows = Tensor(X), Tensor(np.array([2, 0]))
    np.testing.assert_array_equal(x[rows].data, X[[2, 0]])
    np.testing.assert_array_equal(x[:, rows].data, X[:, [2, 0]])
    np.testing.assert_array_equal(ops.index_add(x, rows, 1.0).data, ops.index_add(X, [2, 0], 1.0))
    np.testing.assert_array_equal(ops.take(x, rows, 1).data, X[:, [2, 0]])
    np.testing.assert_array_equal(ops.take_along_axis(x[:, 0, 0], rows).data, X[[2, 0], 0, 0])


def test_iteration_and_unpacking():
    first, second = Tensor(np.array([1.0, 2.0]))
    assert (float(first), float(second)) == (1.0, 2.0)
    assert float(minimeta.grad(lambda x: list(x)[1] ** 2)(np.array([1.0, 2.0]))[1]) == 4.0


def test_take_along_axis_broadcasts():
    rows = np.array([[[0, 1]]])
    np.testing.assert_array_equal(ops.take_along_axis(X, rows), np.take_along_axis(X, rows, -1))
    check_grads(lambda x: ops.take_along_axis(x, rows) ** 2, [X])


def test_sort_is_stable_and_its_gradient_follows_the_permutation():
    x = np.array([2.0, 1.0, 2.0, 0.0])
    np.testing.assert_array_equal(ops.argsort(x), [3, 1, 0, 2])
    gradient = minimeta.grad(lambda x: (ops.sort(x) * np.arange(4.0)).sum())(x)
    np.testing.assert_array_equal(gradient, [2.0, 1.0, 3.0, 0.0])


@pytest.mark.parametrize("labels", [np.zeros((0,), int), np.array(2), np.array([[0, 2], [1, 1]], np.uint8)])
def test_one_hot_of_any_shape(labels):
    rows = ops.one_hot(labels, 3)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, np.eye(3)[labels])
    assert ops.one_hot(labels, 3, np.float64).dtype == np.float64


def test_masked_picking_that_depends_on_the_values():
    check_grads(lambda x: x[x > 0] ** 2, [X])
