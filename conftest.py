"""What every test and doctest starts from: NumPy under its usual name, and no node of the engine left alive."""

from __future__ import annotations

import gc
import importlib.util
import os

# Before NumPy loads BLAS: on a busy machine two BLAS threads spend their time waiting for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest

import minimeta
from minimeta import ops
from minimeta.autodiff import Node

if importlib.util.find_spec("hypothesis"):  # tests/null runs without it
    from hypothesis import settings

    settings.register_profile("default", deadline=None, derandomize=True)
    settings.load_profile("default")


def count_live_nodes() -> int:
    """How many nodes of the engine exist right now that this test has made."""
    return sum(type(thing) is Node for thing in gc.get_objects())


@pytest.fixture(name="live_nodes")
def _live_nodes():
    """The function that counts the nodes of the engine."""
    return count_live_nodes


@pytest.fixture(autouse=True)
def no_leaked_nodes():
    """Graphs die by reference count: no test may leave a node behind, and none may need the garbage collector."""
    gc.collect()
    gc.freeze()  # what there is by now is not looked at again: looking through all of it took longer than most tests
    yield
    assert count_live_nodes() == 0, "the test left nodes of the engine alive"


@pytest.fixture(autouse=True)
def _names_in_doctests(doctest_namespace):
    doctest_namespace["np"] = np
    doctest_namespace["ops"] = ops
    doctest_namespace["minimeta"] = minimeta
