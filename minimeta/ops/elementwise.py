"""Operations on each element, with NumPy's broadcasting. Each has its rules and its test record beside it.

At kinks: abs, relu and sign have slope 0 at 0; a tie of maximum or minimum gives half to each side; sqrt has slope 0
at 0 (so norms and standard deviations stay finite); clip passes the gradient on its bounds.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minimeta.autodiff.op import op
from minimeta.ops.record import Draw, binary, record, unary


@op(saves="none", broadcasts=True)
def add(xp: Any, x1: Any, x2: Any) -> Any:
    """x1 + x2."""
    return x1 + x2


@add.vjp(0, 1)
def _(g: Any, y: Any, x1: Any, x2: Any) -> Any:
    return g


@op(saves="none", broadcasts=True)
def subtract(xp: Any, x1: Any, x2: Any) -> Any:
    """x1 - x2."""
    return x1 - x2


@subtract.vjp(0)
def _(g: Any, y: Any, x1: Any, x2: Any) -> Any:
    return g


@subtract.vjp(1)
def _(g: Any, y: Any, x1: Any, x2: Any) -> Any:
    return -g


@op(broadcasts=True)
def multiply(xp: Any, x1: Any, x2: Any) -> Any:
    """x1 * x2."""
    return x1 * x2


@multiply.vjp(0)
def _(g: Any, y: Any, x1: Any, x2: Any) -> Any:
    return g * x2


@multiply.vjp(1)
def _(g: Any, y: Any, x1: Any, x2: Any) -> Any:
    return g * x1


@op(broadcasts=True)
def divide(xp: Any, x1: Any, x2: Any) -> Any:
    """x1 / x2."""
    return x1 / x2


@divide.vjp(0)
def _(g: Any, y: Any, x1: Any, x2: Any) -> Any:
    return g / x2


@divide.vjp(1)
def _(g: Any, y: Any, x1: Any, x2: Any) -> Any:
    return -g * x1 / (x2 * x2)


@op(saves="all", broadcasts=True)
def power(xp: Any, x1: Any, x2: Any) -> Any:
    """x1 ** x2; the derivative by the exponent needs x1 >= 0 and is 0 at x1 = 0."""
    return x1**x2


@power.vjp(0)
def _(g: Any, y: Any, x1: Any, x2: Any) -> Any:
    if isinstance(x2, (int, float)):
        # spelled out: x ** 0 has slope 0 even at 0, where 0 * 0 ** -1 is NaN
        return None if x2 == 0 else g if x2 == 1 else g * (x2 * x1 ** (x2 - 1))
    return g * x2 * x1 ** where(x2 == 0, 1.0, x2 - 1)


@power.vjp(1)
def _(g: Any, y: Any, x1: Any, x2: Any) -> Any:
    return g * y * log(where(x1 == 0, 1.0, x1))


@op(saves="none")
def negative(xp: Any, x: Any) -> Any:
    """-x."""
    return -x


@negative.vjp(0)
def _(g: Any, y: Any, x: Any) -> Any:
    return -g


@op(saves="out")
def exp(xp: Any, x: Any) -> Any:
    """e to the power x."""
    return xp.exp(x)


@exp.vjp(0)
def _(g: Any, y: Any, x: Any) -> Any:
    return g * y


@op(saves="out")
def expm1(xp: Any, x: Any) -> Any:
    """exp(x) - 1, exact for small x."""
    return xp.expm1(x)


@expm1.vjp(0)
def _(g: Any, y: Any, x: Any) -> Any:
    return g * (y + 1)


@op()
def log(xp: Any, x: Any) -> Any:
    """Natural logarithm."""
    return xp.log(x)


@log.vjp(0)
def _(g: Any, y: Any, x: Any) -> Any:
    return g / x


@op()
def log1p(xp: Any, x: Any) -> Any:
    """log(1 + x), exact for small x."""
    return xp.log1p(x)


@log1p.vjp(0)
def _(g: Any, y: Any, x: Any) -> Any:
    return g / (x + 1)


@op(saves="out")
def sqrt(xp: Any, x: Any) -> Any:
    """Square root; its slope at 0 is taken as 0."""
    return xp.sqrt(x)


@sqrt.vjp(0)
def _(g: Any, y: Any, x: Any) -> Any:
    positive = y > 0
    return where(positive, g * 0.5 / where(positive, y, 1.0), 0.0)


@op()
def square(xp: Any, x: Any) -> Any:
    """x * x."""
    return x * x


@square.vjp(0)
def _(g: Any, y: Any, x: Any) -> Any:
    return g * (x + x)


@op()
def abs(xp: Any, x: Any) -> Any:
    """Absolute value; its slope at 0 is taken as 0."""
    return xp.abs(x)


@abs.vjp(0)
def _(g: Any, y: Any, x: Any) -> Any:
    return g * sign(x)


@op(saves="none")
def sign(xp: Any, x: Any) -> Any:
    """-1, 0 or 1; its derivative is 0."""
    return xp.sign(x)


@sign.vjp(0)
def _(g: Any, y: Any, x: Any) -> None:
    return None


@op()
def sin(xp: Any, x: Any) -> Any:
    """Sine."""
    return xp.sin(x)


@sin.vjp(0)
def _(g: Any, y: Any, x: Any) -> Any:
    return g * cos(x)


@op()
def cos(xp: Any, x: Any) -> Any:
    """Cosine."""
    return xp.cos(x)


@cos.vjp(0)
def _(g: Any, y: Any, x: Any) -> Any:
    return -g * sin(x)


@op(saves="out")
def tanh(xp: Any, x: Any) -> Any:
    """Hyperbolic tangent."""
    return xp.tanh(x)


@tanh.vjp(0)
def _(g: Any, y: Any, x: Any) -> Any:
    return g - g * square(y)


@op(saves="out")
def sigmoid(xp: Any, x: Any) -> Any:
    """1 / (1 + exp(-x)), by tanh: it does not overflow, and has as many digits as numbers around 1."""
    return xp.tanh(x * 0.5) * 0.5 + 0.5


@sigmoid.vjp(0)
def _(g: Any, y: Any, x: Any) -> Any:
    return g * (y - square(y))


@op()
def softplus(xp: Any, x: Any) -> Any:
    """log(1 + exp(x)), without overflow."""
    return xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x)))


@softplus.vjp(0)
def _(g: Any, y: Any, x: Any) -> Any:
    return g * sigmoid(x)


@op(saves="out")
def relu(xp: Any, x: Any) -> Any:
    """max(x, 0); its slope at 0 is taken as 0."""
    return xp.maximum(x, 0)


@relu.vjp(0)
def _(g: Any, y: Any, x: Any) -> Any:
    return g * (y > 0)


@op(saves="inputs", broadcasts=True)
def maximum(xp: Any, x1: Any, x2: Any) -> Any:
    """The larger of two; a tie sends half the gradient to each side."""
    return xp.maximum(x1, x2)


@maximum.vjp(0)
def _(g: Any, y: Any, x1: Any, x2: Any) -> Any:
    return g * _share(x1 > x2, x1 == x2, y.dtype)


@maximum.vjp(1)
def _(g: Any, y: Any, x1: Any, x2: Any) -> Any:
    return g * _share(x1 < x2, x1 == x2, y.dtype)


@op(saves="inputs", broadcasts=True)
def minimum(xp: Any, x1: Any, x2: Any) -> Any:
    """The smaller of two; a tie sends half the gradient to each side."""
    return xp.minimum(x1, x2)


@minimum.vjp(0)
def _(g: Any, y: Any, x1: Any, x2: Any) -> Any:
    return g * _share(x1 < x2, x1 == x2, y.dtype)


@minimum.vjp(1)
def _(g: Any, y: Any, x1: Any, x2: Any) -> Any:
    return g * _share(x1 > x2, x1 == x2, y.dtype)


def _share(wins: Any, ties: Any, dtype: Any) -> Any:
    """1 where an argument wins, 1/2 where it ties, else 0."""
    return wins.astype(dtype) + ties.astype(dtype) * 0.5


@op(saves="inputs", broadcasts=True)
def where(xp: Any, condition: Any, x1: Any, x2: Any) -> Any:
    """x1 where the condition holds, else x2."""
    return xp.where(condition, x1, x2)


@where.vjp(1)
def _(g: Any, y: Any, condition: Any, x1: Any, x2: Any) -> Any:
    return where(condition, g, 0.0)


@where.vjp(2)
def _(g: Any, y: Any, condition: Any, x1: Any, x2: Any) -> Any:
    return where(condition, 0.0, g)


@op()
def clip(xp: Any, x: Any, *, min: Any = None, max: Any = None) -> Any:
    """x limited to [min, max] (constants); the gradient passes inside and on the bounds."""
    return xp.clip(x, min, max)


@clip.vjp(0)
def _(g: Any, y: Any, x: Any, min: Any = None, max: Any = None) -> Any:
    inside = (x == x) if min is None else (x >= min)
    return g * (inside if max is None else inside & (x <= max))


def _apart(draw: Draw) -> Any:
    """Two arrays without ties: one on a grid of odd, one of even tenths."""
    a, b = (draw.array(shape) for shape in draw.broadcastable(2))
    return ((a * 5).round() / 5 + 0.1, (b * 5).round() / 5), {}


def _choices(draw: Draw) -> Any:
    shapes = draw.broadcastable(3)
    return (draw.array(shapes[0], avoid=(0.0,)) > 0, draw.array(shapes[1]), draw.array(shapes[2])), {}


def _bounds(draw: Draw) -> Any:
    low, high = draw.choice(((-1.0, 1.0), (None, 0.5), (-0.5, None)))
    kinks = tuple(bound for bound in (low, high) if bound is not None)
    return (draw.array(draw.shape(), avoid=kinks),), {"min": low, "max": high}


record(add, binary(), "numpy.add")
record(subtract, binary(), "numpy.subtract")
record(multiply, binary(), "numpy.multiply")
record(divide, binary((-2, 2), (0.5, 2)), "numpy.divide")
record(power, binary((0.3, 2), (-2, 3)), "numpy.power")
record(negative, unary(), "numpy.negative")
record(exp, unary(), "numpy.exp")
record(expm1, unary(), "numpy.expm1")
record(log, unary(0.3, 3), "numpy.log")
record(log1p, unary(-0.6, 2), "numpy.log1p")
record(sqrt, unary(0.3, 3), "numpy.sqrt", conventions=((([0.0, 4.0],), [0.0, 0.25]),))
record(square, unary(), "numpy.square")
record(abs, unary(avoid=(0.0,)), "numpy.abs", conventions=((([-1.0, 0.0, 2.0],), [-1.0, 0.0, 1.0]),))
record(sign, unary(avoid=(0.0,)), "numpy.sign", conventions=((([-1.0, 0.0, 2.0],), [0.0, 0.0, 0.0]),))
record(sin, unary(), "numpy.sin")
record(cos, unary(), "numpy.cos")
record(tanh, unary(), "numpy.tanh")
record(sigmoid, unary(), "scipy.special.expit")
record(softplus, unary(), lambda x: np.logaddexp(x, 0))
record(relu, unary(avoid=(0.0,)), lambda x: x * (x > 0), conventions=((([-1.0, 0.0, 2.0],), [0.0, 0.0, 1.0]),))
record(maximum, _apart, "numpy.maximum", conventions=((([1.0, 2.0], [1.0, 1.0]), [0.5, 1.0]),))
record(minimum, _apart, "numpy.minimum", conventions=((([1.0, 2.0], [1.0, 1.0]), [0.5, 0.0]),))
record(where, _choices, "numpy.where")
record(clip, _bounds, "numpy.clip")
