"""The array's type decides; nothing is imported unasked; a missing GPU is said plainly."""

from __future__ import annotations

import importlib.util
import sys
from types import SimpleNamespace

import array_api_strict
import numpy as np
import pytest

from minimeta import Tensor, backend, grad, ops


def test_the_namespace_is_that_of_the_arrays_and_numbers_belong_to_any():
    strict = array_api_strict.ones(2)
    assert backend.namespace(np.ones(2), 1.0) is np
    assert backend.namespace(np.float32(1)) is np
    assert backend.namespace(2.0, None, [1]) is np
    assert backend.namespace(1.0, strict) is backend.namespace(strict) is strict.__array_namespace__()


def test_mixed_modules_are_an_error_with_the_way_out():
    message = "arrays of numpy and array_api_strict are mixed; bring them together with minimeta.backend.to_device"
    with pytest.raises(TypeError, match=message):
        backend.namespace(np.ones(2), array_api_strict.ones(2))
    with pytest.raises((TypeError, ValueError), match="mixed"):
        ops.concatenate([np.ones(2), array_api_strict.ones(2)])


def test_asnumpy_gives_host_arrays_for_every_leaf():
    host = backend.asnumpy({"n": 1.5, "a": np.ones(2), "t": [Tensor(np.zeros(3))], "none": None})
    assert [type(leaf) for leaf in (host["n"], host["a"], host["t"][0])] == [np.ndarray] * 3
    assert host["none"] is None


def test_asnumpy_asks_device_arrays_for_their_host_copy():
    assert backend.asnumpy([SimpleNamespace(get=lambda: np.arange(3))])[0].tolist() == [0, 1, 2]


def test_to_device_numpy_keeps_what_is_there():
    x = np.ones(2)
    assert backend.to_device({"x": x}, "numpy")["x"] is x


def test_unknown_devices_are_listed():
    with pytest.raises(ValueError, match="unknown device 'tpu'; choose one of numpy, cupy"):
        backend.to_device({}, "tpu")


@pytest.mark.skipif(importlib.util.find_spec("cupy") is not None, reason="CuPy is installed")
def test_without_cupy_the_error_says_so():
    with pytest.raises(RuntimeError, match="'cupy' needs CuPy, which is not installed"):
        backend.to_device({"x": np.ones(2)}, "cupy")


class FakeCuPy(SimpleNamespace):
    """As much of CuPy as the backend touches: arrays that live 'elsewhere'."""

    class ndarray:  # noqa: N801
        def __init__(self, host):
            self.host = host

        def get(self):
            return self.host

    ndarray.__module__ = "cupy"

    def asarray(self, leaf):
        return leaf if isinstance(leaf, self.ndarray) else self.ndarray(np.asarray(leaf))


@pytest.fixture
def fake_cupy(monkeypatch):
    waits = []
    stream = SimpleNamespace(synchronize=lambda: waits.append(1))
    cuda = SimpleNamespace(is_available=lambda: True, get_current_stream=lambda: stream)
    fake = FakeCuPy(cuda=cuda, waits=waits, __name__="cupy")
    monkeypatch.setitem(sys.modules, "cupy", fake)
    monkeypatch.setattr(backend, "NAMESPACES", dict(backend.NAMESPACES))
    return fake


def test_cupy_without_a_gpu_says_so(fake_cupy):
    fake_cupy.cuda.is_available = lambda: False
    with pytest.raises(RuntimeError, match="'cupy' needs a CUDA GPU, and CuPy finds none"):
        backend.to_device(np.ones(2), "cupy")


def test_trees_go_to_the_device_and_back(fake_cupy):
    there = backend.to_device({"w": np.ones(2), "t": Tensor(np.zeros(3))}, "cupy")
    assert {type(leaf) for leaf in there.values()} == {FakeCuPy.ndarray}
    assert backend.namespace(there["w"]) is fake_cupy
    back = backend.asnumpy(there)
    assert (back["w"].tolist(), back["t"].tolist()) == ([1.0, 1.0], [0.0] * 3)


def test_numbers_stay_on_the_host(fake_cupy):
    numbers = [2.0, 3, np.float32(1.5), None]
    assert backend.to_device(numbers, "cupy") == numbers
    x = backend.to_device(np.ones(2), "cupy")
    assert backend.namespace(x, *numbers) is fake_cupy


def test_synchronize_waits_for_cupy_arrays_alone(fake_cupy):
    backend.synchronize(np.ones(2), 1.0)
    assert fake_cupy.waits == []
    x = backend.to_device(np.ones(2), "cupy")
    backend.namespace(x)
    backend.synchronize(x)
    assert fake_cupy.waits == [1]


def test_gradients_stay_in_the_module_of_their_arguments():
    x = array_api_strict.ones(2)
    assert type(grad(lambda x: (x * x).sum())(x)) is type(x)
