"""What is shown of arrays on a device is what is shown of the same arrays on the host."""

from __future__ import annotations

from typing import Any

import numpy as np

from minimeta import inspect, ops

X = np.linspace(-1.0, 1.0, 6).reshape(2, 3).copy()


def wave(x: Any) -> Any:
    return (ops.tanh(x) * x).sum()


def test_steps_listings_and_tables_are_the_same(device):
    x = device.put(X)
    for order in (1, 2):
        ours, theirs = (inspect.steps(wave, values, order=order) for values in (x, X))
        assert [step.name for step in ours] == [step.name for step in theirs]
        device.assert_close(ours.gradient, theirs.gradient, 1e-12)
    assert inspect.program(wave, x).splitlines()[:-1] == inspect.program(wave, X).splitlines()[:-1]
    assert [str(step) for step in inspect.steps(wave, x)] == [str(step) for step in inspect.steps(wave, X)]
    assert str(inspect.memory(wave, x)) == str(inspect.memory(wave, X))
    assert str(inspect.gradient_flow([x], [x])) == str(inspect.gradient_flow([X], [X]))
    assert inspect.compare(wave, x).worst.error < 1e-9
