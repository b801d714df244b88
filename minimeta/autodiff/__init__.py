"""The engine: reverse-mode automatic differentiation of any order, over any array module.

Read in this order: node, tensor, op, primitives, backward, transforms; then watching, debugging.
"""

from minimeta.autodiff.debugging import debug
from minimeta.autodiff.node import Node, Spec
from minimeta.autodiff.op import NotDifferentiableError, Op, Operation, nondifferentiable, op
from minimeta.autodiff.tensor import Tensor
from minimeta.autodiff.transforms import (
    checkpoint,
    grad,
    hessian,
    hvp,
    jacobian,
    jvp,
    stop_gradient,
    value_and_grad,
    vjp,
)  # fmt: skip
from minimeta.autodiff.watching import scope

__all__ = [
    "Node", "NotDifferentiableError", "Op", "Operation", "Spec", "Tensor", "checkpoint", "debug", "grad", "hessian",
    "hvp", "jacobian", "jvp", "nondifferentiable", "op", "scope", "stop_gradient", "value_and_grad", "vjp",
]  # fmt: skip
