"""How a fused operation gets its derivatives: two orders from kernels, every further one from a plain composite.

The kernels of an operation f(*arrays) are NAME, NAME_vjp(g, *arrays) -> one gradient per array, and
NAME_vjp2(cotangents, g, *arrays) -> gradients of (g, *arrays). While nobody watches, a rule is one kernel call on plain
arrays. While somebody does, NAME_vjp is an operation of its own, with NAME_vjp2 as its rule; and where somebody watches
that too, or there is no such kernel, the composite is differentiated instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import minimeta_kernels
from minimeta import backend
from minimeta.autodiff import Tensor, vjp
from minimeta.autodiff.op import Operation, op
from minimeta.ops.results import Results, part


def derive(operation: Operation, composite: Callable[..., Any]) -> None:
    """Register the rules of `operation`, whose kernels bear its name; `composite` is the same by ordinary ones."""
    name = operation.op.name

    @op()
    def first(xp: Any, g: Any, *arrays: Any, **options: Any) -> Any:
        return Results(minimeta_kernels.call(f"{name}_vjp", g, *arrays, **options))

    first.op.name = f"{name}_vjp"

    @operation.vjp()
    def _(g: Any, y: Any, *arrays: Any, **options: Any) -> Any:
        if type(g) is not Tensor:
            return minimeta_kernels.call(f"{name}_vjp", g, *arrays, **options)
        gradients = first([g, *arrays], **options)
        return tuple(part(gradients, i) for i in range(len(arrays)))

    @first.vjp()
    def _(v: Any, y: Any, g: Any, *arrays: Any, **options: Any) -> Any:
        cotangents = fill([part(v, i) for i in range(len(arrays))], arrays)
        if type(v) is not Tensor:
            return minimeta_kernels.call(f"{name}_vjp2", cotangents, g, *arrays, **options)

        def plain(g: Any, *arrays: Any) -> tuple[Any, ...]:
            return vjp(lambda *arrays: composite(*arrays, **options), *arrays)[1](g)

        return vjp(plain, g, *arrays)[1](cotangents)


def fill(cotangents: Sequence[Any], arrays: Sequence[Any]) -> tuple[Any, ...]:
    """The cotangents, with zeros like `arrays` in the place of those that are None."""
    return tuple(_zeros_like(a) if c is None else c for c, a in zip(cotangents, arrays, strict=True))


def _zeros_like(x: Any) -> Any:
    data = x.data if type(x) is Tensor else x
    return backend.namespace(data).zeros_like(data)
