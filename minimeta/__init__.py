"""minimeta: few-shot and meta-learning from scratch, on a small autodiff engine of its own."""

from minimeta import ops, tree
from minimeta.autodiff import (
    NotDifferentiableError,
    Tensor,
    debug,
    grad,
    hessian,
    hvp,
    jacobian,
    jvp,
    stop_gradient,
    value_and_grad,
    vjp,
)

__version__ = "0.1.0"

__all__ = [
    "NotDifferentiableError", "Tensor", "debug", "grad", "hessian", "hvp", "jacobian", "jvp", "ops",
    "stop_gradient", "tree", "value_and_grad", "vjp",
]  # fmt: skip
