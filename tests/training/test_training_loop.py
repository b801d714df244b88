"""The training loop on the linear double: what it writes, keeps, refuses."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
from linear_run import Linear, episodes, settings

from minimeta import checkpoint, curve, optim
from minimeta.checkpoint import CheckpointError
from minimeta.evaluation import evaluate
from minimeta.learners.base import MetaGradient
from minimeta.run_folder import RunError, RunFolder
from minimeta.training import DivergedError, Settings, train


def run(folder, *, resume=False, learner=None, config=None, **changes):
    learner = learner or Linear()
    return train(
        learner, episodes("train"), episodes("val"), settings(**changes), folder, resume=resume, config=config
    )


def read_log(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_the_double_has_the_right_gradient():
    learner, episode, h = Linear(), episodes("train").batch(0, 3), 1e-5
    params = learner.init(np.random.default_rng(0))
    params["net"]["w"] = params["net"]["w"].astype(np.float64)
    episode = episode._replace(xs=episode.xs.astype(np.float64), xq=episode.xq.astype(np.float64))
    grads = learner.meta_grad(params, episode).grads["net"]["w"]
    for index in ((0, 0), (7, 3), (35, 7)):
        ends = []
        for sign in (1, -1):
            w = params["net"]["w"].copy()
            w[index] += sign * h
            ends.append(learner.meta_grad({**params, "net": {"w": w}}, episode).loss)
        assert grads[index] == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-3)


def test_a_run_learns_and_leaves_all_files(tmp_path):
    outcome = run(tmp_path / "run", config={"learner": "linear"})
    before = evaluate(Linear(), Linear().init(np.random.default_rng(0)), episodes("test"), 50)
    after = evaluate(Linear(), outcome.params, episodes("test"), 50)
    assert after.mean > before.mean + 3 * before.ci95
    assert {file.name for file in (tmp_path / "run").iterdir()} == {
        "config.json", "log.jsonl", "model.safetensors", "state.safetensors", "state.previous.safetensors",
    }  # fmt: skip
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert config["learner"] == "linear"
    assert Settings(**config["training"]) == settings()
    assert (outcome.step, outcome.interrupted) == (60, False)


def test_the_log_is_complete_and_the_loss_is_an_average_over_its_steps(tmp_path):
    run(tmp_path / "each", log_every=1)
    run(tmp_path / "some", log_every=4)
    each = [line for line in read_log(tmp_path / "each") if "loss" in line]
    some = [line for line in read_log(tmp_path / "some") if "loss" in line]
    assert [line["step"] for line in each] == list(range(1, 61))
    assert [line["step"] for line in some] == list(range(4, 61, 4))
    for line in some:
        window = each[line["step"] - 4 : line["step"]]
        for name in ("loss", "accuracy"):
            assert line[name] == pytest.approx(np.mean([one[name] for one in window]))
    assert [line["lr"] for line in each] == [optim.cosine(0.02)(step / 60) for step in range(60)]
    validations = [line["step"] for line in read_log(tmp_path / "some") if "val_accuracy" in line]
    assert validations == [*range(7, 60, 7), 60]


@dataclass(frozen=True)
class Peaking:
    """Counts its steps and is at its best after twelve of them."""

    def init(self, rng):
        return {"w": np.zeros((), np.float32)}

    def meta_grad(self, params, episode):
        return MetaGradient(1.0, {"accuracy": 0.5}, {"w": np.full((), -1, np.float32)})

    def adapt(self, params, xs, ys, n_way):
        return max(0, 20 - abs(12 - int(params["w"])))  # of the 20 queries, this many are known

    def predict(self, params, state, xq):
        right = np.eye(5)[np.arange(20) // 4]
        return np.repeat(np.where(np.arange(20)[:, None] < state, right, -right)[None], len(xq), axis=0)


PEAKING = {"learner": Peaking(), "optimizer": "sgd", "lr": 1.0, "schedule": "constant", "validate_every": 2}


def test_the_best_on_validation_is_kept(tmp_path):
    outcome = run(tmp_path / "run", **PEAKING, steps=30)
    scores = {line["step"]: line["val_accuracy"] for line in read_log(tmp_path / "run") if "val_accuracy" in line}
    assert scores == pytest.approx({step: max(0, 20 - abs(12 - step)) / 20 for step in range(2, 31, 2)})
    assert (outcome.best, outcome.best_step, outcome.step) == (1.0, 12, 30)
    values, record = checkpoint.load(tmp_path / "run/model.safetensors")
    assert outcome.params["w"] == values["w"] == 12
    assert (record["step"], record["val_accuracy"]) == (12, 1.0)
    state, _ = checkpoint.load(tmp_path / "run/state.safetensors")
    assert state["params"]["w"] == 30


def test_patience_ends_a_run_that_no_longer_improves(tmp_path):
    outcome = run(tmp_path / "run", **PEAKING, steps=10_000, patience=3)
    assert (outcome.best_step, outcome.step) == (12, 18)
    assert run(tmp_path / "run", **PEAKING, steps=10_000, patience=3, resume=True).step == 18


def test_a_resumed_run_remembers_its_best(tmp_path):
    run(tmp_path / "run", **PEAKING, steps=20)
    outcome = run(tmp_path / "run", **PEAKING, steps=30, resume=True)
    assert (outcome.best, outcome.best_step, outcome.step) == (1.0, 12, 30)
    assert outcome.params["w"] == 12


def test_running_statistics_are_merged_and_not_trained(tmp_path):
    outcome = run(tmp_path / "run", steps=14)
    assert outcome.params["running"]["steps"] == outcome.best_step
    _, counters = checkpoint.load(tmp_path / "run/state.safetensors")
    state, _ = checkpoint.load(tmp_path / "run/state.safetensors")
    assert state["params"]["running"]["steps"] == counters["step"] == 14
    assert set(state["optimizer"]["mean"]) == {"net"}


def test_chunks_change_memory_and_not_the_result(tmp_path):
    whole = run(tmp_path / "whole", tasks=4, steps=10).params["net"]["w"]
    chunked = run(tmp_path / "chunked", tasks=4, steps=10, chunk=3).params["net"]["w"]
    np.testing.assert_allclose(whole, chunked, rtol=1e-4, atol=1e-6)


def test_clipping_reaches_the_update(tmp_path):
    free = run(tmp_path / "free", steps=1, optimizer="sgd", lr=1.0).params["net"]["w"]
    bound = run(tmp_path / "bound", steps=1, optimizer="sgd", lr=1.0, clip_norm=1e-3).params["net"]["w"]
    start = Linear().init(np.random.default_rng(0))["net"]["w"]
    assert np.linalg.norm(bound - start) == pytest.approx(1e-3, rel=1e-3)
    assert np.linalg.norm(free - start) > 2e-3


def test_minutes_limit_a_run_and_drive_the_schedule(tmp_path):
    outcome = run(tmp_path / "run", steps=None, minutes=0.02, validate_every=100_000)
    assert 1.2 <= outcome.seconds < 10
    lines = [line for line in read_log(tmp_path / "run") if "loss" in line]
    rates = [line["lr"] for line in lines]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.002 < 0.015 < rates[0]
    assert read_log(tmp_path / "run")[-1]["step"] == outcome.step  # a validation at the end, whenever that is
    assert "val_accuracy" in read_log(tmp_path / "run")[-1]


@dataclass(frozen=True)
class Diverging:
    """Fine for five steps."""

    value: float

    def init(self, rng):
        return {"w": np.zeros((), np.float32)}

    def meta_grad(self, params, episode):
        loss = 1.0 if params["w"] > -5 else self.value
        return MetaGradient(loss, {"accuracy": 0.5}, {"w": np.ones((), np.float32)})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_names_the_step(tmp_path, value):
    with pytest.raises(DivergedError, match=f"step 6: the loss is {value}"):
        run(tmp_path / "run", learner=Diverging(value), optimizer="sgd", lr=1.0, schedule="constant")


def test_a_used_folder_is_refused(tmp_path):
    run(tmp_path / "run", steps=7)
    before = {file.name: file.read_bytes() for file in (tmp_path / "run").iterdir()}
    with pytest.raises(RunError, match="not empty; go on with its run by --resume"):
        run(tmp_path / "run", steps=7)
    assert {file.name: file.read_bytes() for file in (tmp_path / "run").iterdir()} == before
    (tmp_path / "home").mkdir()
    (tmp_path / "home/letter.txt").write_text("dear")
    with pytest.raises(RunError, match="not empty"):
        run(tmp_path / "home")
    with pytest.raises(RunError, match=r"not the folder of a run: it has no config\.json"):
        run(tmp_path / "home", resume=True)
    with pytest.raises(RunError, match="nothing to resume: no such folder"):
        run(tmp_path / "nowhere", resume=True)


def test_an_empty_folder_is_fine_with_and_without_resume(tmp_path):
    for resume in (False, True):
        folder = tmp_path / str(resume)
        folder.mkdir()
        (folder / ".config.json.writing").write_text("{")  # what a kill may leave behind
        assert run(folder, resume=resume, steps=3).step == 3


def test_resuming_another_configuration_names_the_difference(tmp_path):
    run(tmp_path / "run", steps=7, config={"data": {"way": 5}})
    with pytest.raises(RunError) as error:
        run(tmp_path / "run", resume=True, steps=9, lr=0.5, config={"data": {"way": 20}})
    assert "data.way is 5 there and 20 here" in str(error.value)
    assert "training.lr is 0.02 there and 0.5 here" in str(error.value)
    assert "steps" not in str(error.value)
    assert run(tmp_path / "run", resume=True, steps=9, config={"data": {"way": 5}}).step == 9
    assert json.loads((tmp_path / "run/config.json").read_text())["training"]["steps"] == 9


def test_a_damaged_state_is_named_and_the_one_before_can_be_used(tmp_path):
    folder = tmp_path / "run"
    run(folder, steps=60)
    expected = (folder / "model.safetensors").read_bytes(), read_log(folder)
    state = folder / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match=r"state.safetensors: damaged.*rename it to state.safetensors"):
        run(folder, resume=True)
    (folder / "state.previous.safetensors").replace(state)
    assert run(folder, resume=True).step == 60
    found = (folder / "model.safetensors").read_bytes(), read_log(folder)
    for line in (*expected[1], *found[1]):
        del line["seconds"]
    assert found == expected


def test_a_state_of_another_learner_or_seed_is_named(tmp_path):
    run(tmp_path / "run", steps=7)
    with pytest.raises(CheckpointError, match=r"tensor 'params/net/w' has shape \(36, 8\); need \(36, 4\)"):
        run(tmp_path / "run", resume=True, learner=Linear(size=4))
    run(tmp_path / "other", steps=7, seed=1)
    (tmp_path / "other/state.safetensors").replace(tmp_path / "run/state.safetensors")
    with pytest.raises(CheckpointError, match="a state of seed 1; need seed 0"):
        run(tmp_path / "run", resume=True)


def test_a_damaged_log_and_config_are_named(tmp_path):
    run(tmp_path / "run", steps=7)
    log, config = tmp_path / "run/log.jsonl", tmp_path / "run/config.json"
    whole = log.read_text()
    log.write_text(whole.replace("{", "", 1))
    with pytest.raises(CheckpointError, match=r"log.jsonl: damaged"):
        run(tmp_path / "run", resume=True)
    log.write_text(whole)
    config.write_text("[]")
    with pytest.raises(CheckpointError, match=r"config\.json: not the configuration of a run"):
        run(tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps=0; need steps >= 1"),
        ({"steps": None}, "steps=None, minutes=None; need one of them"),
        ({"minutes": 3}, "steps=60, minutes=3; need one of them, and only one"),
        ({"lr": -1.0}, "lr=-1.0; need lr > 0"),
        ({"lr": float("nan")}, "lr=nan"),
        ({"validation_episodes": 1}, "validation_episodes=1; need validation_episodes >= 2"),
        ({"optimizer": "lion"}, "optimizer='lion'; choose from sgd, momentum, adam, rmsprop"),
        ({"schedule": "fast"}, "schedule='fast'; choose from constant, step, cosine"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_settings_out_of_range_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        settings(**changes)


def test_the_curve_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    run(tmp_path / "run")
    curve.draw(RunFolder(tmp_path / "run").records(), tmp_path / "curve.png", "linear")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    curve.draw([], tmp_path / "empty.png")  # interrupted before the first line
    assert (tmp_path / "empty.png").stat().st_size > 1000
