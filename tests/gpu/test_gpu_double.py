"""The double refuses what CuPy refuses, counts what CuPy copies, and leaves out nothing that CuPy has."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

import minimeta
from minimeta import Tensor
from tests.device_double import TO_DEVICE, TO_HOST, Array, TransferError, copies, forbidden, xp
from tests.gpu.devices import at_work


def test_no_numpy_array_gets_in_or_out_unseen():
    x = xp.ones(3)
    for call in (
        lambda: np.asarray(x), lambda: x + np.ones(3), lambda: np.ones(3) + x, lambda: xp.add(x, np.ones(3)),
        lambda: np.where(x > 0, np.ones(3), x), lambda: xp.matmul(x, np.ones(3)), lambda: range(xp.asarray(2)),
    ):  # fmt: skip
        with pytest.raises(TypeError):
            call()
    assert type(np.sum(x)) is type(np.add(x, 1.0)) is type(2.0 * x) is type(np.float32(2) * x) is Array


def test_a_tensor_has_its_turn():
    with at_work("double"):
        x, t = xp.ones((2, 2)), Tensor(xp.ones((2, 2)))
        assert [type(value) for value in (x + t, x @ t, t - x, x < t)] == [Tensor, Tensor, Tensor, Array]


@pytest.mark.parametrize(
    ("way", "call"),
    [
        (TO_HOST, lambda x: bool(x[0] > 0)), (TO_HOST, lambda x: float(x[0])), (TO_HOST, lambda x: int(x[0])),
        (TO_HOST, lambda x: x.get()), (TO_HOST, lambda x: x.tolist()), (TO_HOST, lambda x: x[0].item()),
        (TO_HOST, lambda x: x[x > 0]), (TO_HOST, lambda x: x.__setitem__(x > 0, 1.0)), (TO_HOST, lambda x: x.nonzero()),
        (TO_HOST, lambda x: xp.where(x > 0)), (TO_HOST, lambda x: xp.bincount(x.astype(int))),
        (TO_DEVICE, lambda x: xp.asarray(np.ones(2))), (TO_DEVICE, lambda x: xp.asarray(1.0)),
        (TO_DEVICE, lambda x: x[[0, 1]]), (TO_DEVICE, lambda x: x[np.array([0])]),
    ],
)  # fmt: skip
def test_copies_are_counted_and_can_be_forbidden(way, call):
    x, before = xp.ones(3), copies[way]
    call(x)
    assert copies[way] == before + 1
    with forbidden(way), pytest.raises(TransferError, match=way):
        call(x)


def test_it_does_as_cupy_where_numpy_does_otherwise():
    x = xp.arange(3.0)
    assert x[xp.asarray([3, -4])].tolist() == [0.0, 2.0]  # wraps round
    x[xp.asarray([0, 0])] = xp.asarray([5.0, 6.0])
    assert float(x[0]) == 5.0  # not the last
    assert np.isnan(xp.linalg.solve(xp.zeros((2, 2)), xp.ones((2, 1))).get()).all()
    with pytest.raises(ValueError, match="must have"):
        xp.linalg.solve(xp.ones((3, 1, 1)), xp.ones((1, 1)))
    with pytest.raises(TypeError, match="int64"):
        xp.add.at(xp.zeros(2, int), xp.asarray([0]), 1)
    assert xp.ones(3).sum().shape == ()


def used_names():
    """What the package asks of an array module."""
    package = Path(minimeta.__file__).parent
    roots = [package, package.parent / "kernels/minimeta_kernels/reference"]
    texts = [path.read_text() for root in roots for path in root.rglob("*.py")]
    return sorted({name for text in texts for name in re.findall(r"\bxp\.((?:linalg\.)?\w+)", text)})


@pytest.mark.skipif(importlib.util.find_spec("cupy") is None, reason="CuPy is not installed")
def test_cupy_has_what_is_asked_of_it():
    import cupy

    elsewhere = {"linalg.diagonal", "concat"}  # of the array standard, behind `hasattr`
    missing = [name for name in used_names() if not _has(cupy, name)]
    assert set(missing) <= elsewhere
    methods = {name for name in vars(Array) if not name.startswith("__")} - {"host"}
    assert [name for name in sorted(methods) if not hasattr(cupy.ndarray, name)] == []


def _has(module, name):
    for part in name.split("."):
        if not hasattr(module, part):
            return False
        module = getattr(module, part)
    return True
