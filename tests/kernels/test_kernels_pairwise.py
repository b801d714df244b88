"""Distances and similarities: every implementation against the reference, and the conventions at their edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import minimeta_kernels
from tests.kernels import compare

NAMES = ("l1", "sqeuclidean", "euclidean", "cosine")
names = pytest.mark.parametrize("name", NAMES)


def sets(batch: int, rows: int, others: int, dim: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(batch, rows, dim)), rng.normal(size=(batch, others, dim))


@names
@settings(max_examples=8)
@example(1, 300, 70, 17)  # several blocks of rows, and of y
@example(1, 2, 300, 33)  # sums over more others than are multiplied at a time
@given(st.integers(0, 3), st.integers(0, 20), st.integers(0, 40), st.integers(0, 40))
def test_implementations_agree(name: str, batch: int, rows: int, others: int, dim: int) -> None:
    if dim == 0 and name == "euclidean":
        dim = 1  # every pair coincides: nothing to compare
    compare.agree(name, sets(batch, rows, others, dim), rtol32=2e-5, rtol64=1e-11)


@names
def test_reference_derivatives(name: str) -> None:
    compare.differentiable(name, sets(2, 4, 3, 5))


@names
@pytest.mark.parametrize("shape", [(9, 40, 30, 48), (1, 300, 100, 24)], ids=["batches", "blocks"])
def test_any_number_of_threads_gives_the_same_bits(
    name: str, shape: tuple[int, int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    compare.repeatable(name, sets(*shape), monkeypatch=monkeypatch)


def implementations(name: str) -> list[str]:
    return minimeta_kernels.table()[name]


@pytest.mark.parametrize("name", ["l1", "sqeuclidean", "euclidean"])
def test_a_point_is_at_distance_zero_from_itself(name: str) -> None:
    x = 100 + np.random.default_rng(0).normal(size=(2, 70, 19)).astype(np.float32)
    for backend in implementations(name):
        with minimeta_kernels.use(backend):
            assert not np.diagonal(minimeta_kernels.call(name, x, x), axis1=1, axis2=2).any()


@pytest.mark.parametrize("name", ["l1", "euclidean"])
def test_coincident_points_pull_nowhere(name: str) -> None:
    x, g = np.ones((1, 1, 3)), np.ones((1, 1, 1))
    for backend in implementations(name):
        with minimeta_kernels.use(backend):
            gradients = minimeta_kernels.call(f"{name}_vjp", g, x, x)
            second = minimeta_kernels.call(f"{name}_vjp2", (x, -x), g, x, x)
        for found in (*gradients, *second):
            assert not found.any()


def test_squared_distances_far_from_the_origin_keep_their_digits() -> None:
    x, y = (a + 1000 for a in sets(1, 70, 70, 64))
    x32, y32 = x.astype(np.float32), y.astype(np.float32)
    exact = [a.astype(np.float64) for a in (x32, y32)]
    rng = np.random.default_rng(1)
    g, u, v = rng.normal(size=(1, 70, 70)), *(rng.normal(size=x.shape) for _ in range(2))
    differences = exact[0][:, :, None] - exact[1][:, None]
    of_x = 2 * (g[..., None] * differences).sum(2)
    of_g = 2 * (differences * (u[:, :, None] - v[:, None])).sum(-1)
    g, u, v = (a.astype(np.float32) for a in (g, u, v))
    for backend in implementations("sqeuclidean"):
        with minimeta_kernels.use(backend):
            distances = minimeta_kernels.call("sqeuclidean", x32, y32)
            np.testing.assert_allclose(distances, (differences**2).sum(-1), rtol=1e-5)
            found = minimeta_kernels.call("sqeuclidean_vjp", g, x32, y32)[0]
            np.testing.assert_allclose(found, of_x, rtol=0, atol=1e-4 * np.abs(of_x).max())
            found = minimeta_kernels.call("sqeuclidean_vjp2", (u, v), g, x32, y32)[0]
            np.testing.assert_allclose(found, of_g, rtol=0, atol=1e-4 * np.abs(of_g).max())


def test_zero_vectors_have_a_finite_cosine_at_every_order() -> None:
    x, y = np.zeros((1, 2, 3)), np.ones((1, 2, 3))
    g = np.ones((1, 2, 2))
    for backend in implementations("cosine"):
        with minimeta_kernels.use(backend):
            similarity = minimeta_kernels.call("cosine", x, y, eps=1e-3)
            of_x, of_y = minimeta_kernels.call("cosine_vjp", g, x, y, eps=1e-3)
            second = minimeta_kernels.call("cosine_vjp2", (x, y), g, x, y, eps=1e-3)
        np.testing.assert_array_equal(similarity, np.zeros((1, 2, 2)))
        np.testing.assert_allclose(of_x, np.full((1, 2, 3), 2e3 / np.sqrt(3)), rtol=1e-6)
        np.testing.assert_array_equal(of_y, np.zeros((1, 2, 3)))
        assert all(np.isfinite(a).all() for a in second)


@names
def test_nan_is_passed_on(name: str) -> None:
    x, y = (a.astype(np.float32) for a in sets(1, 20, 20, 5))
    x[0, 3, 2] = np.nan
    for backend in implementations(name):
        with minimeta_kernels.use(backend):
            assert np.isnan(minimeta_kernels.call(name, x, y)).any(axis=-1).tolist() == [[i == 3 for i in range(20)]]
