"""What every test and doctest starts from: NumPy under its usual name, and no node of the engine left alive."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from hypothesis import settings

from minimeta import ops
from minimeta.autodiff import Node

settings.register_profile("default", deadline=None, derandomize=True)
settings.load_profile("default")


def live_nodes() -> int:
    """How many nodes of the engine exist right now."""
    return sum(type(thing) is Node for thing in gc.get_objects())


@pytest.fixture(autouse=True)
def no_leaked_nodes():
    """Graphs die by reference count: no test may leave a node behind, and none may need the garbage collector."""
    before = live_nodes()
    yield
    assert live_nodes() == before, "the test left nodes of the engine alive"


@pytest.fixture(autouse=True)
def _names_in_doctests(doctest_namespace):
    doctest_namespace["np"] = np
    doctest_namespace["ops"] = ops
