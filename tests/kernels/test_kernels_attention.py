"""Attention by products and by cosines: every implementation against the reference, and softmax at its edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import minimeta_kernels
from tests.kernels import compare

names = pytest.mark.parametrize("name", ["attention", "cosine_attention"])


def arrays(batch: int, queries: int, keys: int, dim: int, values: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    return tuple(rng.normal(size=(batch, *s)) for s in ((queries, dim), (keys, dim), (keys, values)))


@names
@settings(max_examples=8)
@example(1, 150, 20, 33, 18, 2.0)  # several blocks of queries, the last one ragged
@example(2, 3, 270, 5, 1, -1.5)  # more keys than are multiplied at a time
@given(
    st.integers(0, 3), st.integers(0, 20), st.integers(0, 40), st.integers(0, 40), st.integers(0, 40),
    st.floats(-3, 3, width=16),
)  # fmt: skip
def test_implementations_agree(
    name: str, batch: int, queries: int, keys: int, dim: int, values: int, temperature: float
) -> None:
    options = {"temperature": temperature}
    compare.agree(name, arrays(batch, queries, keys, dim, values), options, rtol32=5e-5, rtol64=1e-11)


@names
def test_reference_derivatives(name: str) -> None:
    compare.differentiable(name, arrays(2, 4, 3, 5, 2), {"temperature": 0.7})


@names
@pytest.mark.parametrize("shape", [(9, 40, 30, 48, 20), (1, 300, 60, 24, 10)], ids=["batches", "blocks"])
def test_any_number_of_threads_gives_the_same_bits(
    name: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    compare.repeatable(name, arrays(*shape), monkeypatch=monkeypatch)


@names
@pytest.mark.parametrize("temperature", [1e4, -1e4])
def test_large_scores_choose_one_key(name: str, temperature: float) -> None:
    x, y, v = (a.astype(np.float32) for a in arrays(1, 20, 7, 4, 3))
    unit = (lambda a: a / np.linalg.norm(a, axis=-1, keepdims=True)) if name == "cosine_attention" else (lambda a: a)
    chosen = np.argmax(temperature * (unit(x[0]) @ unit(y[0]).T), axis=-1)
    for backend in minimeta_kernels.table()[name]:
        with minimeta_kernels.use(backend):
            found = minimeta_kernels.call(name, x, y, v, temperature=temperature)
        np.testing.assert_allclose(found[0], v[0, chosen], rtol=1e-5)


def test_zero_queries_and_keys_are_finite_at_every_order() -> None:
    x, y, v = np.zeros((1, 2, 3)), np.zeros((1, 4, 3)), np.ones((1, 4, 2))
    x[0, 1] = 1
    g = np.ones((1, 2, 2))
    for backend in minimeta_kernels.table()["cosine_attention"]:
        with minimeta_kernels.use(backend):
            found = minimeta_kernels.call("cosine_attention", x, y, v)
            gradients = minimeta_kernels.call("cosine_attention_vjp", g, x, y, v)
            second = minimeta_kernels.call("cosine_attention_vjp2", (x, y, v), g, x, y, v)
        np.testing.assert_allclose(found, np.ones((1, 2, 2)))
        assert all(np.isfinite(a).all() for a in (*gradients, *second))


@pytest.mark.skipif("numba" not in minimeta_kernels.table()["attention"], reason="compiled functions need numba")
def test_exponential() -> None:
    from minimeta_kernels.numba_cpu.compiled import inlined
    from minimeta_kernels.numba_cpu.elementary import exp

    @inlined
    def fill(x: np.ndarray, out: np.ndarray) -> None:
        for i in range(x.size):
            out[i] = exp(x[i])

    x = np.append(np.linspace(-110, 95, 20_001), [-np.inf, np.inf, np.nan, 0, -1e30, 1e30]).astype(np.float32)
    with np.errstate(over="ignore"):
        exact = np.exp(x.astype(np.float64))
        rounded = exact.astype(np.float32)
    found = np.empty_like(x)
    fill(x, found)
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(found[~finite], rounded[~finite])
    assert np.all(np.abs(found[finite] - exact[finite]) <= 2 * np.spacing(rounded[finite]))
    fill(x.astype(np.float64), wide := np.empty(x.size))
    np.testing.assert_allclose(wide, exact, rtol=1e-15)
