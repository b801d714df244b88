"""What the operations that begin with batch norm by each task's own statistics have in common.

Their kernels are NAME(x, gamma, beta) -> result, what else the derivatives need, mean, var; NAME_vjp(g, *saved, x,
gamma, beta) -> one gradient each; and NAME_vjp2(cotangents, g, *saved, x, gamma, beta) -> gradients of g, x and gamma.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import minimeta_kernels
from minimeta.autodiff import Tensor, vjp
from minimeta.autodiff.op import Operation, op
from minimeta.autodiff.primitives import broadcast_to
from minimeta.ops.fused.derivatives import fill
from minimeta.ops.nn import batch_norm
from minimeta.ops.reduce import mean, var
from minimeta.ops.results import Results, part
from minimeta.ops.shape import reshape


def per_task(shape: tuple[int, int], *parameters: Any) -> tuple[Any, ...]:
    """gamma and beta [C] or [T, C] as [T, C], which is `shape`."""
    return tuple(p if p.ndim == 2 else broadcast_to(p, shape=shape) for p in parameters)


def with_statistics(results: Any) -> tuple[Any, dict[str, Any]]:
    """Of an operation's results the first, and the statistics {"mean", "var"} as constants."""
    held = results.data if type(results) is Tensor else results
    return part(results, 0), {"mean": held.arrays[-2], "var": held.arrays[-1]}


def composite(x: Any, gamma: Any, beta: Any, eps: float) -> Any:
    """Batch norm by ordinary operations; gamma and beta [T, C]."""
    gamma, beta = (reshape(p, (p.shape[0], *(1,) * (x.ndim - 2), p.shape[1])) for p in (gamma, beta))
    axes = tuple(range(1, x.ndim - 1))
    return batch_norm(x, gamma, beta, mean(x, axes, keepdims=True), var(x, axes, keepdims=True), eps=eps)


def derive(operation: Operation, composite: Callable[..., Any]) -> None:
    """Register the rules of `operation`, whose kernels bear its name; `composite` is the same by ordinary ones."""
    name = operation.op.name

    @op()
    def first(xp: Any, g: Any, *arrays: Any, eps: float) -> Any:
        return Results(minimeta_kernels.call(f"{name}_vjp", g, *arrays, eps=eps))

    first.op.name = f"{name}_vjp"

    @operation.vjp()
    def _(g: Any, y: Any, x: Any, gamma: Any, beta: Any, eps: float) -> Any:
        # functions of x, but the kernels see to that themselves
        _, *saved = (y.data if type(y) is Tensor else y).arrays
        arrays = (part(g, 0), *saved, x, gamma, beta)
        if type(g) is not Tensor:
            return minimeta_kernels.call(f"{name}_vjp", *arrays, eps=eps)
        gradients = first(list(arrays), eps=eps)
        return tuple(part(gradients, i) for i in range(3))

    @first.vjp()
    def _(v: Any, y: Any, g: Any, *arrays: Any, eps: float) -> Any:
        *saved, x, gamma, beta = arrays
        cotangents = fill([part(v, i) for i in range(3)], (x, gamma, beta))
        none = (None,) * len(saved)
        if type(v) is not Tensor:
            gg, gx, ggamma = minimeta_kernels.call(f"{name}_vjp2", cotangents, g, *arrays, eps=eps)
            return gg, *none, gx, ggamma, None

        def plain(g: Any, *arrays: Any) -> tuple[Any, ...]:
            return vjp(lambda x, gamma, beta: composite(x, gamma, beta, eps), *arrays)[1](g)

        gg, *gradients = vjp(plain, g, x, gamma, beta)[1](cotangents)
        return gg, *none, *gradients
