"""The handle: NumPy's manners where they are safe, loud refusals where they would lose a gradient."""

from __future__ import annotations

import operator

import numpy as np
import pytest

from minimeta import Tensor, grad, ops
from tests.autodiff.numeric import close

A = np.array([1.0, 2.0])
B = np.array([3.0, 5.0])

ARITHMETIC = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow, operator.matmul]
COMPARISONS = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]


@pytest.mark.parametrize("operation", ARITHMETIC)
def test_arithmetic_works_with_arrays_on_either_side(operation):
    expected = operation(A, B)
    for y in (operation(Tensor(A), B), operation(A, Tensor(B)), operation(Tensor(A), Tensor(B))):
        assert type(y) is Tensor
        np.testing.assert_array_equal(np.asarray(y), expected)


@pytest.mark.parametrize("operation", [o for o in ARITHMETIC if o is not operator.matmul])
@pytest.mark.parametrize("number", [3, 2.5, np.float64(2.5), np.float32(2.5)])
def test_arithmetic_works_with_numbers_on_either_side(operation, number):
    np.testing.assert_array_equal(np.asarray(operation(Tensor(A), number)), operation(A, number))
    np.testing.assert_array_equal(np.asarray(operation(number, Tensor(A))), operation(number, A))


@pytest.mark.parametrize("operation", COMPARISONS)
def test_comparisons_are_plain_arrays(operation):
    for y in (operation(Tensor(A), A[::-1]), operation(A, Tensor(A[::-1])), operation(Tensor(A), Tensor(A[::-1]))):
        assert type(y) is np.ndarray
        assert y.tolist() == operation(A, A[::-1]).tolist()


def test_gradients_pass_through_arrays_on_the_left():
    close(grad(lambda x: (A + x).sum() + (A * x).sum() + (A @ x))(B), 1 + 2 * A)
    close(grad(lambda x: (A - x).sum() + (2.0 / x).sum())(B), -1 - 2 / B**2)


@pytest.mark.parametrize("name", ["tanh", "exp", "maximum", "sqrt"])
def test_numpy_functions_of_tensors_are_loud_and_name_the_way_out(name):
    arguments = (Tensor(A), A) if name == "maximum" else (Tensor(A),)
    with pytest.raises(TypeError, match=f"NumPy's {name} would drop .* use minimeta.ops.{name}"):
        getattr(np, name)(*arguments)


@pytest.mark.parametrize("name", ["mean", "sum", "concatenate", "where"])
def test_numpy_routines_of_tensors_are_loud_and_name_the_way_out(name):
    argument = [Tensor(A)] if name == "concatenate" else Tensor(A)
    with pytest.raises(TypeError, match=f"NumPy's {name} would drop the gradient; use minimeta.ops.{name}"):
        getattr(np, name)(argument)


def test_writing_into_arrays_or_tensors_is_refused():
    array = A.copy()
    with pytest.raises(TypeError, match=r"in-place operators"):
        array += Tensor(A)
    with pytest.raises(TypeError, match=r"in-place operators"):
        np.add(A, Tensor(A), out=array)
    with pytest.raises(TypeError, match=r"use minimeta.ops.index_update\(x, index, values\) or ops.index_add"):
        Tensor(A)[0] = 1.0
    with pytest.raises(TypeError, match=r"minimeta\.ops\.add"):
        np.add.reduce(Tensor(A))
    assert array.tolist() == A.tolist()


def test_augmented_assignment_makes_a_new_tensor():
    t = before = Tensor(A)
    t += 1
    assert (t.data.tolist(), before.data.tolist()) == ([2.0, 3.0], [1.0, 2.0])


def test_a_tensor_answers_like_its_array():
    t = Tensor(np.arange(6.0).reshape(2, 3))
    assert (t.shape, t.dtype, t.ndim, t.size, len(t)) == ((2, 3), np.float64, 2, 6, 2)
    assert [row.data.tolist() for row in t] == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    assert (t.T.shape, t.sum().item(), float(t[1, 2]), int(t[1, 0])) == ((3, 2), 15.0, 5.0, 3)
    assert [10, 20, 30][Tensor(np.array(1))] == 20
    assert bool(Tensor(1.0))
    assert not Tensor(0.0)


def test_what_numpy_refuses_a_tensor_refuses():
    with pytest.raises(ValueError, match="ambiguous"):
        bool(Tensor(A))
    with pytest.raises(TypeError):
        float(Tensor(A))
    with pytest.raises(TypeError, match="0-d tensor"):
        iter(Tensor(1.0))
    with pytest.raises(TypeError):
        len(Tensor(1.0))
    with pytest.raises(TypeError):
        hash(Tensor(1.0))


def test_only_arrays_make_tensors():
    with pytest.raises(TypeError, match="cannot make an array of dict"):
        Tensor({})
    with pytest.raises(TypeError, match="is a Tensor already"):
        Tensor(Tensor(A))
    assert Tensor([1, 2]).dtype == np.int64


def test_repr_shows_values_dtype_and_operation():
    assert repr(Tensor(A)) == "Tensor([1., 2.])"
    assert repr(Tensor(A.astype(np.float32))) == "Tensor([1., 2.], dtype=float32)"
    seen = []
    grad(lambda x: [seen.append(repr(ops.exp(x * 0))), x][1])(0.0)
    assert seen == ["Tensor(1., op=exp)"]


def test_values_leave_through_array_and_dlpack():
    t = Tensor(A)
    assert np.asarray(t) is A
    assert np.array(t, dtype=np.float32).dtype == np.float32
    assert np.array(t) is not A
    shared = np.from_dlpack(t)
    assert shared.tolist() == [1.0, 2.0]
    assert np.shares_memory(shared, A)


def test_values_leave_a_recording_as_constants():
    close(grad(lambda x: (x * np.asarray(x)).sum())(A), A)
    assert grad(lambda x: x * float(x))(3.0) == 3.0
