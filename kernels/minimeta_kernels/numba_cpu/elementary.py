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
    # around 0 by its series (Cephes tanhf), where the other formula cancels; both are computed: no branch
    z = x * x
    p = _f(-5.70498872745e-3)
    p = p * z + _f(2.06390887954e-2)
    p = p * z + _f(-5.37397155531e-2)
    p = p * z + _f(1.33314422036e-1)
    p = p * z + _f(-3.33332819422e-1)
    near = p * z * x + x
    far = _f(1) - _f(2) / (exp(x + x) + _f(1))
    return near if abs(x) < _f(0.625) else far


@_exact
def _tanh64(x: Any) -> Any:
    return math.tanh(x)


def tanh(x: Any) -> Any:
    """The hyperbolic tangent."""
    return math.tanh(x)


overload(tanh)(_for_dtype(_tanh32, _tanh64))
