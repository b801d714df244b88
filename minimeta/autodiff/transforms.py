"""Transforms: functions of functions. Arguments and results are trees of arrays.

Each transform gives every leaf of its arguments a fresh node, so a nested transform never confuses its own variable
with that of an enclosing one. What comes out is plain arrays, unless an enclosing transform is watching or a Tensor was
handed in: then Tensors.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

from minimeta import backend, tree
from minimeta.autodiff import watching
from minimeta.autodiff.backward import Reach, pull_back, reach
from minimeta.autodiff.node import Node, Spec
from minimeta.autodiff.op import op
from minimeta.autodiff.primitives import alias, concatenate
from minimeta.autodiff.tensor import Tensor

Function = Callable[..., Any]
ArgNums = int | tuple[int, ...]


def stop_gradient(values: Any) -> Any:
    """The same values as constants, to every order: Tensors lose their node, everything else passes through.

    >>> float(minimeta.grad(lambda x: x * minimeta.stop_gradient(x))(3.0))
    3.0
    """
    return tree.map(lambda leaf: Tensor(leaf.data) if type(leaf) is Tensor else leaf, values)


def value_and_grad(f: Function, argnums: ArgNums = 0, *, has_aux: bool = False) -> Function:
    """The function that returns `(f(*args), gradient)`; arguments, shapes and errors as `grad`.

    With `has_aux`, `f` returns `(scalar, aux)` and the result is `((scalar, aux), gradient)`.

    >>> value, slope = minimeta.value_and_grad(lambda x: x * x)(3.0)
    >>> float(value), float(slope)
    (9.0, 6.0)
    """

    @functools.wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        variables = Variables("grad", args, argnums)
        result = f(*variables.args, **kwargs)
        if has_aux and not (isinstance(result, tuple) and len(result) == 2):
            raise TypeError(f"minimeta.grad: has_aux: the function returns (value, aux), got {type(result).__name__}")
        value, aux = result if has_aux else (result, None)
        value = scalar(value)
        found = variables.reach((value, aux))
        cotangents = {} if value.node is None else {value.node.number: _zeros_like(value.data) + 1}
        value, aux = variables.release((value, aux), found)
        del result  # from here on the path alone holds the graph, and the walk consumes it
        gradients = variables.pull_back(found, cotangents)
        gradient = gradients if isinstance(argnums, tuple) else gradients[0]
        return ((value, aux) if has_aux else value), gradient

    return wrapped


def grad(f: Function, argnums: ArgNums = 0, *, has_aux: bool = False) -> Function:
    """The gradient of a scalar function with respect to argument(s) `argnums`: a tree shaped like the argument.

    `f(*args, **kwargs)` returns a single number; arguments are trees of float32 or float64 arrays. A gradient has the
    shape and dtype of its argument. Nest it for higher orders. With `has_aux`, `f` returns `(value, aux)` and the
    result is `(gradient, aux)`.
    Raises TypeError for arguments that are not floating point, ValueError if `f` returns more than one number.

    >>> cube = lambda x: x ** 3
    >>> float(minimeta.grad(cube)(2.0)), float(minimeta.grad(minimeta.grad(cube))(2.0))
    (12.0, 12.0)
    """
    both = value_and_grad(f, argnums, has_aux=has_aux)

    @functools.wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        value, gradient = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return wrapped


def vjp(f: Function, *args: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """`f(*args)` and the function that pulls a cotangent (a tree shaped like the result) back to all arguments.

    The pullback returns one tree per argument and may be called any number of times; it holds the graph.
    Raises ValueError if a cotangent's shape differs from the result's.

    >>> y, pullback = minimeta.vjp(lambda a, b: a * b, np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    >>> pullback(np.ones(2))
    (array([3., 4.]), array([1., 2.]))
    """
    variables = Variables("vjp", args, tuple(range(len(args))))
    result = tree.map(_tensor, f(*variables.args))
    found = variables.reach(result)
    numbers = [None if leaf.node is None else leaf.node.number for leaf in tree.leaves(result)]
    result = variables.release(result, found)
    outputs = stop_gradient(result)

    def pullback(cotangent: Any) -> tuple[Any, ...]:
        values = tree.leaves(tree.map(_check_cotangent, outputs, cotangent))
        cotangents: dict[int, Any] = {}
        for number, c in zip(numbers, values, strict=True):
            if number is not None:
                cotangents[number] = cotangents[number] + c if number in cotangents else c
        return variables.pull_back(found._replace(path=list(found.path)), cotangents)

    return result, pullback


def jvp(f: Function, args: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    """`f(*args)` and its derivative along `tangents` (one tree per argument).

    >>> y, dy = minimeta.jvp(lambda x: x * x, (3.0,), (1.0,))
    >>> float(y), float(dy)
    (9.0, 6.0)
    """
    y, pullback = vjp(f, *args)
    # cotangent -> pullback(cotangent) is linear, so its own pullback, at any point, is the derivative of f.
    _, push = vjp(pullback, tree.map(_zeros_like, y))
    return y, push(tuple(tangents))[0]


def hvp(f: Function, x: Any, v: Any) -> Any:
    """The Hessian of scalar `f` at `x` times `v`: a tree shaped like `x`, without forming the Hessian.

    >>> minimeta.hvp(lambda x: (x ** 3).sum(), np.array([1.0, 2.0]), np.array([1.0, 1.0]))
    array([ 6., 12.])
    """
    return vjp(grad(f), x)[1](v)[0]  # the Hessian is symmetric: pulling back along the gradient multiplies by it


def jacobian(f: Function, argnums: int = 0) -> Function:
    """The function that returns all first derivatives: result leaf y by argument leaf x gives [*y.shape, *x.shape].

    The result is shaped like the result of `f`, with a tree shaped like the argument at every leaf. One backward walk
    per number in the result of `f`.

    >>> minimeta.jacobian(lambda x: x * x)(np.array([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])
    """

    @functools.wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        before, x, after = args[:argnums], args[argnums], args[argnums + 1 :]
        y, pullback = vjp(lambda x: f(*before, x, *after, **kwargs), x)
        outputs = tree.leaves(y)
        jacobians = []
        for i, leaf in enumerate(outputs):
            rows = [pullback(tree.unflatten(y, seed))[0] for seed in _basis(outputs, i)]
            jacobians.append(tree.map(functools.partial(_stack_rows, leaf.shape), x, *rows))
        return tree.unflatten(y, jacobians)

    return wrapped


def hessian(f: Function, argnums: int = 0) -> Function:
    """The function that returns all second derivatives of scalar `f`: [*x.shape, *x.shape] for an array argument.

    >>> minimeta.hessian(lambda x: (x ** 3).sum())(np.array([1.0, 2.0]))
    array([[ 6.,  0.],
           [ 0., 12.]])
    """
    return jacobian(grad(f, argnums), argnums)


def checkpoint(f: Function) -> Function:
    """The same function, remembered by its arguments alone: the backward pass runs `f` again instead of storing it.

    All result leaves share one dtype. Every traced value must come in as a positional argument; raises ValueError if
    `f` captures one from outside.

    >>> float(minimeta.grad(minimeta.autodiff.checkpoint(lambda x: x * x * x))(2.0))
    12.0
    """

    @functools.wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        leaves = tree.leaves(args)
        traced = [i for i, leaf in enumerate(leaves) if type(leaf) is Tensor and leaf.node is not None]
        if not traced:
            return f(*args, **kwargs)
        constants = [_data(leaf) for leaf in leaves]
        results: list[Any] = []  # the tree of the result, known once f has run

        def run(*inputs: Any) -> Any:
            values = list(constants)
            for i, value in zip(traced, inputs, strict=True):
                values[i] = value
            result = f(*tree.unflatten(args, values), **kwargs)
            results[:] = [tree.map(lambda leaf: Spec(leaf.shape, leaf.dtype), result)]
            return concatenate([leaf.reshape(-1) for leaf in tree.leaves(result)])

        @op(saves="inputs")
        def checkpoint(xp: Any, *inputs: Any) -> Any:
            flat = _tensor(run(*inputs))
            if flat.node is not None:
                raise ValueError("the function captures a traced Tensor from outside: pass it as an argument")
            return flat.data

        @checkpoint.vjp()
        def _(g: Any, y: Any, *inputs: Any) -> Any:
            return vjp(run, *inputs)[1](g)

        flat = checkpoint([leaves[i] for i in traced])
        return _unpack(flat, results[0])

    return wrapped


class Variables:
    """The arguments that a transform differentiates by, each leaf under a fresh node."""

    def __init__(self, name: str, args: tuple[Any, ...], argnums: ArgNums) -> None:
        positions = (argnums,) if isinstance(argnums, int) else argnums
        for i in positions:
            if not 0 <= i < len(args):
                raise ValueError(f"minimeta.{name}: argnums={argnums} needs more than the {len(args)} arguments given")
        if len(set(positions)) < len(positions):
            raise ValueError(f"minimeta.{name}: argnums={argnums} names an argument twice")
        self.trees = [
            tree.unflatten(args[i], [_fresh(name, args, i, path, leaf) for path, leaf in tree.items(args[i])])
            for i in positions
        ]
        self.leaves: list[Tensor] = tree.leaves(self.trees)
        self.targets: list[Node] = [leaf.node for leaf in self.leaves if leaf.node is not None]
        fresh = dict(zip(positions, self.trees, strict=True))
        self.args = [fresh.get(i, arg) for i, arg in enumerate(args)]
        self.handed_tensors = any(type(leaf) is Tensor for i in positions for leaf in tree.leaves(args[i]))

    def reach(self, result: Any) -> Reach:
        nodes = [getattr(leaf, "node", None) for leaf in tree.leaves(result)]
        return reach([node for node in nodes if node is not None], self.targets)

    def release(self, values: Any, found: Reach) -> Any:
        """Results as the caller gets them: Tensors if an enclosing transform watches, else without their graph."""
        if found.watched:
            return values
        strip = stop_gradient if self.handed_tensors else functools.partial(tree.map, _data)
        return strip(values)

    def pull_back(self, found: Reach, cotangents: dict[int, Any]) -> tuple[Any, ...]:
        """One gradient tree per variable."""
        return self.gradients(pull_back(found, cotangents, self.targets), found.watched)

    def gradients(self, known: list[Any], watched: bool) -> tuple[Any, ...]:
        """One tree per variable of the cotangents `known` of all leaves, with zeros where there is none."""
        gradients = []
        for leaf, g in zip(self.leaves, known, strict=True):
            if g is None:
                g = _zeros_like(leaf.data)
            if type(g) is not Tensor and (watched or self.handed_tensors):
                g = Tensor(g)
            gradients.append(g if type(g) is Tensor else backend.namespace(g).asarray(g))
        return tuple(tree.unflatten(self.trees, gradients))


def _fresh(name: str, args: tuple[Any, ...], position: int, path: tuple[str, ...], leaf: Any) -> Tensor:
    """The leaf under a node of its own; its parent is the node it came with, if any."""
    tensor = _tensor(backend.beside(args, leaf))
    xp = backend.namespace(tensor.data)
    if tensor.dtype not in (xp.float32, xp.float64):
        place = tree.place(f"argument {position}", path)
        raise TypeError(f"minimeta.{name}: {place} has dtype {tensor.dtype}; derivatives need float32 or float64")
    spec = tensor.node or Spec(tensor.shape, tensor.dtype)
    node = Node(alias.op, {}, (tensor.node,), (spec,), None, tensor.shape, tensor.dtype)
    if watching.active:
        watching.made(alias.op.name, node, tensor.data)
    return Tensor(tensor.data, node)


def scalar(value: Any) -> Tensor:
    if isinstance(value, (dict, list, tuple)) or value is None:
        raise TypeError(f"minimeta.grad: the function returns one number, got {type(value).__name__}; see has_aux")
    tensor = _tensor(value)
    if tensor.size != 1:
        raise ValueError(
            f"minimeta.grad: the function returns one number, got shape {tensor.shape}; "
            "sum() it, or use minimeta.vjp or minimeta.jacobian"
        )
    return tensor


def _check_cotangent(output: Any, cotangent: Any) -> Any:
    value = cotangent if type(cotangent) is Tensor else backend.namespace(_data(output)).asarray(cotangent)
    if value.shape != output.shape:
        raise ValueError(f"minimeta.vjp: the cotangent has shape {value.shape}, the result has shape {output.shape}")
    return value


def _data(leaf: Any) -> Any:
    return leaf.data if type(leaf) is Tensor else leaf


def _tensor(leaf: Any) -> Tensor:
    return leaf if type(leaf) is Tensor else Tensor(leaf)


def _zeros_like(leaf: Any) -> Any:
    """Zeros of the leaf's shape, dtype and kind: a Tensor for a Tensor, a plain array for an array."""
    zeros = backend.namespace(_data(leaf)).zeros_like(_data(leaf))
    return Tensor(zeros) if type(leaf) is Tensor else zeros


def _basis(outputs: list[Any], i: int) -> Iterator[list[Any]]:
    """Cotangents that pick the numbers of output `i` one by one and are zero for all other outputs."""
    xp = backend.namespace(_data(outputs[i]))
    zeros = [xp.zeros(leaf.shape, dtype=leaf.dtype) for leaf in outputs]
    for k in range(zeros[i].size):
        seed = xp.zeros(zeros[i].size, dtype=zeros[i].dtype)
        seed[k] = 1
        yield [*zeros[:i], xp.reshape(seed, zeros[i].shape), *zeros[i + 1 :]]


def _stack_rows(shape: tuple[int, ...], x: Any, *rows: Any) -> Any:
    x = _tensor(x)
    if not rows:  # an empty result
        return backend.namespace(x.data).zeros((*shape, *x.shape), dtype=x.dtype)
    return concatenate([row.reshape(-1) for row in rows]).reshape((*shape, *x.shape))


def _unpack(flat: Any, specs: Any) -> Any:
    """Cut one long vector into the leaves of a tree of specs."""
    shapes = [spec.shape for spec in tree.leaves(specs)]
    ends = itertools.accumulate(map(math.prod, shapes))
    return tree.unflatten(specs, [flat[e - math.prod(s) : e].reshape(s) for s, e in zip(shapes, ends, strict=True)])
