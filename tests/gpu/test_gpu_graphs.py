"""Steps recorded as CUDA graphs: runs are the same as without, and what no graph can hold is refused by its name."""

import gc
import json
import signal
from functools import partial

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import minimeta_kernels
from minimeta import backend, checkpoint, learners, ops, replay, tree
from minimeta.cli import main
from minimeta.data import EpisodeSampler, SequenceSampler, glyphs
from minimeta.experiment import load_recipe
from minimeta.replay import RecordingError, Replay, record
from minimeta.training import Settings, train
from minimeta_kernels.registry import is_recordable
from tests import device_graphs
from tests.gpu.devices import at_work
from tests.gpu.test_gpu_training import Watched

few = settings(max_examples=15, deadline=None, database=None, suppress_health_check=list(HealthCheck))

SETTINGS = {"steps": 8, "tasks": 2, "validate_every": 4, "validation_episodes": 2, "log_every": 3, "lr": 0.01}
SMALL = {"size": 8, "filters": 2, "blocks": 1}
MEMORY = {"size": 8, "hidden": 5, "rows": 4, "width": 3, "way": 3}
#: Learner, hyper-parameters, settings: each optimizer, both kinds of schedule, chunks, clipping, running statistics.
CASES = {
    "prototypical": ("prototypical", SMALL, {"schedule": "cosine"}),
    "prototypical by SGD": ("prototypical", SMALL, {"optimizer": "sgd", "schedule": "linear", "chunk": 1}),
    "maml": ("maml", {"size": 8, "filters": 2, "way": 3, "inner_steps": 2}, {"optimizer": "rmsprop", "steps": 5}),
    "matching-fce": ("matching-fce", {**SMALL, "reads": 2}, {"optimizer": "momentum", "clip_norm": 0.1}),
    "mann": ("mann", MEMORY, {"clip_norm": 1.0, "schedule": "cosine"}),
    "relation": ("relation", {"size": 28, "filters": 2}, {"tasks": 1, "steps": 3}),
    "meta-networks": ("meta-networks", {"size": 9, "filters": 2, "way": 3, "chunks": 2}, {"tasks": 1, "steps": 3}),
}


def episodes(part, size=8):
    return EpisodeSampler(glyphs.load(part, classes=12, size=size), 3, 2, 2, shuffle_support=True)


def run(folder, name="prototypical", graph=True, resume=False, drawn=None, **changes):
    """The log without its clock, and the arrays of the last state and of the best model."""
    kind, hyper, own = CASES[name]
    learner, chosen = learners.make(kind, **hyper), Settings(**{**SETTINGS, **own, **changes})
    drawn = drawn or episodes("train", learner.size)
    train(learner, drawn, episodes("val", learner.size), chosen, folder, resume=resume, device="cupy", graph=graph)
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    saved = [checkpoint.load(folder / f"{name}.safetensors")[0] for name in ("state", "model")]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in log], saved


def assert_same(found, expected):
    for a, b in zip(found[0], expected[0], strict=True):
        assert a == pytest.approx(b, rel=1e-4, abs=1e-6)
    for (path, a), (_, b) in zip(tree.items(found[1]), tree.items(expected[1]), strict=True):
        assert a.dtype == b.dtype, path
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4, err_msg="/".join(path))


@pytest.mark.parametrize("name", CASES)
def test_a_recorded_run_is_the_run(device, tmp_path, name):
    assert_same(run(tmp_path / "recorded", name), run(tmp_path / "plain", name, graph=False))


@pytest.mark.parametrize("recorded", [(True, True), (False, True), (True, False)])
def test_a_resumed_run_is_one_run(device, tmp_path, recorded):
    whole = run(tmp_path / "whole", steps=8, validate_every=2)
    run(tmp_path / "parts", graph=recorded[0], steps=8, validate_every=2, drawn=Interrupting(5))
    assert checkpoint.load(tmp_path / "parts/state.safetensors")[1]["step"] == 5
    assert_same(run(tmp_path / "parts", graph=recorded[1], steps=8, validate_every=2, resume=True), whole)


class Interrupting:
    """Episodes; the user presses Ctrl-C in the midst of the step of that number."""

    def __init__(self, step):
        self.episodes, self.first = episodes("train"), (step - 1) * SETTINGS["tasks"]

    def batch(self, first, tasks):
        if first == self.first:
            signal.raise_signal(signal.SIGINT)
        return self.episodes.batch(first, tasks)


@pytest.mark.parametrize("most", [1, replay.MOST_FORMS])
def test_sequences_of_any_length_are_recorded_each_and_further_ones_are_not(device, tmp_path, monkeypatch, most):
    found, recorded = [], []
    monkeypatch.setattr(replay, "MOST_FORMS", most)
    monkeypatch.setattr(replay, "record", lambda work: recorded.append(work) or record(work))
    for graph in (True, False):
        learner = learners.make("ntm", way=0, bits=2, hidden=4, rows=3, width=2)
        drawn = SequenceSampler("copy", 3, bits=2, varied=True)
        folder = tmp_path / str(graph)
        train(learner, drawn, drawn, Settings(**SETTINGS), folder, device="cupy", graph=graph)
        log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        found.append([line.get("loss", line.get("val_bit_error")) for line in log])
    assert found[0] == pytest.approx(found[1], rel=1e-4)
    assert len(recorded) == min(most, len({drawn.batch(2 * step, 2).mask.shape for step in range(8)}))


def decayed(carried, task, numbers):
    """A step like an optimizer's: it has a mean over what it saw, a number of its own, and takes two."""
    rate, decay = numbers
    mean = decay * carried["mean"] + (1 - decay) * ops.mean(task["x"], axis=0) * task["times"]
    w = carried["w"] - rate * mean
    return {"w": w, "mean": mean, "count": carried["count"]}, {"size": ops.sum(w * w), "seven": 7}


steps = st.lists(
    st.tuples(st.integers(1, 3), st.integers(1, 2), st.floats(-2, 2), st.floats(0, 1)), min_size=1, max_size=8
)


@few
@given(steps=steps, dtype=st.sampled_from(["float32", "float64"]))
def test_a_replay_is_its_step(device, steps, dtype):
    """Whatever changes from call to call: the task, its shape and numbers of its own, the numbers of the step."""
    rng = np.random.default_rng(0)
    expected = {"w": rng.normal(size=3).astype(dtype), "mean": np.zeros(3, dtype), "count": 0}
    found, replayed, measured = device.put(expected), Replay(decayed, "cupy"), []
    for count, (rows, times, *numbers) in enumerate(steps, 1):
        task = {"x": rng.normal(size=(rows, 3)).astype(dtype), "times": times}
        expected, results = decayed({**expected, "count": count}, task, [np.dtype(dtype).type(n) for n in numbers])
        found, there = replayed({**found, "count": count}, device.put(task), numbers)
        measured.append((there, results))
        device.assert_close(found, expected, 1e-5)
    for there, results in measured:  # whenever they are read
        assert backend.floats(there) == pytest.approx(backend.floats(results), rel=1e-4, abs=1e-6)
    assert len(replayed.graphs) == len({(rows, times) for rows, times, *_ in steps})


def test_a_state_of_ones_own_is_gone_on_from(device):
    """Not only the one that the last call gave back."""
    replayed = Replay(decayed, "cupy")
    start = device.put({"w": np.ones(2), "mean": np.zeros(2), "count": 0})
    task = device.put({"x": np.ones((1, 2)), "times": 1})
    first = backend.asnumpy(replayed(start, task, (0.1, 0.5))[0])
    again, _ = replayed(start, task, (0.1, 0.5))
    device.assert_close(again, {**first, "count": 0}, 1e-12)
    replayed(start, device.put({"x": np.zeros((1, 2)), "times": 1}), (0.1, 0.5))
    device.assert_close((start, task["x"]), ({"w": np.ones(2), "mean": np.zeros(2), "count": 0}, np.ones((1, 2))), 0)


def test_a_recorded_step_copies_its_episode_and_nothing_else(device, tmp_path):
    with device.copies_to_device() as copied:
        watched = Watched(copied, episodes("train"))
        run(tmp_path / "run", drawn=watched, validate_every=8)
    assert np.diff(watched.notes)[1:].tolist() == [4] * 6


def test_what_gets_ready_runs_by_the_kernels_that_are_recorded(device):
    seen = []
    record(lambda: seen.append((is_recordable(), gc.isenabled())))()
    assert seen == [(True, False)] * 3
    assert (is_recordable(), gc.isenabled()) == (False, True)


def test_many_arrays_are_joined(device):
    arrays = [np.full((2, 1), i, np.float32) for i in range(20)]
    there = device.put(arrays)
    replayed = record(lambda: (ops.concatenate(there, axis=1), ops.stack(there, axis=-1), ops.stack(there)))
    device.assert_close(replayed(), (np.concatenate(arrays, 1), np.stack(arrays, -1), np.stack(arrays)), 0)


def looks(x):
    return float(x[0, 0]) * x


def brings(x):
    return x + backend.module("cupy").asarray(np.ones((2, 2), np.float32))


def by_cublas(x):
    return x @ x


def counts(x):
    return x[x > 0]


@pytest.mark.parametrize(
    ("work", "reason"), [(looks, "capturing"), (brings, "capturing"), (by_cublas, "cuBLAS"), (counts, "capturing")]
)
def test_what_stands_in_the_way_is_named(device, work, reason):
    x = device.put(np.ones((2, 2), np.float32))
    with pytest.raises(RecordingError, match=f"cannot be recorded as a CUDA graph: .*{reason}.*"):
        record(partial(work, x))
    replayed = record(lambda: 2 * x)  # and the device is as before
    device.assert_close(replayed(), np.full((2, 2), 2, np.float32), 0)


def test_the_place_is_named(device):
    x = device.put(np.ones((2, 2), np.float32))
    with pytest.raises(RecordingError, match=r"capturing.* \(in backend.py, line \d+, move\)"):
        record(lambda: device.put([np.ones(2), x]))
    with pytest.raises(RecordingError, match=r"cuBLAS.* \(in matmul.py, line \d+, matmul\)"):
        record(lambda: ops.matmul(x, x[0]))


@pytest.mark.parametrize("change", [lambda w: w.astype("float64"), lambda w: w[:1], lambda w: 1.0])
def test_a_state_has_to_keep_its_form(device, change):
    replayed = Replay(lambda carried, task, numbers: ({"w": change(carried["w"])}, 1.0), "cupy")
    with pytest.raises(RecordingError, match=r"w goes from \(\(2,\), 'float32'\) to .* in a step"):
        replayed({"w": device.put(np.ones(2, np.float32))}, (), ())


def test_a_learner_that_counts_on_the_host_is_refused(device, tmp_path):
    learner = learners.make("reptile", way=3, size=8, filters=2)
    with pytest.raises(ValueError, match="Reptile counts running/step on the host"):
        train(learner, episodes("train"), episodes("val"), Settings(), tmp_path / "run", device="cupy", graph=True)
    assert not (tmp_path / "run").exists()


def test_only_a_gpu_records(tmp_path, capsys):
    with pytest.raises(ValueError, match="a graph on device 'numpy'"):
        train(learners.make("prototypical"), None, None, Settings(), tmp_path / "run", graph=True)
    assert main(["train", "--graph", "--data-dir", "nowhere", "--out", str(tmp_path / "run")]) == 2
    assert "error: graph with backend='numpy': only 'cupy' records CUDA graphs" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_command_records(device, tmp_path):
    flags = ["--steps", "4", "--way", "3", "--query", "2", "--backend", "cupy", "--out", str(tmp_path / "run")]
    small = ("size=8", "blocks=1", "filters=2", "validation_episodes=2", "test_episodes=2", "log_every=2")
    flags += [part for value in small for part in ("--set", value)]
    assert main(["train", *flags, "--graph"]) == 0
    assert load_recipe(tmp_path / "run").graph
    assert main(["train", "--resume", "--steps", "6", "--no-graph", "--out", str(tmp_path / "run")]) == 0
    assert not load_recipe(tmp_path / "run").graph


def test_replays_take_no_more_memory_and_leave_none():
    with at_work("double") as double:
        before = device_graphs.alive()
        replayed = Replay(decayed, "cupy")
        carried = double.put({"w": np.ones(2), "mean": np.zeros(2), "count": 0})
        counted = []
        for i in range(6):
            carried, results = replayed(carried, double.put({"x": np.full((1, 2), i), "times": 1}), (0.1, 0.5))
            counted.append(device_graphs.alive())
        assert len(set(counted[1:])) == 1
        del replayed, carried, results
        assert device_graphs.alive() == before


def test_too_little_memory_is_an_error_of_its_own(monkeypatch):
    with at_work("double") as double:
        x = double.put(np.ones(100))
        monkeypatch.setattr(device_graphs, "free_bytes", 500)
        with pytest.raises(MemoryError, match="no 800 bytes more on the GPU"):
            record(lambda: x * 2)


def test_kernels_that_cuda_lacks_are_recorded_from_those_it_has(device):
    rng = np.random.default_rng(0)
    shapes = ((5, 2), (5, 3), (3, 4), 4, (4, 3), 3, (3, 2), 2)
    arrays = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    assert "cuda" not in minimeta_kernels.registry._table["mlp_vjp"]
    replayed = record(partial(minimeta_kernels.call, "mlp_vjp", *device.put(arrays)))
    device.assert_close(replayed(), minimeta_kernels.call("mlp_vjp", *arrays), 1e-4)
