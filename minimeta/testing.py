"""Checks for code that stands on minimeta, for use in anybody's tests.

`check_grads` compares the gradients of a function, to any order, with finite differences. `check_op` draws one case
from an operation's record and makes every generic check on it; `HypothesisDraw` is what it draws from.
`check_learner` holds a learner to the protocol.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from minimeta import backend, tree
from minimeta.autodiff import Tensor, grad, jvp
from minimeta.autodiff.primitives import astype
from minimeta.check_learner import check_learner
from minimeta.finite_differences import Scalar, float_leaves, float_places, is_float, partial_slopes, slope
from minimeta.ops.record import Draw, OpRecord

__all__ = ["CHECKS", "Case", "HypothesisDraw", "check_conventions", "check_grads", "check_learner", "check_op"]

class _Tolerance(NamedTuple):
    rtol: float
    atol: float
    eps: float


def check_grads(
    f: Callable[..., Any],
    args: Sequence[Any],
    *,
    order: int = 2,
    modes: Sequence[str] = ("vjp", "jvp"),
    rtol: float = 1e-6,
    atol: float = 1e-8,
    eps: float = 1e-3,
    seed: int = 0,
) -> None:
    """Check the derivatives of `f(*args)` of every order up to `order` against central finite differences in float64.

    Arguments and results are trees; only floating-point leaves vary. Each order is a function of its own: the gradient
    of order k, projected on a random direction, is differentiated along another one. The cotangent of the result varies
    along with the arguments, so rules are checked as functions of it too. `modes` says what is compared: gradients
    ("vjp"), forward derivatives ("jvp") or both. `eps` is the step: f must be smooth within 2 * eps of the arguments.
    `seed` chooses the directions.

    Raises AssertionError naming the order, the argument, its worst entry and both values.

    >>> from minimeta import ops
    >>> check_grads(lambda p: ops.tanh(p["w"]) * p["b"], [{"w": np.ones(3), "b": 2.0}], order=3)
    """
    if not modes or not set(modes) <= {"vjp", "jvp"}:
        raise ValueError(f"check_grads: modes={modes!r}; choose among 'vjp' and 'jvp'")
    rng = np.random.default_rng(seed)
    tolerance = _Tolerance(rtol, atol, eps)
    variables, call = float_leaves(f, args)
    results = [leaf.data if type(leaf) is Tensor else np.asarray(leaf) for leaf in call(variables)]
    point = {"args": variables, "cotangents": [_random_like(rng, y) for y in results]}
    names = [*float_places("args", args), *(f"cotangents[{i}]" for i in range(len(results)))]

    def projection(point: Any) -> Any:
        return _inner(call(point["args"]), point["cotangents"])

    function: Scalar = projection
    for k in range(1, order + 1):
        _check_order(function, point, tree.map(lambda x: _random_like(rng, x), point), k, modes, names, tolerance)
        function = _projected(function, tree.map(lambda x: _random_like(rng, x), point))


def _random_like(rng: np.random.Generator, x: Any) -> Any:
    """Numbers in [-1, 1], none of them small: no entry escapes the check."""
    values = rng.uniform(0.5, 1.0, x.shape) * rng.choice((-1.0, 1.0), x.shape)
    return backend.namespace(x).asarray(values)


def _inner(values: Any, weights: Any) -> Any:
    """The sum of all products of two trees."""
    total = 0.0
    for value, weight in zip(tree.leaves(values), tree.leaves(weights), strict=True):
        total = total + (value * weight).sum()
    return total


def _projected(function: Scalar, direction: Any) -> Scalar:
    """The slope of `function` along a fixed direction, as a function of the point."""
    return lambda point: _inner(grad(function)(point), direction)


def _check_order(
    function: Scalar,
    point: Any,
    direction: Any,
    order: int,
    modes: Sequence[str],
    names: list[str],
    tolerance: _Tolerance,
) -> None:
    gradient = grad(function)(point)
    magnitude = _magnitude(gradient, direction)
    expected = slope(function, point, direction, tolerance.eps)
    if "vjp" in modes and not _close(float(_inner(gradient, direction)), expected, magnitude, tolerance):
        place, found, wanted = _worst_entry(function, point, gradient, names, tolerance)
        raise AssertionError(
            f"check_grads: the gradient of order {order} differs from finite differences at {place}: "
            f"gradient {found:.10g}, finite differences {wanted:.10g} ({_settings(tolerance)})"
        )
    if "jvp" in modes:
        pushed = float(jvp(function, (point,), (direction,))[1])
        if not _close(pushed, expected, magnitude, tolerance):
            raise AssertionError(
                f"check_grads: the jvp of order {order} differs from finite differences along a random direction: "
                f"jvp {pushed:.10g}, finite differences {expected:.10g} ({_settings(tolerance)})"
            )


def _magnitude(gradient: Any, direction: Any) -> float:
    return sum(float(abs(g * d).sum()) for g, d in zip(tree.leaves(gradient), tree.leaves(direction), strict=True))


def _close(found: float, expected: float, magnitude: float, tolerance: _Tolerance) -> bool:
    return abs(found - expected) <= tolerance.atol + tolerance.rtol * max(magnitude, abs(expected))  # False for NaN


def _worst_entry(
    function: Scalar, point: Any, gradient: Any, names: list[str], tolerance: _Tolerance
) -> tuple[str, float, float]:
    """Compare entry by entry: where the gradient is farthest off (NaN is farther than any number), and both values."""
    leaves = tree.leaves(point)
    gradients = [backend.asnumpy(g) for g in tree.leaves(gradient)]
    worst, found = -1.0, ("no single entry", 0.0, 0.0)
    for i, (name, x, g) in enumerate(zip(names, leaves, gradients, strict=True)):
        entries = list(np.ndindex(g.shape))
        for entry, expected in zip(entries, partial_slopes(function, point, i, entries, tolerance.eps), strict=True):
            error = np.nan_to_num(abs(g[entry] - expected), nan=np.inf)
            if error > worst:
                worst, found = error, (name + (str(list(entry)) if x.ndim else ""), float(g[entry]), expected)
    return found


def _settings(tolerance: _Tolerance) -> str:
    return ", ".join(f"{name}={value:g}" for name, value in tolerance._asdict().items())


class HypothesisDraw:
    """Draws an operation's arguments from Hypothesis: `HypothesisDraw(data)` with `data` from `strategies.data()`."""

    def __init__(self, data: Any) -> None:
        try:
            from hypothesis import strategies
        except ImportError as error:
            raise ImportError("minimeta.testing: needs Hypothesis; pip install 'minimeta[test]'") from error
        self._draw = data.draw
        self._integers = strategies.integers

    def integer(self, low: int, high: int) -> int:
        return self._draw(self._integers(low, high))  # type: ignore[no-any-return]

    def choice(self, options: Sequence[Any]) -> Any:
        return options[self.integer(0, len(options) - 1)]

    def shape(self, min_dims: int = 0, max_dims: int = 3, min_side: int = 0, max_side: int = 3) -> tuple[int, ...]:
        return tuple(self.integer(min_side, max_side) for _ in range(self.integer(min_dims, max_dims)))

    def broadcastable(self, count: int) -> list[tuple[int, ...]]:
        whole = self.shape()
        return [self._narrowed(whole) for _ in range(count)]

    def _narrowed(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape without some of its leading axes, and with some of the others of length 1."""
        kept = shape[self.integer(0, len(shape)) :]
        return tuple(1 if self.integer(0, 3) == 3 else n for n in kept)

    def axes(self, ndim: int) -> Any:
        if ndim == 0 or self.choice((True, False)):
            return None
        first = self.integer(-ndim, ndim - 1)
        others = [axis for axis in range(ndim) if axis != first % ndim and self.choice((False, True))]
        return self.choice((first, (first, *others)))

    def array(self, shape: tuple[int, ...], low: float = -2.0, high: float = 2.0, avoid: tuple[float, ...] = ()) -> Any:
        rng = np.random.default_rng(self.integer(0, 2**32 - 1))
        count = int(np.prod(shape))
        # One value from each of `count` equal parts of the allowed range, with gaps between them: they are distinct.
        parts = (rng.permutation(count) + rng.uniform(0.25, 0.75, count)) / max(count, 1)
        return _stretch(parts, low, high, avoid).reshape(shape)


def _stretch(parts: np.ndarray, low: float, high: float, avoid: tuple[float, ...], margin: float = 0.06) -> np.ndarray:
    """Map [0, 1] on [low, high] without the neighbourhoods of the points of `avoid`."""
    inside = [point for point in sorted(avoid) if low < point < high]
    starts = np.array([low, *(point + margin for point in inside)])
    stops = np.array([*(point - margin for point in inside), high])
    lengths = np.maximum(stops - starts, 0.0)
    before = np.concatenate(([0.0], np.cumsum(lengths)))
    along = parts * before[-1]
    piece = np.minimum(np.searchsorted(before, along, side="right") - 1, len(starts) - 1)
    return starts[piece] + (along - before[piece])


class Case(NamedTuple):
    """One drawn call of an operation."""

    record: OpRecord
    args: tuple[Any, ...]
    options: dict[str, Any]

    def call(self, *args: Any) -> Any:
        return self.record.op(*args, **self.options)

    def gradients(self, args: tuple[Any, ...]) -> list[Any]:
        """The gradient of a fixed random projection of the result, by each floating-point leaf of `args`."""
        leaves = tree.leaves(args)
        places = [i for i, leaf in enumerate(leaves) if is_float(leaf)]

        def projection(variables: list[Any]) -> Any:
            values = list(leaves)
            for i, variable in zip(places, variables, strict=True):
                values[i] = variable
            results = [y for y in tree.leaves(self.call(*tree.unflatten(args, values))) if is_float(y)]
            rng = np.random.default_rng(0)
            return _inner(results, [astype(_random_like(rng, _array(y)), y.dtype) for y in results])

        return list(grad(projection)([leaves[i] for i in places]))


def check_op(record: OpRecord, draw: Draw) -> None:
    """Draw one case of an operation and make every generic check on it. Raises AssertionError where one fails."""
    case = Case(record, *record.cases(draw))
    for check in CHECKS.values():
        check(case)


def check_value(case: Case) -> None:
    """The result has the values, shape and dtype of the reference."""
    reference = case.record.reference
    function = pkgutil.resolve_name(reference) if isinstance(reference, str) else reference
    _assert_same(case.call(*case.args), function(*case.args, **case.options))


def check_gradients(case: Case) -> None:
    """Gradients of every order that the record claims equal finite differences; so does the forward derivative."""
    if case.record.orders:
        check_grads(case.call, case.args, order=case.record.orders, modes=("vjp",))
        check_grads(case.call, case.args, order=1, modes=("jvp",), seed=1)


def check_dtypes(case: Case) -> None:
    """Results and gradients have the dtype of the inputs, float32 or float64."""
    if not any(is_float(leaf) for leaf in tree.leaves(case.args)):
        return
    for dtype in ("float32", "float64"):
        args = tree.map(lambda leaf, dtype=dtype: leaf.astype(dtype) if is_float(leaf) else leaf, case.args)
        results = [y for y in tree.leaves(case.call(*args)) if is_float(y)]
        for what, values in (("result", results), ("gradient", case.gradients(args) if case.record.orders else [])):
            for value in values:
                assert value.dtype == dtype, f"the {what} for {dtype} input has dtype {value.dtype}"


def check_layouts(case: Case) -> None:
    """Non-contiguous inputs (Fortran order, strided, reversed) change neither the value nor the gradient."""
    result = case.call(*case.args)
    gradients = case.gradients(case.args) if case.record.orders else []
    for layout in (np.asfortranarray, _strided, _reversed):
        args = tree.map(lambda leaf, layout=layout: layout(leaf) if is_float(leaf) and leaf.ndim else leaf, case.args)
        _assert_same(case.call(*args), result)
        _assert_same(case.gradients(args) if case.record.orders else [], gradients)


def check_purity(case: Case) -> None:
    """Plain arrays give plain arrays, Tensors the same values; inputs, read-only ones too, are left as they were."""
    args = tree.map(lambda leaf: _frozen(leaf) if isinstance(leaf, np.ndarray) else leaf, case.args)
    plain = case.call(*args)
    assert not any(type(y) is Tensor for y in tree.leaves(plain)), "plain arrays in, Tensors out"
    tensors = case.call(*tree.map(lambda leaf: Tensor(leaf) if is_float(leaf) else leaf, args))
    if case.record.orders:
        case.gradients(args)
        assert any(type(y) is Tensor for y in tree.leaves(tensors)), "Tensors in, plain arrays out"
    for x, y in zip(tree.leaves(tensors), tree.leaves(plain), strict=True):
        np.testing.assert_array_equal(_array(x), y)
    for x, y in zip(tree.leaves(args), tree.leaves(case.args), strict=True):
        np.testing.assert_array_equal(x, y)


def check_conventions(record: OpRecord) -> None:
    """At its kinks the operation has exactly the slopes that its record states."""
    for (x, *others), expected in record.conventions:
        slope = grad(lambda x, others=others: record.op(x, *others).sum())(np.asarray(x))
        np.testing.assert_array_equal(slope, expected)


#: The generic checks of one drawn case.
CHECKS: dict[str, Callable[[Case], None]] = {
    "value": check_value,
    "gradients": check_gradients,
    "dtypes": check_dtypes,
    "layouts": check_layouts,
    "purity": check_purity,
}


def _array(leaf: Any) -> Any:
    return leaf.data if type(leaf) is Tensor else leaf


def _assert_same(found: Any, expected: Any) -> None:
    left, right = tree.leaves(found), tree.leaves(expected)
    assert len(left) == len(right), f"{len(left)} results, expected {len(right)}"
    for x, y in zip(left, right, strict=True):
        x, y = np.asarray(x), np.asarray(y)
        assert (x.shape, x.dtype) == (y.shape, y.dtype), f"{x.dtype}{x.shape}, expected {y.dtype}{y.shape}"
        np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-11)


def _strided(x: np.ndarray) -> np.ndarray:
    return np.repeat(x, 2, axis=-1)[..., ::2]


def _reversed(x: np.ndarray) -> np.ndarray:
    return np.flip(np.flip(x).copy())


def _frozen(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x.flags.writeable = False
    return x
