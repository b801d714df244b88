"""Corner cases of linear algebra that the generic checks do not reach."""

import numpy as np
import pytest

import minimeta
import minimeta_kernels
from minimeta import ops
from minimeta.testing import check_grads

rng = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 4)), ((5, 2, 3), (3,)), ((3,), (5, 3, 4)), ((5, 2, 3), (3, 4)),
        ((2, 3), (5, 3, 4)), ((5, 2, 3), (5, 3, 4)), ((1, 2, 3), (5, 3, 4)), ((6, 1, 2, 3), (5, 3, 4)),
        ((2, 0), (0, 4)), ((0, 2, 3), (3, 4)), ((4, 0, 3), (3, 2)), ((2, 5, 0, 3), (3, 0)),
    ],
)  # fmt: skip
def test_matmul_of_every_kind(a, b):
    a, b = rng.normal(size=a), rng.normal(size=b)
    np.testing.assert_allclose(ops.matmul(a, b), np.matmul(a, b), rtol=1e-12)
    check_grads(ops.matmul, [a, b], order=3)


def test_one_matrix_for_a_batch_is_a_single_product(monkeypatch):
    shapes = []

    def counting(name, a, b):
        shapes.append((a.shape, b.shape))
        return np.matmul(a, b)

    monkeypatch.setattr(minimeta_kernels, "call", counting)
    x, w = rng.normal(size=(7, 5, 3)), rng.normal(size=(3, 4))
    g = np.ones((7, 5, 4))
    ops.matmul(x, w)
    left, right = ops.matmul.op.rules[0], ops.matmul.op.rules[1]
    assert left(g, None, x, w).shape == x.shape
    assert right(g, None, x, w).shape == w.shape
    assert shapes == [((35, 3), (3, 4)), ((35, 4), (4, 3)), ((3, 35), (35, 4))]


@pytest.mark.parametrize(
    "subscripts",
    ["ij,jk", "ji", "ba,cb", "ii", "iij->ji", "i...,i...->...", "...ij->...ji", "...,...", "ij,ij->ij", "ab,bc,cd->ad",
     "i,i,i->i", "ij,kj->ik", "i,j,k->", " i j , j k -> k i ", "ijij->", "iji->ij"],
)  # fmt: skip
def test_einsum_spellings(subscripts):
    parts = subscripts.replace(" ", "").split("->")[0].split(",")
    arrays = [rng.normal(size=[3] * (len(part.replace("...", "")) + 2 * ("..." in part))) for part in parts]
    np.testing.assert_allclose(ops.einsum(subscripts, *arrays), np.einsum(subscripts, *arrays), rtol=1e-10, atol=1e-12)
    check_grads(lambda *arrays: ops.einsum(subscripts, *arrays), arrays)


@pytest.mark.parametrize("shapes", [((1, 2, 3), (4, 2, 3)), ((2, 3), (4, 2, 3)), ((4, 1, 3), (2, 3)), ((3,), (3,))])
def test_einsum_ellipsis_broadcasts(shapes):
    a, b = (rng.normal(size=shape) for shape in shapes)
    np.testing.assert_allclose(ops.einsum("...i,...i", a, b), np.einsum("...i,...i", a, b), rtol=1e-10)
    check_grads(lambda a, b: ops.einsum("...i,...i->...i", a, b), [a, b])


def test_einsum_broadcasts_length_one_as_numpy_does():
    a, b = rng.normal(size=(2, 1)), rng.normal(size=(3, 4))
    np.testing.assert_allclose(ops.einsum("ij,jk->ik", a, b), np.einsum("ij,jk->ik", a, b), rtol=1e-10)
    check_grads(lambda a, b: ops.einsum("ij,jk->ik", a, b), [a, b])


@pytest.mark.parametrize("axes", [0, 1, 2, ([0], [2]), ([0, 2], [1, 0]), (-1, 0), ((1, 2), (1, 2))])
def test_tensordot_axes(axes):
    a, b = rng.normal(size=(3, 3, 3)), rng.normal(size=(3, 3, 3))
    np.testing.assert_allclose(ops.tensordot(a, b, axes), np.tensordot(a, b, axes), rtol=1e-10)
    check_grads(lambda a, b: ops.tensordot(a, b, axes), [a, b])


@pytest.mark.parametrize("options", [{}, {"ord": 1}, {"ord": np.inf}, {"axis": 0}, {"axis": (0,), "keepdims": True}])
def test_norm_is_flat_at_zero_to_second_order(options):
    def length(x):
        return ops.norm(x, **options).sum()

    zero = np.zeros(3)
    np.testing.assert_array_equal(minimeta.grad(length)(zero), zero)
    np.testing.assert_array_equal(minimeta.hessian(length)(zero), np.zeros((3, 3)))


def test_norm_with_one_zero_row_keeps_the_other_exact():
    x = np.array([[0.0, 0.0], [3.0, 4.0]])
    np.testing.assert_allclose(minimeta.grad(lambda x: ops.norm(x, axis=1).sum())(x), [[0, 0], [0.6, 0.8]])
    second = minimeta.hvp(lambda x: ops.norm(x, axis=1).sum(), x, np.ones((2, 2)))
    np.testing.assert_allclose(second, [[0, 0], [0.2 * 0.16, -0.2 * 0.12]], rtol=1e-12)


def test_norm_over_several_axes():
    x = rng.normal(size=(2, 3, 4))
    np.testing.assert_allclose(ops.norm(x), np.linalg.norm(x))
    np.testing.assert_allclose(ops.norm(x, "fro", (0, 2)), np.linalg.norm(x, "fro", (0, 2)))
    check_grads(lambda x: ops.norm(x, axis=(0, 2)), [x])


@pytest.mark.parametrize("shape", [(4, 4), (3, 4), (4, 3), (3, 4, 2), (2, 0)])
@pytest.mark.parametrize("offset", [-5, -1, 0, 1, 5])
def test_trace_and_diag_of_rectangles(shape, offset):
    x = rng.normal(size=shape)
    np.testing.assert_allclose(ops.trace(x, offset), np.trace(x, offset), rtol=1e-12)
    np.testing.assert_allclose(ops.trace(x, offset, -1, 0), np.trace(x, offset, -1, 0), rtol=1e-12)
    check_grads(lambda x: ops.trace(x, offset), [x])
    if len(shape) == 2:
        np.testing.assert_array_equal(ops.diag(x, offset), np.diag(x, offset))
        check_grads(lambda x: ops.diag(x, offset) ** 2, [x])


def test_cholesky_is_a_function_of_the_symmetric_part():
    a = rng.normal(size=(2, 4, 4))
    a = a @ np.swapaxes(a, -1, -2) + 4 * np.eye(4)
    skew = rng.normal(size=a.shape)
    np.testing.assert_allclose(ops.cholesky(a), np.linalg.cholesky(a))
    np.testing.assert_allclose(ops.cholesky(a + skew - np.swapaxes(skew, -1, -2)), np.linalg.cholesky(a), rtol=1e-10)
    gradient = minimeta.grad(lambda a: (ops.cholesky(a) ** 3).sum())(a)
    np.testing.assert_allclose(gradient, np.swapaxes(gradient, -1, -2), rtol=1e-12)
    check_grads(lambda s: ops.cholesky(s + ops.swapaxes(s, -1, -2)), [a], order=3)  # symmetric steps


def test_solve_inv_and_slogdet_agree():
    a = rng.normal(size=(3, 4, 4)) + 4 * np.eye(4)
    b = rng.normal(size=(3, 4, 2))
    np.testing.assert_allclose(ops.solve(a, b), ops.matmul(ops.inv(a), b), rtol=1e-9, atol=1e-12)
    by_solve = minimeta.grad(lambda a: (ops.solve(a, b) ** 2).sum())(a)
    by_inverse = minimeta.grad(lambda a: (ops.matmul(ops.inv(a), b) ** 2).sum())(a)
    np.testing.assert_allclose(by_solve, by_inverse, rtol=1e-8, atol=1e-12)
    inverse = np.swapaxes(minimeta.grad(lambda a: ops.slogdet(a)[1].sum())(a), -1, -2)
    np.testing.assert_allclose(inverse, np.linalg.inv(a), rtol=1e-9)


@pytest.mark.parametrize("shapes", [((3, 3), (3,)), ((2, 3, 3), (3,)), ((2, 3, 3), (3, 2)), ((3, 3), (2, 3, 2)),
                                    ((2, 1, 3, 3), (4, 3, 1)), ((0, 3, 3), (3, 2)), ((3, 3), (3, 0))])  # fmt: skip
def test_solve_shapes(shapes):
    a = rng.uniform(-0.3, 0.3, shapes[0]) + 2 * np.eye(3)
    b = rng.normal(size=shapes[1])
    np.testing.assert_allclose(ops.solve(a, b), np.linalg.solve(a, b), rtol=1e-10)
    check_grads(ops.solve, [a, b], order=3)


def test_slogdet_returns_a_plain_sign():
    sign, logarithm = ops.slogdet(minimeta.Tensor(-np.eye(3)))
    assert isinstance(sign, np.generic | np.ndarray)
    assert isinstance(logarithm, minimeta.Tensor)
    assert (float(sign), float(logarithm)) == (-1.0, 0.0)
