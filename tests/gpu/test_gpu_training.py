"""Whole runs and commands on the device: as on NumPy, a copy of each episode's arrays a step, and few reads."""

import json

import numpy as np
import pytest

from minimeta import learners
from minimeta.data import EpisodeSampler, glyphs
from minimeta.evaluation import OnDevice, evaluate
from minimeta.training import DivergedError, Settings, train
from tests import device_double
from tests.gpu.devices import at_work

SETTINGS = {"tasks": 2, "validate_every": 8, "validation_episodes": 4, "log_every": 4, "lr": 0.01}


class Watched:
    """Episodes that note at each step what `count` says."""

    def __init__(self, count):
        self.episodes, self.count, self.notes = episodes("train"), count, []

    def batch(self, first, tasks):
        self.notes.append(self.count())
        return self.episodes.batch(first, tasks)


def episodes(part):
    return EpisodeSampler(glyphs.load(part, classes=12, size=16), 3, 2, 2, shuffle_support=True)


def run(folder, name="prototypical", drawn=None, device="cupy", resume=False, steps=8, **hyper):
    learner = learners.make(name, **{"size": 16, "filters": 3, **hyper})
    settings = Settings(steps=steps, **SETTINGS)
    outcome = train(
        learner, drawn or episodes("train"), episodes("val"), settings, folder, device=device, resume=resume
    )
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return outcome, [{name: value for name, value in line.items() if name != "seconds"} for line in log]


def assert_close_logs(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert a == pytest.approx(b, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", ["prototypical", "reptile"])
def test_a_run_is_that_on_numpy(device, tmp_path, name):
    more = {"way": 3, "inner_batch": 4} if name == "reptile" else {}
    _, expected = run(tmp_path / "numpy", name, device="numpy", **more)
    _, found = run(tmp_path / "device", name, **more)
    assert_close_logs(found, expected)


def test_a_resumed_run_is_one_run(device, tmp_path):
    _, expected = run(tmp_path / "whole")
    run(tmp_path / "parts", steps=5)
    _, found = run(tmp_path / "parts", resume=True)
    assert_close_logs([line for line in found if "loss" in line], [line for line in expected if "loss" in line])


def test_a_step_copies_its_episode_and_nothing_else(device, tmp_path):
    with device.copies_to_device() as copied:
        watched = Watched(copied)
        run(tmp_path / "run", drawn=watched)
    assert np.diff(watched.notes).tolist() == [4] * 7


def test_the_host_reads_once_for_a_line_of_the_log(tmp_path):
    with at_work("double"):
        watched = Watched(lambda: device_double.copies[device_double.TO_HOST])
        run(tmp_path / "run", drawn=watched)
    assert np.diff(watched.notes).tolist() == [0, 0, 0, 1, 0, 0, 0]


def test_a_diverged_run_names_the_step(device, tmp_path):
    class Spoiled(Watched):
        def batch(self, first, tasks):
            batch = super().batch(first, tasks)
            return batch._replace(xq=batch.xq * np.float32(np.nan)) if first == 2 * 5 else batch

    with pytest.raises(DivergedError, match="step 6: the loss is nan"):
        run(tmp_path / "run", drawn=Spoiled(int))


def test_labels_are_looked_at_before_they_go(device):
    class Wrong(Watched):
        def batch(self, first, tasks):
            batch = super().batch(first, tasks)
            return batch._replace(yq=batch.yq + 1)

    with pytest.raises(ValueError, match="labels yq reach from 1 to 3; need 0 <= label < 3"):
        OnDevice(Wrong(int), "cupy").batch(0, 1)


def test_an_evaluation_is_that_on_numpy(device):
    learner = learners.make("prototypical", size=16, filters=3)
    params = learner.init(np.random.default_rng(0))
    found = evaluate(learner, device.put(params), OnDevice(episodes("test"), "cupy"), 6)
    expected = evaluate(learner, params, episodes("test"), 6)
    assert found.mean == pytest.approx(expected.mean)
