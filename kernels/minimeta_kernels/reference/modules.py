"""The array module of an array, without importing any."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np


def array_module(array: Any) -> Any:
    """numpy for an ndarray, cupy for its arrays, else what the array itself says (`__array_namespace__`).

    >>> array_module(np.zeros(1)).__name__
    'numpy'
    """
    if type(array) is np.ndarray or isinstance(array, np.generic):
        return np
    if type(array).__module__.partition(".")[0] == "cupy":
        return sys.modules["cupy"]
    return array.__array_namespace__()
