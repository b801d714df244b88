"""A perceptron with two hidden layers, on many examples; as `task_mlp` one for each task, its weights and examples.

    h1 = relu(x w1 + b1),  h2 = relu(h1 w2 + b2),  y = h2 w3 + b3;   relu'(0) = 0

The derivatives make the hidden layers again: they would take most of the memory. The products are those of the table,
so that a GPU has its own for them.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from minimeta_kernels.reference.modules import array_module
from minimeta_kernels.registry import call, register

_product = partial(call, "matmul")


@register("mlp", "reference")
@register("task_mlp", "reference")
def mlp(x: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any) -> Any:
    """x [..., N, D], w1 [..., D, H1], b1 [..., H1], w2 [..., H1, H2], b2, w3 [..., H2, O], b3 -> y [..., N, O]."""
    return _affine(_hidden(x, w1, b1, w2, b2)[1], w3, b3)


@register("mlp_vjp", "reference")
@register("task_mlp_vjp", "reference")
def mlp_vjp(g: Any, x: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any) -> tuple[Any, ...]:
    """The gradients by x and all weights for the cotangent of y."""
    h1, h2 = _hidden(x, w1, b1, w2, b2)
    g2 = _product(g, _turned(w3)) * (h2 > 0)
    g1 = _product(g2, _turned(w2)) * (h1 > 0)
    to_x, to_w1 = _product(g1, _turned(w1)), _product(_turned(x), g1)
    to_w2, to_w3 = _product(_turned(h1), g2), _product(_turned(h2), g)
    return to_x, to_w1, g1.sum(axis=-2), to_w2, g2.sum(axis=-2), to_w3, g.sum(axis=-2)


@register("mlp_vjp2", "reference")
@register("task_mlp_vjp2", "reference")
def mlp_vjp2(
    cotangents: tuple[Any, ...], g: Any, x: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any
) -> tuple[Any, ...]:
    """The gradients by g, x and all weights for the cotangents of all that the derivative gives.

    For these as a direction, the product with them is <g, dy>, where dy is how y changes along it (each ReLU is a line
    on either side): by g its gradient is dy, by the rest it is that of a perceptron once more.
    """
    cx, cw1, cb1, cw2, cb2, cw3, cb3 = cotangents
    h1, h2 = _hidden(x, w1, b1, w2, b2)
    on1, on2 = h1 > 0, h2 > 0
    dh1 = (_affine(x, cw1, cb1) + _product(cx, w1)) * on1
    dh2 = (_affine(h1, cw2, cb2) + _product(dh1, w2)) * on2
    dy = _affine(h2, cw3, cb3) + _product(dh2, w3)
    g2 = _product(g, _turned(w3)) * on2
    g1 = _product(g2, _turned(w2)) * on1
    q2 = _product(g, _turned(cw3)) * on2
    q1 = (_product(g2, _turned(cw2)) + _product(q2, _turned(w2))) * on1
    to_x = _product(g1, _turned(cw1)) + _product(q1, _turned(w1))
    to_w1 = _product(_turned(cx), g1) + _product(_turned(x), q1)
    to_w2 = _product(_turned(dh1), g2) + _product(_turned(h1), q2)
    to_w3 = _product(_turned(dh2), g)
    return dy, to_x, to_w1, q1.sum(axis=-2), to_w2, q2.sum(axis=-2), to_w3, 0 * b3


def _hidden(x: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> tuple[Any, Any]:
    xp = array_module(x)
    h1 = xp.maximum(_affine(x, w1, b1), 0)
    return h1, xp.maximum(_affine(h1, w2, b2), 0)


def _affine(x: Any, w: Any, b: Any) -> Any:
    return _product(x, w) + b[..., None, :]


def _turned(x: Any) -> Any:
    return x.swapaxes(-1, -2)
