"""Trees: nested dicts, lists, tuples and named tuples whose leaves are arrays, Tensors or numbers.

None is an empty tree. Parameters, optimizer state and gradients are all trees, so one `map` serves every algorithm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


def items(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield (path, leaf) for every leaf: dicts in key order of insertion, sequences by position.

    >>> list(items({"w": 1.0, "layers": [2.0, 3.0]}))
    [(('w',), 1.0), (('layers', '0'), 2.0), (('layers', '1'), 3.0)]
    """
    if isinstance(tree, dict):
        for key, child in tree.items():
            yield from items(child, (*path, str(key)))
    elif isinstance(tree, (list, tuple)):
        for i, child in enumerate(tree):
            yield from items(child, (*path, str(i)))
    elif tree is not None:
        yield path, tree


def place(root: str, path: tuple[str, ...]) -> str:
    """How a reader would write the leaf at `path` of a tree called `root`.

    >>> place("params", ("layers", "0", "w"))
    "params['layers'][0]['w']"
    """
    return root + "".join(f"[{key}]" if key.isdigit() else f"[{key!r}]" for key in path)


def leaves(tree: Any) -> list[Any]:
    """All leaves in the order of `items`.

    >>> leaves({"w": 1.0, "b": (2.0, None)})
    [1.0, 2.0]
    """
    found: list[Any] = []
    _collect(tree, found)
    return found


def _collect(tree: Any, found: list[Any]) -> None:
    """Append all leaves; without their paths, which `items` spends most of its time on."""
    if isinstance(tree, (dict, list, tuple)):
        for child in tree.values() if isinstance(tree, dict) else tree:
            _collect(child, found)
    elif tree is not None:
        found.append(tree)


def map(f: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """Apply `f` to each leaf of `tree` and the leaves at the same places of `others`; the result has the tree's shape.

    Raises ValueError naming the place where two trees differ.

    >>> map(lambda w, g: w - 0.1 * g, {"w": 1.0}, {"w": 10.0})
    {'w': 0.0}
    """
    return _map(f, (tree, *others), ())


def _map(f: Callable[..., Any], trees: tuple[Any, ...], path: tuple[str, ...]) -> Any:
    tree = trees[0]
    if isinstance(tree, dict):
        for other in trees[1:]:
            if not isinstance(other, dict) or other.keys() != tree.keys():
                raise ValueError(_mismatch(tree, other, path))
        return {key: _map(f, tuple(t[key] for t in trees), (*path, str(key))) for key in tree}
    if isinstance(tree, (list, tuple)):
        for other in trees[1:]:
            if not isinstance(other, (list, tuple)) or len(other) != len(tree):
                raise ValueError(_mismatch(tree, other, path))
        children = [_map(f, children, (*path, str(i))) for i, children in enumerate(zip(*trees, strict=True))]
        return _like(tree, children)
    if tree is None:
        if any(other is not None for other in trees[1:]):
            raise ValueError(_mismatch(tree, next(o for o in trees if o is not None), path))
        return None
    for other in trees[1:]:
        if other is None or isinstance(other, (dict, list, tuple)):
            raise ValueError(_mismatch(tree, other, path))
    return f(*trees)


def unflatten(tree: Any, values: list[Any]) -> Any:
    """Put `values` at the leaves of `tree`, in the order of `leaves`.

    >>> unflatten({"w": 0, "b": (0, 0)}, [1, 2, 3])
    {'w': 1, 'b': (2, 3)}
    """
    count = len(leaves(tree))
    if len(values) != count:
        raise ValueError(f"tree.unflatten: the tree has {count} leaves, got {len(values)} values")
    rest = iter(values)
    return map(lambda _: next(rest), tree)


def _like(tree: Any, children: list[Any]) -> Any:
    if hasattr(tree, "_fields"):  # a named tuple takes its children one by one
        return type(tree)(*children)
    return type(tree)(children)


def _mismatch(tree: Any, other: Any, path: tuple[str, ...]) -> str:
    place = "/".join(path) or "the root"
    return f"tree.map: trees differ at {place}: {_kind(tree)} against {_kind(other)}"


def _kind(tree: Any) -> str:
    if isinstance(tree, dict):
        return f"dict with keys {list(tree)}"
    if isinstance(tree, (list, tuple)):
        return f"{type(tree).__name__} of length {len(tree)}"
    return "None" if tree is None else "a leaf"
