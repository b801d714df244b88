"""Whole runs and commands on the device: as on NumPy, a copy of each episode's arrays a step, and few reads."""

import json

import numpy as np
import pytest
from PIL import Image

from minimeta import backend, learners
from minimeta.cli import main
from minimeta.data import EpisodeSampler, glyphs
from minimeta.evaluation import OnDevice, evaluate
from minimeta.training import DivergedError, Settings, train
from tests import device_double
from tests.gpu.devices import at_work

SETTINGS = {"tasks": 2, "validate_every": 8, "validation_episodes": 4, "log_every": 4, "lr": 0.01}


class Watched:
    """Episodes that note at each step what `count` says."""

    def __init__(self, count, drawn=None):
        self.episodes, self.count, self.notes = drawn or episodes("train"), count, []

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


SMALL = ("size=8", "blocks=1", "filters=2", "validation_episodes=4", "log_every=2")
FLAGS = ["--steps", "4", "--way", "3", "--query", "2", *(part for value in SMALL for part in ("--set", value))]


def command(*words):
    """A command that shall succeed."""
    assert main([str(word) for word in words]) == 0


def test_commands_of_a_trained_model(device, tmp_path, capsys):
    for place in ("numpy", "cupy"):
        folder = tmp_path / place
        command("train", "prototypical", *FLAGS, "--backend", place, "--out", folder)
    results = [json.loads((tmp_path / name / "results.json").read_text()) for name in ("numpy", "cupy")]
    assert [record["backend"] for record in results] == ["numpy", "cupy"]
    assert "gpu" in results[1]
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("numpy", "cupy")]
    losses = [[json.loads(line)["loss"] for line in log[:2]] for log in logs]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert results[1]["accuracy"] == pytest.approx(results[0]["accuracy"], abs=0.01)
    capsys.readouterr()
    for more, expected in (((), "cupy"), (("--backend", "numpy"), "numpy")):
        command("evaluate", folder, "--episodes", 5, "--json", *more)
        assert json.loads(capsys.readouterr().out)["backend"] == expected


def test_images_are_named_as_on_numpy(device, tmp_path, capsys):
    command("train", "prototypical", *FLAGS, "--out", tmp_path / "run")
    for name, images in zip("ab", glyphs.load("test", classes=2).images, strict=True):
        (tmp_path / "support" / name).mkdir(parents=True)
        for number, image in enumerate(images[:3]):
            Image.fromarray(255 - image[..., 0]).save(tmp_path / "support" / name / f"{number}.png")
    answers = []
    capsys.readouterr()
    for place in ("numpy", "cupy"):
        query = tmp_path / "support/a/2.png"
        words = ("predict", tmp_path / "run", "--support", tmp_path / "support", "--query", query, "--json")
        command(*words, "--backend", place)
        answers.append(json.loads(capsys.readouterr().out)[0])
    assert answers[0]["probabilities"] == pytest.approx(answers[1]["probabilities"], rel=1e-3, abs=1e-5)


def test_a_memory_is_drawn(device, tmp_path):
    flags = ["--steps", "2", "--set", "hidden=6", "--set", "rows=8", "--set", "width=4", "--shot", "2"]
    command("train", "ntm", "--data", "copy", *flags, "--backend", "cupy", "--out", tmp_path / "run")
    command("plot", "memory", tmp_path / "run", "--backend", "cupy", "--out", tmp_path / "there.png")
    assert (tmp_path / "there.png").stat().st_size > 0


def test_the_study_is_that_on_numpy(device, tmp_path, capsys):
    found = []
    for place in ("numpy", "cupy"):
        out = tmp_path / place
        command("study", "taylor", "--tasks", 4, "--json", "--backend", place, "--out", out)
        found.append(json.loads(capsys.readouterr().out))
    for part in ("coefficients", "residuals"):
        for name, values in found[0][part].items():
            assert found[1][part][name] == pytest.approx(values, rel=1e-6)
    assert [record["backend"] for record in found] == ["numpy", "cupy"]


def test_without_a_gpu_a_command_says_what_is_missing(monkeypatch, tmp_path, capsys):
    with at_work("double") as double:
        monkeypatch.setattr(double.xp.cuda, "is_available", lambda: False)
        backend._check.cache_clear()
        assert main(["train", "--backend", "cupy", "--out", str(tmp_path / "run")]) == 2
        assert "error: minimeta.backend: 'cupy' needs a CUDA GPU" in capsys.readouterr().err
        assert not (tmp_path / "run").exists()
        assert main(["doctor"]) == 0
        assert "'cupy' needs a CUDA GPU, and CuPy finds none" in capsys.readouterr().out
    backend._check.cache_clear()
