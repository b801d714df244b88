"""Threads share no state: gradients computed at once are the gradients computed alone."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from minimeta import grad, ops


@pytest.fixture
def eager_switching():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def test_second_order_gradients_in_four_threads(eager_switching):
    def slope(seed: int) -> Any:
        x = np.random.default_rng(seed).normal(size=4)

        def f(y: Any) -> Any:
            for _ in range(20):
                y = ops.tanh(y) * x
            return y.sum()

        return grad(lambda x: (grad(f)(x) ** 2).sum())(x).tolist()

    alone = [slope(seed) for seed in range(40)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(slope, range(40))) == alone
