"""Importing optional packages only where they are used."""

import importlib
from types import ModuleType


def require(module: str, package: str, purpose: str) -> ModuleType:
    """The module, or an ImportError that names the extra which brings it.

    >>> require("json", "JSON", "reading settings").__name__
    'json'
    >>> require("no_such_module", "Pillow", "decoding PNG files")
    Traceback (most recent call last):
    ImportError: decoding PNG files needs Pillow: pip install 'minimeta[train]'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{purpose} needs {package}: pip install 'minimeta[train]'") from error
