"""Exponentials that vectorise: Numba calls the C library for one number at a time, these run in vector registers.

float32 to 2 units in the last place or so, over the whole range and relative also near 0; float64 by the C library.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

_f = np.float32

#: x = n log 2 + r: log 2 in two parts, the first exact in products with n.
_LOG2_E = _f(1.4426950408889634)
_LOG_2_HIGH = _f(0.693359375)
_LOG_2_LOW = _f(-2.12194440e-4)


def _exact(function: Any) -> Any:
    """Compiled without leave to reorder sums, which would undo the splitting of x."""
    return njit(nogil=True, fastmath={"contract"}, error_model="numpy")(function)


@intrinsic  # type: ignore[untyped-decorator]
def _as_float32(typing: Any, bits: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), generate


@_exact
def _power_of_two(n: Any) -> Any:
    """2^n for -126 <= n <= 127."""
    return _as_float32(np.int32((n + np.int32(127)) << np.int32(23)))


@_exact
def _exp32(x: Any) -> Any:
    x = _f(-104) if x < _f(-104) else x
    x = _f(89) if x > _f(89) else x
    n = np.floor(x * _LOG2_E + _f(0.5))
    r = (x - n * _LOG_2_HIGH) - n * _LOG_2_LOW
    p = _f(1.9875691500e-4)
    p = p * r + _f(1.3981999507e-3)
    p = p * r + _f(8.3334519073e-3)
    p = p * r + _f(4.1665795894e-2)
    p = p * r + _f(1.6666665459e-1)
    p = p * r + _f(5.0000001201e-1)
    p = p * (r * r) + r + _f(1)
    # 2^n in two factors reaches infinity and the subnormal numbers
    half = np.int32(np.int32(n) >> np.int32(1))
    return p * _power_of_two(half) * _power_of_two(np.int32(np.int32(n) - half))


def _for_dtype(single: Any, double: Any) -> Any:
    """What `overload` asks for: the implementation for the type at hand."""

    def choose(x: Any) -> Any:
        chosen = single if x == types.float32 else double

        def implementation(x: Any) -> Any:
            return chosen(x)

        return implementation

    return choose


@_exact
def _exp64(x: Any) -> Any:
    return math.exp(x)


def exp(x: Any) -> Any:
    """e^x: infinity above the range, 0 below it, NaN for NaN."""
    return math.exp(x)


overload(exp)(_for_dtype(_exp32, _exp64))


@_exact
def sigmoid(x: Any) -> Any:
    """1 / (1 + e^-x)."""
    one = type(x)(1)
    return one / (one + exp(-x))


@_exact
def _tanh32(x: Any) -> Any:
    # x P(x^2) / Q(x^2), fitted to relative error 8e-10 up to 8.6, from where to 9.01 tanh is the last number below 1;
    # then it rounds to 1. No exponential, no branch
    near = _f(-8.6) if x < _f(-8.6) else x
    near = _f(8.6) if near > _f(8.6) else near
    z = near * near
    p = _f(-1.3127841344702353e-11)
    p = p * z + _f(3.1801540688621734e-08)
    p = p * z + _f(2.8505185235856983e-05)
    p = p * z + _f(3.8927934459738905e-03)
    p = p * z + _f(1.3699392411537200e-01)
    p = p * z + _f(1)
    q = _f(1.3223890533287710e-06)
    q = q * z + _f(3.9819050309958395e-04)
    q = q * z + _f(2.7335222901624220e-02)
    q = q * z + _f(4.7032724976294055e-01)
    q = q * z + _f(1)
    y = near * p / q
    y = _f(-1) if y < _f(-1) else y
    y = _f(1) if y > _f(1) else y
    y = _f(-1) if x < _f(-9.01) else y
    return _f(1) if x > _f(9.01) else y


@_exact
def _tanh64(x: Any) -> Any:
    return math.tanh(x)


def tanh(x: Any) -> Any:
    """The hyperbolic tangent."""
    return math.tanh(x)


overload(tanh)(_for_dtype(_tanh32, _tanh64))
