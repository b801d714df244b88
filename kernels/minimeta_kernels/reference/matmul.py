"""The matrix product of every pair of matrices in two stacks; closed under differentiation, so it has no vjp."""

from __future__ import annotations

from typing import Any

from minimeta_kernels.reference.modules import array_module
from minimeta_kernels.registry import register


@register("matmul", "reference")
def matmul(a: Any, b: Any) -> Any:
    """a @ b with leading axes broadcast, (..., M, K), (..., K, N) -> (..., M, N).

    Raises ValueError where shapes do not fit.

    >>> matmul(np.ones((5, 2, 3)), np.ones((3, 4))).shape
    (5, 2, 4)
    """
    return array_module(a).matmul(a, b)
