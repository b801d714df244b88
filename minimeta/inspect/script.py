"""A function out of a user's script, with the values that its arguments have by default."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def function_with_values(script: str, name: str) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Run the script as Python would import it, and take from it a function and the defaults of its arguments.

    Raises FileNotFoundError for the script, ValueError for a function that is not there, takes no arguments, or has
    arguments without default. What the script raises comes through.
    """
    path = Path(script)
    if not path.is_file():
        raise FileNotFoundError(f"{script}: no such file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent.resolve()))  # as for `python script.py`
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    function = getattr(module, name, None)
    if not callable(function):
        functions = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        raise ValueError(f"{script}: no function {name!r}; it has {', '.join(functions) or 'none'}")
    return function, _defaults(f"{script}:{name}", function)


def _defaults(name: str, function: Callable[..., Any]) -> tuple[Any, ...]:
    parameters = inspect.signature(function).parameters.values()
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if not positional:
        raise ValueError(f"{name}: takes no arguments; need one to differentiate by")
    for parameter in parameters:
        needed = parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if needed and parameter.default is parameter.empty:
            raise ValueError(f"{name}: argument {parameter.name!r} has no default; give it the value to look at")
    return tuple(parameter.default for parameter in positional)
