"""The array's type decides; nothing is imported unasked; a missing GPU is said plainly."""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace

import array_api_strict
import numpy as np
import pytest

from minimeta import Tensor, backend, grad, ops
from tests import device_double
from tests.gpu.devices import at_work


def test_the_namespace_is_that_of_the_arrays_and_numbers_belong_to_any():
    strict = array_api_strict.ones(2)
    assert backend.namespace(np.ones(2), 1.0) is np
    assert backend.namespace(np.float32(1)) is np
    assert backend.namespace(np.float32(1), strict) is strict.__array_namespace__()
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
    with pytest.raises(RuntimeError, match=r"'cupy' needs CuPy, which is not installed: pip install 'minimeta\[cuda13"):
        backend.to_device({"x": np.ones(2)}, "cupy")


@pytest.fixture
def cupy():
    """Not the real one."""
    with at_work("double"):
        backend._check.cache_clear()
        yield device_double.xp
    backend._check.cache_clear()


def test_cupy_without_a_gpu_says_so(cupy, monkeypatch):
    monkeypatch.setattr(cupy.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match="'cupy' needs a CUDA GPU, and CuPy finds none"):
        backend.to_device(np.ones(2), "cupy")


@pytest.mark.parametrize(("version", "works"), [("13.6", 0), ("14.0.0", 0), ("14.0.1", 1), ("14.1.0", 0), ("15.0", 1)])
def test_versions_of_cupy_that_do_not_work_are_refused(cupy, monkeypatch, version, works):
    monkeypatch.setattr(cupy, "__version__", version)
    if works:
        assert backend.module("cupy") is cupy
        return
    with pytest.raises(RuntimeError, match=f"needs CuPy 14.0.1 or later but 14.1.0, found {version}: pip install"):
        backend.module("cupy")


@pytest.mark.parametrize("error", [RuntimeError, ImportError])
def test_missing_libraries_of_cuda_are_named(cupy, monkeypatch, error):
    def fail(*args):
        raise error("Failure finding libcublas")

    monkeypatch.setattr(cupy, "matmul", fail, raising=False)
    with pytest.raises(RuntimeError, match=r"lacks a part of CUDA \(Failure finding libcublas\): pip install"):
        backend.module("cupy")


def test_trees_go_to_the_device_and_back(cupy):
    there = backend.to_device({"w": np.ones(2), "t": Tensor(np.zeros(3))}, "cupy")
    assert {type(leaf) for leaf in there.values()} == {cupy.ndarray}
    assert backend.namespace(there["w"]) is cupy
    back = backend.asnumpy(there)
    assert (back["w"].tolist(), back["t"].tolist()) == ([1.0, 1.0], [0.0] * 3)


def test_numbers_stay_on_the_host(cupy):
    numbers = [2.0, 3, np.float32(1.5), None]
    assert backend.to_device(numbers, "cupy") == numbers
    x = backend.to_device(np.ones(2), "cupy")
    assert backend.namespace(x, *numbers) is cupy


def test_numbers_are_read_in_one_copy(cupy):
    values = {"loss": cupy.ones((), dtype="float32"), "accuracy": [cupy.full((), 0.1), 2.5, np.float32(0.1)]}
    before = device_double.copies[device_double.TO_HOST]
    assert backend.floats(values) == {"loss": 1.0, "accuracy": [0.1, 2.5, float(np.float32(0.1))]}
    assert device_double.copies[device_double.TO_HOST] == before + 1


def test_constants_are_moved_once(cupy):
    x, before = cupy.ones(1), device_double.copies[device_double.TO_DEVICE]
    first, again, other = (backend.constant(x, np.arange, 3 + i // 2) for i in range(3))
    assert first is again
    assert (first.get().tolist(), len(other)) == ([0, 1, 2], 4)
    assert device_double.copies[device_double.TO_DEVICE] == before + 2
    assert type(backend.constant(np.ones(1), np.arange, 3)) is np.ndarray


def test_a_tensor_on_a_device_does_not_become_a_numpy_array_by_itself(cupy):
    with pytest.raises(TypeError, match=r"its array is on a device; minimeta\.backend\.asnumpy copies it"):
        np.asarray(Tensor(cupy.ones(2)))


def test_numpy_among_the_arrays_of_a_device_is_named(cupy):
    for operation in (ops.add, ops.matmul, ops.equal, ops.maximum):
        for x, y in ((np.ones((2, 2)), cupy.ones((2, 2))), (cupy.ones((2, 2)), Tensor(np.ones((2, 2))))):
            with pytest.raises(TypeError, match=r"arrays of (numpy and cupy|cupy and numpy) are mixed; bring them"):
                operation(x, y)


def test_numbers_are_differentiated_beside_arrays_of_a_device(cupy):
    for number in (2.0, np.float64(2)):
        gradient = grad(lambda v: (v["t"] * v["w"] ** 2).sum())({"w": cupy.full(2, 3.0), "t": number})
        assert [type(leaf) for leaf in gradient.values()] == [cupy.ndarray] * 2
        assert (gradient["w"].tolist(), gradient["t"].tolist()) == ([12.0, 12.0], 18.0)


def test_synchronize_waits_for_arrays_of_the_device_alone(cupy, monkeypatch):
    waits = []
    stream = SimpleNamespace(synchronize=lambda: waits.append(1))
    monkeypatch.setattr(cupy.cuda, "get_current_stream", lambda: stream)
    backend.synchronize(np.ones(2), 1.0)
    assert waits == []
    backend.synchronize(cupy.ones(2))
    assert waits == [1]


def test_gradients_stay_in_the_module_of_their_arguments():
    x = array_api_strict.ones(2)
    assert type(grad(lambda x: (x * x).sum())(x)) is type(x)
