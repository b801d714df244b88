"""Which array module an array belongs to; moving arrays between modules.

The array's type decides everywhere: no operation names a device, and there is no global setting.
CuPy is imported only when somebody asks for it or hands over a CuPy array.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Sequence
from functools import cache
from typing import Any

import numpy as np

from minimeta import tree

#: Array type -> its module. Grows by `namespace` when a new array type is first seen.
NAMESPACES: dict[type, Any] = {np.ndarray: np}

DEVICES = ("numpy", "cupy")
#: More arrays than this CuPy joins by a table of their addresses from the host, which a CUDA graph cannot hold.
_JOINED_BY_COPIES = 8
_INSTALL = "pip install 'minimeta[cuda13]', or 'minimeta[cuda12]' where the driver is older"


def namespace(*arrays: Any) -> Any:
    """The array module of the arguments, e.g. `numpy`; numbers, Python's and NumPy's, and lists belong to any.

    Raises TypeError when two arguments belong to different modules.

    >>> namespace(1.0, np.ones(3)).__name__
    'numpy'
    """
    found: Any = None
    for array in arrays:
        xp = NAMESPACES.get(type(array)) or _discover(array)
        if xp is None or xp is found:
            continue
        if found is not None:
            raise TypeError(
                f"arrays of {found.__name__} and {xp.__name__} are mixed; "
                "bring them together with minimeta.backend.to_device"
            )
        found = xp
    return np if found is None else found


def mixed(*arrays: Any) -> TypeError | None:
    """The error of `namespace`, None where the arguments go together.

    >>> mixed(1.0, np.ones(3))
    """
    try:
        namespace(*arrays)
    except TypeError as error:
        return error
    return None


def beside(values: Any, leaf: Any) -> Any:
    """The leaf; of a number an array that goes with those of the tree `values`.

    >>> beside([np.ones(3)], 2.0)
    array(2.)
    """
    if not isinstance(leaf, (int, float, np.generic)):
        return leaf
    return namespace(*(x.data if _is_tensor(x) else x for x in tree.leaves(values))).asarray(leaf)


def _discover(array: Any) -> Any:
    if isinstance(array, np.generic):  # a number, though it has methods of arrays
        return None
    if type(array).__module__.partition(".")[0] == "cupy":
        xp = sys.modules["cupy"]
    elif hasattr(array, "__array_namespace__"):
        xp = array.__array_namespace__()
    else:
        return None
    NAMESPACES[type(array)] = xp
    return xp


def module(device: str) -> Any:
    """The array module called `device`: "numpy" or "cupy".

    Raises ValueError for another name, and RuntimeError when CuPy or a GPU is missing.
    """
    if device == "numpy":
        return np
    if device == "cupy":
        return _cupy()
    raise ValueError(f"minimeta.backend: unknown device {device!r}; choose one of {', '.join(DEVICES)}")


def _cupy() -> Any:
    try:
        import cupy
    except ImportError as error:
        raise RuntimeError(f"minimeta.backend: 'cupy' needs CuPy, which is not installed: {_INSTALL}") from error
    _check(cupy)
    return cupy


@cache
def _check(cupy: Any) -> None:
    """Raises RuntimeError naming what CuPy lacks here; it imports without a GPU, so the import alone proves nothing."""
    if int(cupy.__version__.partition(".")[0]) < 14 or cupy.__version__ in ("14.0.0", "14.1.0"):
        found = f"found {cupy.__version__}: {_INSTALL}"
        raise RuntimeError(f"minimeta.backend: 'cupy' needs CuPy 14.0.1 or later but 14.1.0, {found}")
    if not cupy.cuda.is_available():
        raise RuntimeError("minimeta.backend: 'cupy' needs a CUDA GPU, and CuPy finds none on this machine")
    try:  # nor does a GPU prove that CUDA's compiler and its library of matrix products are there
        twice = cupy.ones((2, 2)) * 2.0
        cupy.matmul(twice, twice)
    except (ImportError, OSError, RuntimeError) as error:
        raise RuntimeError(f"minimeta.backend: 'cupy' lacks a part of CUDA ({error}): {_INSTALL}") from error


def to_device(values: Any, device: str) -> Any:
    """Copy every array of a tree to `device` ("numpy" or "cupy"); leaves already there are kept as they are.

    Numbers, Python's and NumPy's, stay what they are on "cupy": they go with arrays of any module, and a number on a
    device could not be looked at without waiting for it.

    >>> to_device({"w": np.ones(2)}, "numpy")
    {'w': array([1., 1.])}
    """
    xp = module(device)
    if xp is np:
        return asnumpy(values)

    def move(leaf: Any) -> Any:
        array = leaf.data if _is_tensor(leaf) else leaf
        return xp.asarray(array) if hasattr(array, "shape") and not isinstance(array, np.generic) else array

    return tree.map(move, values)


def asnumpy(values: Any) -> Any:
    """The tree with every leaf as a NumPy array on the host.

    >>> asnumpy([1.0, np.ones(2)])
    [array(1.), array([1., 1.])]
    """
    return tree.map(_leaf_asnumpy, values)


def floats(values: Any) -> Any:
    """The tree with every leaf, a number or an array of one, as a Python float; from a device all come in one copy.

    >>> floats({"loss": np.float32(0.5), "accuracy": 1})
    {'loss': 0.5, 'accuracy': 1.0}
    """
    leaves = tree.leaves(values)
    xp = namespace(*leaves)
    if xp is np:
        return tree.map(float, values)
    return tree.unflatten(values, asnumpy(xp.stack([xp.asarray(leaf, dtype=xp.float64) for leaf in leaves])).tolist())


def _leaf_asnumpy(leaf: Any) -> np.ndarray:
    array = leaf.data if _is_tensor(leaf) else leaf
    return array.get() if hasattr(array, "get") else np.asarray(array)


def _is_tensor(leaf: Any) -> bool:
    return hasattr(leaf, "node")  # a minimeta.Tensor; the engine imports this module, not the other way round


def constant(like: Any, make: Callable[..., np.ndarray], *args: Hashable) -> Any:
    """The NumPy array `make(*args)`, on the device of the array `like`; made and moved once, so not to be changed.

    >>> constant(np.zeros(1), np.arange, 3)
    array([0, 1, 2])
    """
    return _constant(namespace(like), str(getattr(like, "device", "")), make, args)


@cache
def _constant(xp: Any, device: str, make: Callable[..., np.ndarray], args: tuple[Hashable, ...]) -> Any:
    return xp.asarray(make(*args))


def concatenate(xp: Any, arrays: Sequence[Any], axis: int) -> Any:
    """Arrays of the module `xp` joined end to end along `axis`.

    >>> concatenate(np, [np.ones(2), np.zeros(1)], axis=0)
    array([1., 1., 0.])
    """
    join = xp.concatenate if hasattr(xp, "concatenate") else xp.concat
    while _too_many_to_record(xp, arrays):
        starts = range(0, len(arrays), _JOINED_BY_COPIES)
        arrays = [join(arrays[i : i + _JOINED_BY_COPIES], axis=axis) for i in starts]
    return join(arrays, axis=axis)


def stack(xp: Any, arrays: Sequence[Any], axis: int) -> Any:
    """Arrays of the module `xp`, of one shape, joined along a new axis.

    >>> stack(np, [np.ones(2), np.zeros(2)], axis=1).shape
    (2, 2)
    """
    if _too_many_to_record(xp, arrays):
        return concatenate(xp, [xp.expand_dims(array, axis) for array in arrays], axis)
    return xp.stack(arrays, axis=axis)


def _too_many_to_record(xp: Any, arrays: Sequence[Any]) -> bool:
    if len(arrays) <= _JOINED_BY_COPIES or xp.__name__ != "cupy":
        return False
    return bool(xp.cuda.get_current_stream().is_capturing())


def synchronize(*arrays: Any) -> None:
    """Wait until every queued GPU operation behind `arrays` is done; on NumPy there is nothing to wait for.

    >>> synchronize(np.ones(2))
    """
    cupy = sys.modules.get("cupy")
    if cupy is not None and any(NAMESPACES.get(type(a)) is cupy for a in arrays):
        cupy.cuda.get_current_stream().synchronize()
