"""Nodes: what the engine remembers of an operation. Nodes point to older nodes only, so a graph has no cycles."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from minimeta.autodiff.op import Op
    from minimeta.autodiff.sites import Site

#: Creation numbers: every node is younger (has a larger number) than its parents.
_numbers = itertools.count()
next_number = _numbers.__next__


class Spec:
    """Shape and dtype of an array that was not kept: all that a rule may know of it."""

    __slots__ = ("dtype", "shape")
    __array_ufunc__ = None  # so that NumPy leaves `array * spec` to the error below

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        self.shape = shape
        self.dtype = dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape}, dtype={self.dtype})"


def _not_kept(self: Spec, *others: Any) -> NoReturn:
    raise TypeError(
        f"a rule needs the values of an array of which only shape {self.shape} and dtype {self.dtype} were kept: "
        "say so in saves=... of its operation"
    )


for _name in ("add", "sub", "mul", "truediv", "pow", "matmul"):
    setattr(Spec, f"__{_name}__", _not_kept)
    setattr(Spec, f"__r{_name}__", _not_kept)
for _name in ("neg", "abs", "getitem", "lt", "le", "gt", "ge"):
    setattr(Spec, f"__{_name}__", _not_kept)


class Node(Spec):
    """One recorded operation: the spec of its output and how that output came about.

    `parents` has one entry per array argument (None for constants), `inputs` one array per argument, or only its Spec
    where the rules do not need the values, `out` the output array if the rules need it. A Node never refers to
    a Tensor: the handle points to the node, so a graph dies by reference count as soon as its last handle does.
    """

    __slots__ = ("inputs", "number", "op", "out", "parents", "site", "static")

    def __init__(
        self, op: Op, static: dict[str, Any], parents: tuple[Node | None, ...], inputs: tuple[Any, ...],
        out: Any, shape: tuple[int, ...], dtype: Any,
    ) -> None:  # fmt: skip
        self.op = op
        self.static = static
        self.parents = parents
        self.inputs = inputs
        self.out = out
        self.shape = shape
        self.dtype = dtype
        self.number = next_number()
        self.site: Site | None = None  # filled in when somebody looks on

    def __repr__(self) -> str:
        return f"Node({self.op.name} #{self.number}, shape={self.shape}, dtype={self.dtype})"
