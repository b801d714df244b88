"""What an operation says when it is called wrongly: its name, the rule, the arguments and their values."""

import re

import numpy as np
import pytest

import minimeta
from minimeta import Tensor, ops

A, B = np.ones((5, 3)), np.ones((4, 2))


@pytest.mark.parametrize("wrap", [np.asarray, Tensor])
@pytest.mark.parametrize(
    ("call", "error", "parts"),
    [
        (lambda w: ops.matmul(w(A), w(B)), ValueError,
         ["minimeta.matmul: inner sizes differ", "a.shape=(5, 3)", "b.shape=(4, 2)", "a.shape[-1] == b.shape[-2"]),
        (lambda w: ops.matmul(w(A), w(2.0)), ValueError, ["minimeta.matmul", "axis to sum over", "b.shape=()"]),
        (lambda w: ops.add(w(A), w(B)), ValueError, ["minimeta.add", "x1.shape=(5, 3)", "x2.shape=(4, 2)"]),
        (lambda w: ops.getitem(w(A), (0, 7)), IndexError,
         ["minimeta.getitem: index 7 is out of bounds", "x.shape=(5, 3)", "index=(0, 7)"]),
        (lambda w: ops.index_add(w(A), 9, w(np.ones(3))), IndexError, ["minimeta.index_add", "index=9"]),
        (lambda w: ops.index_update(w(A), 0, w(np.ones(2))), ValueError,
         ["minimeta.index_update", "x.shape=(5, 3)", "values.shape=(2,)", "index=0"]),
        (lambda w: ops.take(w(A), [0], axis=2), ValueError, ["minimeta.take: axis=2", "x.shape=(5, 3)"]),
        (lambda w: ops.take_along_axis(w(A), np.zeros(3, int)), ValueError,
         ["minimeta.take_along_axis", "x.shape=(5, 3)", "indices.shape=(3,)"]),
        (lambda w: ops.one_hot(w(np.array([0, 5])), 5), ValueError, ["minimeta.one_hot: label 5", "0 <= label < 5"]),
        (lambda w: ops.one_hot(w(np.array([0, -1])), 5), ValueError, ["minimeta.one_hot: label -1", "0 <= label < 5"]),
        (lambda w: ops.one_hot(w(np.array([0.5])), 5), TypeError, ["minimeta.one_hot", "integers", "float64"]),
        (lambda w: ops.sort(w(A), axis=2), ValueError, ["minimeta.argsort", "axis=2"]),
        (lambda w: ops.tensordot(w(A), w(B), 1), ValueError,
         ["minimeta.tensordot: paired axes differ in length", "a.shape=(5, 3)", "b.shape=(4, 2)", "axes=1"]),
        (lambda w: ops.tensordot(w(A), w(B), ([5], [0])), ValueError, ["minimeta.tensordot", "axes=([5], [0])"]),
        (lambda w: ops.einsum("ij,jk", w(A), w(B)), ValueError,
         ["minimeta.einsum: label 'j' has lengths 3 and 4", "'ij,jk'", "(5, 3), (4, 2)"]),
        (lambda w: ops.einsum("ij,jk", w(A)), ValueError, ["minimeta.einsum: 2 operands are named, 1 given"]),
        (lambda w: ops.einsum("i", w(A)), ValueError, ["minimeta.einsum: 'i' does not fit an array of 2 axes"]),
        (lambda w: ops.einsum("ij->ik", w(A)), ValueError, ["minimeta.einsum: the result 'ik'"]),
        (lambda w: ops.norm(w(A), 2), ValueError, ["minimeta.norm: ord=2 over 2 axes is not offered"]),
        (lambda w: ops.norm(w(A), 3, axis=0), ValueError, ["minimeta.norm: ord=3", "1, 2 or inf"]),
        (lambda w: ops.diag(w(np.ones((2, 2, 2)))), ValueError, ["minimeta.diag", "x.shape=(2, 2, 2)"]),
        (lambda w: ops.inv(w(A)), ValueError, ["minimeta.inv: needs square matrices", "a.shape=(5, 3)"]),
        (lambda w: ops.inv(w(np.zeros((2, 2)))), ValueError, ["minimeta.inv: Singular matrix"]),
        (lambda w: ops.solve(w(np.eye(3)), w(B)), ValueError,
         ["minimeta.solve", "a.shape=(3, 3)", "b.shape=(4, 2)", "b.shape[-2] == a.shape[-1]"]),
        (lambda w: ops.cholesky(w(-np.eye(2))), ValueError, ["minimeta.cholesky", "not positive definite"]),
        (lambda w: ops.slogdet(w(A)), ValueError, ["minimeta.slogdet: needs square matrices"]),
        (lambda w: ops.reshape(w(A), (4, 4)), ValueError, ["minimeta.reshape", "x.shape=(5, 3)", "shape=(4, 4)"]),
        (lambda w: ops.concatenate([w(A), w(B)]), ValueError,
         ["minimeta.concatenate", "arrays[0].shape=(5, 3)", "arrays[1].shape=(4, 2)"]),
        (lambda w: ops.concatenate(w(A), w(A)), TypeError, ["minimeta.concatenate: takes a list or tuple of arrays"]),
        (lambda w: ops.sum(w(A), 0, True, 3), TypeError, ["minimeta.sum: 3 positional options"]),
    ],
)  # fmt: skip
def test_message(wrap, call, error, parts):
    with pytest.raises(error) as caught:
        call(wrap)
    assert [part for part in parts if part not in str(caught.value)] == []


def test_no_rule_names_operation_argument_and_way_out():
    with pytest.raises(minimeta.NotDifferentiableError, match=r"minimeta\.where: .*'condition'.*stop_gradient"):
        minimeta.grad(lambda c: ops.where(c, 1.0, 0.0).sum())(np.ones(2))


def test_item_assignment_points_to_index_update():
    with pytest.raises(TypeError, match=re.escape("ops.index_update(x, index, values)")):
        Tensor(A)[0] = 1.0


def test_comparisons_and_positions_are_plain_arrays():
    x = Tensor(np.array([2.0, 1.0]))
    for result in (ops.argsort(x), ops.argmax(x), ops.argmin(x), x > 1, x == x, ops.one_hot(ops.argsort(x), 2)):
        assert not isinstance(result, Tensor)


def test_astype_converts_the_gradient_back():
    gradient = minimeta.grad(lambda x: (ops.astype(x, np.float64) ** 2).sum())(np.ones(2, np.float32))
    assert gradient.dtype == np.float32
    np.testing.assert_array_equal(gradient, [2.0, 2.0])


IMAGE, FILTERS = np.ones((1, 5, 5, 2)), np.ones((3, 3, 2, 4))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: ops.conv2d(IMAGE, FILTERS, stride=0), r"minimeta.conv2d: stride=0; .* 1 or more"),
        (lambda: ops.conv2d(IMAGE, FILTERS, stride=(1, -1)), r"minimeta.conv2d: stride=\(1, -1\)"),
        (lambda: ops.conv2d(IMAGE, FILTERS, padding=-1), r"minimeta.conv2d: padding=-1; .* none of them negative"),
        (lambda: ops.conv2d(IMAGE, FILTERS, padding=((-1, 0), (0, 0))), r"padding=\(\(-1, 0\), \(0, 0\)\)"),
        (lambda: ops.conv2d(IMAGE, FILTERS, padding="same"), r"padding='same'; give 'VALID', 'SAME'"),
        (lambda: ops.max_pool2d(IMAGE, 6), r"minimeta.max_pool2d: the image holds no 6 x 6 window"),
        (lambda: ops.max_pool2d(np.ones((1, 1, 1, 1)), 3, 1, True), r"minimeta.max_pool2d: the image holds no 3 x 3"),
        (lambda: ops.max_pool2d(IMAGE, 2, stride=0), r"minimeta.max_pool2d: needs .* stride=0"),
        (lambda: ops.avg_pool2d(IMAGE, 6), r"minimeta.avg_pool2d: the image holds no 6 x 6 window"),
        (lambda: ops.avg_pool2d(np.ones(3)), r"minimeta.avg_pool2d: needs x \[..., H, W, C\]"),
    ],
)
def test_convolution_and_pooling_name_what_is_wrong(call, text):
    with pytest.raises(ValueError, match=text):
        call()


@pytest.mark.parametrize(
    ("x", "gamma", "rule"),
    [((2, 3), (3,), "need x"), ((2, 4, 3), (4,), "need x"), ((2, 4, 3), (4, 3), "need x"), ((2, 0, 3), (3,), "no val")],
)
def test_batch_norm_relu_names_shapes_and_rule(x, gamma, rule):
    text = re.escape(f"minimeta.batch_norm_relu: x.shape={x}, gamma.shape={gamma}, beta.shape=(3,)")
    with pytest.raises(ValueError, match=f"{text}.* {rule}"):
        ops.batch_norm_relu(np.ones(x), np.ones(gamma), np.ones(3))


def test_batch_norm_takes_numbers_for_scale_and_shift():
    x, mean, var = np.random.default_rng(0).normal(size=(3, 2)), np.zeros(2), np.ones(2)
    np.testing.assert_allclose(
        minimeta.grad(lambda x: ops.batch_norm(x, 2, 0, mean, var, eps=0.0).sum())(x), np.full((3, 2), 2.0)
    )
