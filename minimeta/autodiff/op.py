"""Operations: a forward over arrays, one derivative rule per differentiable argument, and the dispatch between them.

    @op(saves="out")                 # what the rules may look at: "inputs", "out", "all" or "none"
    def tanh(xp, x):
        return xp.tanh(x)

    @tanh.vjp(0)
    def _(g, y, x):
        return g - g * square(y)

An operation on plain arrays is the forward and nothing else; on Tensors it returns a Tensor, recorded if any argument
is. A rule is written in operations and operators too, so it runs on plain arrays when nobody watches the backward pass,
and on Tensors, recording itself, when somebody does: that is all there is to gradients of any order.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from minimeta import backend
from minimeta.autodiff import watching
from minimeta.autodiff.node import Node, Spec
from minimeta.autodiff.tensor import Tensor

Rule = Callable[..., Any]


class NotDifferentiableError(TypeError):
    """A gradient was asked for along an argument that has no derivative rule."""


class Operation(Protocol):
    """What `@op` makes: callable on arrays and Tensors, with its `Op` and the decorator for its rules."""

    op: Op
    __name__: str

    def __call__(self, *args: Any, **options: Any) -> Any: ...

    def vjp(self, *arguments: int) -> Callable[[Rule], Rule]: ...


class Op:
    """Name, forward and rules of one operation."""

    def __init__(self, forward: Callable[..., Any], saves: str, broadcasts: bool, differentiable: bool = True) -> None:
        if saves not in ("inputs", "out", "all", "none"):
            raise ValueError(f"op {forward.__name__}: saves={saves!r}; choose 'inputs', 'out', 'all' or 'none'")
        parameters = list(inspect.signature(forward).parameters.values())[1:]  # without xp
        self.name = forward.__name__.rstrip("_")
        self.forward = forward
        self.arguments = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL)]
        self.variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        self.options = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
        arrays = [p if p.kind is p.KEYWORD_ONLY else p.replace(kind=p.POSITIONAL_ONLY) for p in parameters]
        self.signature = inspect.Signature(arrays)  # as its user calls it
        self.saves_inputs = saves in ("inputs", "all")
        self.saves_out = saves in ("out", "all")
        self.broadcasts = broadcasts
        self.differentiable = differentiable
        self.rules: dict[int, Rule] = {}
        self.joint: Rule | None = None

    def vjp(self, *arguments: int) -> Callable[[Rule], Rule]:
        """Register a rule: `vjp(i)` for argument i, `vjp()` for one rule that gives the gradients of all arguments."""

        def register(rule: Rule) -> Rule:
            for i in arguments:
                self.rules[i] = rule
            if not arguments:
                self.joint = rule
            return rule

        return register

    def rule(self, i: int) -> Rule:
        """The rule of argument `i`; raises NotDifferentiableError where there is none."""
        if i not in self.rules:
            raise NotDifferentiableError(
                f"minimeta.{self.name}: no derivative with respect to argument {self.argument(i)!r}; "
                "pass a constant there (minimeta.stop_gradient) or register a rule with "
                f"@{self.name}.vjp({i})"
            )
        return self.rules[i]

    def argument(self, i: int) -> str:
        return f"{self.arguments[-1]}[{i}]" if self.variadic else self.arguments[i]

    def bind(self, extra: tuple[Any, ...], static: dict[str, Any]) -> None:
        """Put positional options under their names, so that `sum(x, 0)` is `sum(x, axis=0)`."""
        free = [name for name in self.options if name not in static]
        if len(extra) > len(free):
            raise TypeError(
                f"minimeta.{self.name}: {len(extra)} positional options given after the arrays, "
                f"at most {len(free)} are open: {free}"
            )
        static.update(zip(free, extra, strict=False))

    def explain(self, error: Exception, arrays: Sequence[Any], static: dict[str, Any]) -> Exception:
        """The error of a forward, retold with the operation, its arguments and their values."""
        error = backend.mixed(*arrays) or error  # what else came of that says less
        values = [f"{self.argument(i)}.shape={a.shape}" if hasattr(a, "shape") else f"{self.argument(i)}={a!r}"
                  for i, a in enumerate(arrays)]  # fmt: skip
        values += [f"{name}={value!r}" for name, value in static.items()]
        kind: type[Exception] = IndexError if type(error) is IndexError else ValueError
        if isinstance(error, (TypeError, AttributeError)):
            kind = TypeError
        return kind(f"minimeta.{self.name}: {error}; got {', '.join(values)}")


def _spec(array: Any, parent: Node | None) -> Any:
    """What a node holds of an input whose values no rule needs: the parent, which is its own spec, or a Spec."""
    if parent is not None:
        return parent
    kind = type(array)
    return array if kind is float or kind is int or not hasattr(array, "shape") else Spec(array.shape, array.dtype)


def op(*, saves: str = "inputs", broadcasts: bool = False) -> Callable[[Callable[..., Any]], Operation]:
    """Make an operation of a forward `f(xp, *arrays, **options)`; arrays are positional, options keyword-only.

    `saves` says what the rules may look at (the rest is a Spec: shape and dtype); `broadcasts=True` lets the engine
    sum a gradient down to its argument's shape, anywhere else a wrong shape is an error that names the rule.
    """

    def decorate(forward: Callable[..., Any]) -> Operation:
        made = Op(forward, saves, broadcasts)
        if made.variadic:
            call = _variadic(made)
        elif len(made.arguments) == 1:
            call = _unary(made)
        else:
            call = (_binary if len(made.arguments) == 2 and not made.options else _general)(made)
        return _publish(call, made)

    return decorate


def nondifferentiable(forward: Callable[..., Any]) -> Operation:
    """Make an operation of piecewise constant or integer results, which are plain arrays, never Tensors."""
    made = Op(forward, "none", broadcasts=False, differentiable=False)
    return _publish(_general(made), made)


def _publish(call: Any, made: Op) -> Operation:
    """Give the dispatcher the name, documentation and signature that its user knows it by."""
    forward = made.forward
    call.__name__ = call.__qualname__ = made.name
    call.__module__ = forward.__module__
    call.__doc__ = forward.__doc__
    call.__signature__ = made.signature
    call.op = made
    call.vjp = made.vjp
    return call  # type: ignore[no-any-return]


_ERRORS = (ValueError, TypeError, IndexError, ArithmeticError, AttributeError)

# A call costs about as much as a small NumPy call, so the two most frequent kinds are _general spelled out.

_NO_OPTIONS: dict[str, Any] = {}


def _unary(made: Op) -> Callable[..., Any]:
    forward, saves_inputs, saves_out = made.forward, made.saves_inputs, made.saves_out
    namespaces = backend.NAMESPACES.get

    def call(x: Any, /, *extra: Any, **static: Any) -> Any:
        if extra:
            made.bind(extra, static)
        data = x.data if type(x) is Tensor else x
        try:
            xp = namespaces(type(data)) or backend.namespace(data)
            out = forward(xp, data, **static) if static else forward(xp, data)
        except _ERRORS as error:
            raise made.explain(error, (data,), static) from error
        if type(x) is not Tensor:
            return out
        static, parents = static or _NO_OPTIONS, (x.node,)
        if x.node is None or watching.active:
            return _record(made, static, (data,), parents, out)
        inputs = (data,) if saves_inputs else parents
        return Tensor(out, Node(made, static, parents, inputs, out if saves_out else None, out.shape, out.dtype))

    return call


def _binary(made: Op) -> Callable[..., Any]:
    forward, saves_inputs, saves_out = made.forward, made.saves_inputs, made.saves_out
    namespaces = backend.NAMESPACES.get

    def call(x: Any, y: Any, /) -> Any:
        left = right = None
        tensors = False
        if type(x) is Tensor:
            left, x, tensors = x.node, x.data, True
        if type(y) is Tensor:
            right, y, tensors = y.node, y.data, True
        try:
            out = forward(namespaces(type(x)) or namespaces(type(y)) or backend.namespace(x, y), x, y)
        except _ERRORS as error:
            raise made.explain(error, (x, y), _NO_OPTIONS) from error
        if not tensors:
            return out
        parents = (left, right)
        if watching.active or (left is None and right is None):
            return _record(made, _NO_OPTIONS, (x, y), parents, out)
        inputs = (x, y) if saves_inputs else (left or _spec(x, None), right or _spec(y, None))
        return Tensor(out, Node(made, _NO_OPTIONS, parents, inputs, out if saves_out else None, out.shape, out.dtype))

    return call


def _general(made: Op) -> Callable[..., Any]:
    count = len(made.arguments)

    def call(*args: Any, **static: Any) -> Any:
        if len(args) > count:
            made.bind(args[count:], static)
        return _apply(made, args[:count], static)

    return call


def _variadic(made: Op) -> Callable[..., Any]:
    def call(arrays: Sequence[Any], /, *extra: Any, **static: Any) -> Any:
        if not isinstance(arrays, (list, tuple)):
            raise TypeError(f"minimeta.{made.name}: takes a list or tuple of arrays, got {type(arrays).__name__}")
        made.bind(extra, static)
        return _apply(made, tuple(arrays), static)

    return call


def _apply(made: Op, args: tuple[Any, ...], static: dict[str, Any]) -> Any:
    arrays = tuple([a.data if type(a) is Tensor else a for a in args])
    try:
        out = made.forward(backend.namespace(*arrays), *arrays, **static)
    except _ERRORS as error:
        raise made.explain(error, arrays, static) from error
    if not made.differentiable or Tensor not in map(type, args):
        return out
    return _record(made, static, arrays, tuple([a.node if type(a) is Tensor else None for a in args]), out)


def _record(
    made: Op, static: dict[str, Any], arrays: tuple[Any, ...], parents: tuple[Node | None, ...], out: Any
) -> Tensor:
    """The Tensor of a result: a constant where every parent is, else with its node."""
    node = None
    if parents.count(None) < len(parents):
        inputs = arrays if made.saves_inputs else tuple(map(_spec, arrays, parents))
        node = Node(made, static, parents, inputs, out if made.saves_out else None, out.shape, out.dtype)
    if watching.active:
        watching.made(made.name, node, out)
    return Tensor(out, node)
