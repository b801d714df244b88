"""The double refuses what CuPy refuses, counts what CuPy copies, and leaves out nothing that CuPy has."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

import minimeta
from minimeta import Tensor
from tests import device_graphs
from tests.device_double import TO_DEVICE, TO_HOST, Array, TransferError, copies, forbidden, xp
from tests.device_graphs import DeviceError
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
    first = x[0]
    x.fill(8.0)
    assert float(first) == 8.0  # a view


class Captured:
    """The graph of some work, recorded as it should be, and the pool that it works in; or not quite."""

    def __init__(self, work, pool=None):
        cuda = xp.cuda
        cuda.Device().synchronize()
        self.pool, stream = pool or cuda.MemoryPool(), cuda.Stream(non_blocking=True)
        with cuda.using_allocator(self.pool.malloc), stream:
            stream.begin_capture()
            self.result = work()
            self.graph = stream.end_capture()


def test_what_is_captured_happens_when_it_is_launched():
    x, out = xp.arange(3.0), xp.zeros(3)
    made = Captured(lambda: (xp.multiply(2.0 * x, 1.0), (x + 1)[1:].T))
    assert np.isnan(made.result[0].get()).all()
    for start in (0.0, 5.0):
        x.fill(start)
        made.graph.launch()
        assert [found.tolist() for found in made.result] == [[2 * start] * 3, [start + 1] * 2]
    changed = Captured(lambda: (out.__setitem__(1, x[0]), out.__iadd__(1.0), xp.copyto(out[:1], x[:1])))
    assert out.tolist() == [0, 0, 0]
    changed.graph.launch()
    changed.graph.launch()
    assert out.tolist() == [5, 6, 2]


def test_numbers_are_those_of_the_capture():
    x, rate = xp.ones(1), 2.0
    made = Captured(lambda: rate * x)
    rate = 3.0
    made.graph.launch()
    assert made.result.tolist() == [2.0]


@pytest.mark.parametrize(
    ("reason", "call"),
    [
        ("D2H", lambda x: float(x[0])), ("D2H", lambda x: x[x > 0]), ("H2D", lambda x: xp.asarray(np.ones(2))),
        ("H2D", lambda x: x[[0, 1]]), ("H2D", lambda x: xp.concatenate([x] * 9)), ("cuBLAS", lambda x: x @ x),
        ("cuBLAS", lambda x: xp.einsum("i,i", x, x)), ("cuSOLVER", lambda x: xp.linalg.inv(x[:, None])),
        ("CaptureUnsupported", lambda x: xp.cuda.get_current_stream().synchronize()),
    ],
)  # fmt: skip
def test_no_stream_captures_what_cupy_refuses(reason, call):
    x, refused = xp.ones(2), []

    def work():
        with pytest.raises(RuntimeError, match=reason):
            call(x)
        refused.append(reason)

    Captured(work)
    assert refused


def test_faults_that_a_gpu_may_hide_are_errors():
    x = xp.ones(3)
    with pytest.raises(RuntimeError, match="default"):
        xp.cuda.get_current_stream().begin_capture()
    with pytest.raises(DeviceError, match="others will be given too"):
        Captured(lambda: 2 * x, device_graphs.default_pool)
    freed = Captured(lambda: [xp.ones(3)][0] + x)
    freed.graph.launch()  # of its own memory
    gone = [xp.ones(3)]
    freed = Captured(lambda: gone.pop() + x)
    with pytest.raises(DeviceError, match="that was freed"):
        freed.graph.launch()
    made = Captured(lambda: 2 * x)
    with pytest.raises(DeviceError, match="handed out again"):
        Captured(lambda: 3 * x, made.pool)
    del made.pool
    with pytest.raises(DeviceError, match="whose pool is gone"):
        made.graph.launch()
    with pytest.raises(DeviceError, match="memory of a pool that is gone"):
        made.result + 1


def test_streams_that_do_not_wait_for_each_other_are_errors():
    x, other = xp.ones(3), xp.cuda.Stream(non_blocking=True)
    with other, pytest.raises(DeviceError, match="may be working on"):
        x + 1
    xp.cuda.Device().synchronize()
    with other:
        x + 1  # which both may read
    x + 1
    with pytest.raises(DeviceError, match="may be working on"):
        x += 1
    other.synchronize()
    x += 1


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
