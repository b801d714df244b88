"""A perceptron with two hidden layers, on many examples.

    h1 = relu(x w1 + b1),  h2 = relu(h1 w2 + b2),  y = h2 w3 + b3;   relu'(0) = 0

The derivative makes the hidden layers again: they would take most of the memory. The products are those of the table,
so that a GPU has its own for them.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from minimeta_kernels.reference.modules import array_module
from minimeta_kernels.registry import call, register

_product = partial(call, "matmul")


@register("mlp", "reference")
def mlp(x: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any) -> Any:
    """x [N, D], w1 [D, H1], b1 [H1], w2 [H1, H2], b2 [H2], w3 [H2, O], b3 [O] -> y [N, O]."""
    return _product(_hidden(x, w1, b1, w2, b2)[1], w3) + b3


@register("mlp_vjp", "reference")
def mlp_vjp(g: Any, x: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any) -> tuple[Any, ...]:
    """The gradients by x and all weights for the cotangent of y."""
    h1, h2 = _hidden(x, w1, b1, w2, b2)
    g2 = _product(g, w3.T) * (h2 > 0)
    g1 = _product(g2, w2.T) * (h1 > 0)
    to_x, to_w1 = _product(g1, w1.T), _product(x.T, g1)
    return to_x, to_w1, g1.sum(axis=0), _product(h1.T, g2), g2.sum(axis=0), _product(h2.T, g), g.sum(axis=0)


def _hidden(x: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> tuple[Any, Any]:
    xp = array_module(x)
    h1 = xp.maximum(_product(x, w1) + b1, 0)
    return h1, xp.maximum(_product(h1, w2) + b2, 0)
