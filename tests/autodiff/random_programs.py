"""Random programs: shared subexpressions, broadcasting, reductions.

A program is a list of steps over earlier values. `minimeta.ops` and NumPy spell its functions alike, so one program
runs on Tensors, on plain arrays and, for the reference engine, on object arrays of Duals.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

#: Shapes of which any two broadcast, and which stay so under the steps below.
SHAPES = [(), (1,), (3,), (1, 3), (2, 1), (2, 3)]

#: Each step keeps its values within a small factor of its arguments', so that long programs stay tame.
BINARY = {
    "average": lambda xp, a, b: xp.multiply(xp.add(a, b), 0.5),
    "product": lambda xp, a, b: xp.multiply(a, b),
    "difference": lambda xp, a, b: xp.subtract(a, xp.multiply(0.5, b)),
    "quotient": lambda xp, a, b: xp.divide(a, xp.add(xp.multiply(b, b), 1.5)),
}
UNARY = {
    "tanh": lambda xp, a: xp.tanh(a),
    "sin": lambda xp, a: xp.sin(a),
    "cos": lambda xp, a: xp.cos(a),
    "bell": lambda xp, a: xp.exp(xp.negative(xp.multiply(a, a))),
    "flip": lambda xp, a: xp.flip(a, axis=-1) if a.ndim else a,
    "fold": lambda xp, a: xp.multiply(xp.sum(a, axis=-1, keepdims=True), 0.3) if a.ndim else a,
    "constant": lambda xp, a: xp.multiply(a, np.array([0.5, -0.2, 1.0])),
}


@st.composite
def programs(draw: Any) -> tuple[list[tuple[str, tuple[int, ...]]], list[tuple[int, ...]]]:
    """(steps, shapes of the variables): each step names a function and the values it takes."""
    shapes = draw(st.lists(st.sampled_from(SHAPES), min_size=1, max_size=2))
    steps = []
    for at in range(len(shapes), len(shapes) + draw(st.integers(1, 7))):
        name = draw(st.sampled_from([*BINARY, *UNARY]))
        steps.append((name, tuple(draw(st.integers(0, at - 1)) for _ in range(2 if name in BINARY else 1))))
    return steps, shapes


def run(program: Any, xp: Any, x: Any) -> Any:
    """The sum of all values of the program on the flat vector `x` of its variables."""
    steps, shapes = program
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    values = [x[end - int(np.prod(shape)) : end].reshape(shape) for shape, end in zip(shapes, ends, strict=True)]
    for name, operands in steps:
        step = BINARY.get(name) or UNARY[name]
        value = step(xp, *(values[i] for i in operands))
        values.append(value if hasattr(value, "ndim") else np.asarray(value))  # NumPy's 0-d object results
    return xp.sum(values[-1]) + xp.sum(values[len(values) // 2])


def size(program: Any) -> int:
    return sum(int(np.prod(shape)) for shape in program[1])


@st.composite
def points(draw: Any, count: int) -> Any:
    """A program, a place and `count` - 1 directions."""
    program = draw(programs())
    entries = arrays(np.float64, size(program), elements=st.floats(-1.25, 1.25, width=32))
    return program, *(draw(entries) for _ in range(count))
