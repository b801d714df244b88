"""minimeta: few-shot and meta-learning from scratch, on a small autodiff engine of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from minimeta.estimator import FewShotClassifier

__version__ = "0.1.0"

__all__ = [
    "FewShotClassifier", "NotDifferentiableError", "Tensor", "debug", "grad", "hessian", "hvp", "jacobian", "jvp",
    "ops", "stop_gradient", "tree", "value_and_grad", "vjp",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "FewShotClassifier":  # imported where used: the engine alone stays light
        from minimeta.estimator import FewShotClassifier

        return FewShotClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
