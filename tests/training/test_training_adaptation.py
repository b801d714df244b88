"""Runs of learners that adapt by steps: heads for a number of classes, regression, pre-training, results by step."""

import json

import numpy as np
import pytest

from minimeta import FewShotClassifier, learners, recipes, tree
from minimeta.cli import main
from minimeta.data import SinusoidSampler, glyphs, load
from minimeta.defaults import recipe_for
from minimeta.evaluation import scores, scores_by_step
from minimeta.experiment import load_model
from minimeta.recipe import Recipe, with_settings
from minimeta.training import Settings, train

SHORT = ["--steps", "4", "--set", "test_episodes=12", "--set", "validation_episodes=4", "--set", "validate_every=2"]
SMALL = [*SHORT, "--set", "filters=4"]


def minimeta(capsys, *args):
    """What a command that works prints."""
    assert main([str(arg) for arg in args]) == 0
    return capsys.readouterr().out


def refused(capsys, *args):
    assert main([str(arg) for arg in args]) == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def waves(tmp_path_factory):
    """The folder of a short run of MAML on sinusoids."""
    folder = tmp_path_factory.mktemp("waves") / "run"
    assert main(["train", "maml", "--data", "sinusoid", "--out", str(folder), *SHORT]) == 0
    return folder


@pytest.fixture(scope="module")
def drawings(tmp_path_factory):
    """The folder of a short run of MAML on glyphs."""
    folder = tmp_path_factory.mktemp("drawings") / "run"
    assert main(["train", "maml", "--way", "3", "--tasks", "2", "--out", str(folder), *SMALL]) == 0
    return folder


def test_a_run_on_sinusoids_draws_its_adapted_curves(waves):
    results = json.loads((waves / "results.json").read_text())
    assert (results["way"], results["shot"], results["bn_mode"]) == (0, 5, "none")
    assert results["mse"] > 0
    assert (waves / "adapted.png").read_bytes().startswith(b"\x89PNG")
    assert (waves / "curve.png").exists()


def test_evaluate_prints_the_error_by_step(capsys, waves):
    record = json.loads(
        minimeta(capsys, "evaluate", waves, "--shot", 5, "--adapt-steps", 10, "--episodes", 20, "--json")
    )
    assert list(record["mse_by_step"]) == list(record["ci95_by_step"]) == [str(step) for step in range(11)]
    assert record["mse"] == record["mse_by_step"]["10"]
    assert record["ci95"] == record["ci95_by_step"]["10"]
    text = minimeta(capsys, "evaluate", waves, "--adapt-steps", 2, "--episodes", 20)
    assert [line.partition(":")[0] for line in text.splitlines()[:3]] == [f"after {i} steps" for i in range(3)]
    assert "5-shot regression, test, mse" in text


def test_scores_by_step_are_those_of_as_many_steps(waves):
    learner, params, _ = load_model(waves)
    episodes = SinusoidSampler(shot=5, query=7, seed=3)
    _, values = scores_by_step(learner, params, episodes, 30, batch=8)
    assert values.shape == (11, 30)
    for steps in (0, 1, 10):
        fewer = learners.make("maml", **{**vars(learner), "test_steps": steps})
        np.testing.assert_allclose(scores(fewer, params, episodes, 30)[1], values[steps], rtol=1e-5)


def test_evaluate_adapts_a_classifier_by_steps_too(capsys, drawings):
    record = json.loads(minimeta(capsys, "evaluate", drawings, "--adapt-steps", 3, "--episodes", 10, "--json"))
    assert list(record["accuracy_by_step"]) == ["0", "1", "2", "3"]
    assert record["bn_mode"] == "batch"


def test_a_learner_without_steps_has_none_to_choose(capsys, tmp_path):
    assert main(["train", "--out", str(tmp_path / "run"), "--way", "5", *SMALL]) == 0
    line = refused(capsys, "evaluate", tmp_path / "run", "--adapt-steps", 3)
    assert line == "minimeta: error: --adapt-steps 3: prototypical does not adapt by steps"


def test_a_run_is_resumed(capsys, drawings):
    args = ["train", "maml", "--way", "3", "--tasks", "2", "--out", str(drawings), "--resume", *SMALL]
    args[args.index("4")] = "6"
    assert "of 6" in minimeta(capsys, *args)


def test_the_head_has_as_many_classes_as_training_episodes(drawings):
    learner, params, recipe = load_model(drawings)
    assert learner.way == recipe.way == 3
    assert params["net"]["head"]["w"].shape == (4, 3)


def test_more_classes_than_the_head_has_are_refused_before_training(capsys, tmp_path, drawings):
    line = refused(capsys, "train", "maml", "--way", 3, "--test-way", 5, "--out", tmp_path / "run", *SMALL)
    assert "maml: test_way=5; its head is for 3 classes" in line
    assert not (tmp_path / "run").exists()
    assert "way=3; its head is not for 5 classes" in refused(capsys, "evaluate", drawings, "--way", 5)


def test_a_classifier_adapts_when_it_is_fitted(drawings):
    characters = load("glyphs", "test").images
    classifier = FewShotClassifier.load(drawings).fit(characters[:3, 0], ["a", "b", "c"])
    shares = classifier.predict_proba(characters[:3, 1])
    assert shares.shape == (3, 3)
    learner, params, _ = load_model(drawings)
    xs, ys = characters[:3, 0].astype(np.float32)[None] / 255, np.arange(3)[None]
    xq = characters[:3, 1].astype(np.float32)[None] / 255
    logits = np.asarray(learner.predict(params, learner.adapt(params, xs, ys, 3), xq))[0].astype(np.float64)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares, expected, atol=1e-6)
    assert classifier.fit(characters[:2, 0], ["a", "b"]).predict(characters[:2, 1]).shape == (2,)
    with pytest.raises(ValueError, match="way=3; its head is not for 4 classes"):
        classifier.fit(characters[:4, 0], list("abcd"))


def test_fine_tuning_is_trained_on_all_classes_at_once(tmp_path, capsys):
    out = tmp_path / "run"
    minimeta(capsys, "train", "finetune", "--out", out, "--set", "test_steps=2", *SMALL)
    learner, params, recipe = load_model(out)
    classes = len(glyphs.load("train"))
    assert learner.way == recipe.way == classes
    assert params["net"]["head"]["w"].shape == (4, classes)
    result = json.loads((out / "results.json").read_text())
    assert (result["way"], result["shot"]) == (5, 1)


def test_fine_tuning_learns_sinusoids_as_a_baseline(tmp_path, capsys):
    minimeta(capsys, "train", "finetune", "--data", "sinusoid", "--out", tmp_path / "run", *SHORT)
    assert json.loads((tmp_path / "run/results.json").read_text())["mse"] > 0


def test_first_order_maml_does_not_diverge_on_sinusoids():
    """From weights as large as trained ones are, ten steps of the default length lead down, not to NaN."""
    learner = recipe_for("fomaml", "sinusoid").make_learner()
    params = tree.map(lambda w: 25 * w, learner.init(np.random.default_rng(0)))
    waves = SinusoidSampler(shot=5, query=50).batch(first=0, tasks=40)
    states = learner.states(params, waves.xs, waves.ys, waves.n_way)
    errors = [float(((learner.predict(params, state, waves.xq) - waves.yq) ** 2).mean()) for state in states]
    assert len(errors) == 11
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("learner", ["maml", "fomaml", "reptile", "lstm-meta"])
def test_without_a_recipe_the_head_is_for_the_classes_of_the_test(learner):
    recipe = recipe_for(learner, "glyphs")
    assert recipe.way == recipe.test_way == recipe.make_learner().way == 5


def test_a_way_of_the_learner_s_own_wins():
    recipe = Recipe("maml", "glyphs", way=5, shot=1, query=2)
    learner = with_settings(recipe, ["way=7", "inner_lr=0.1,0.2", "inner_steps=2"]).make_learner()
    assert (learner.way, learner.inner_lr) == (7, (0.1, 0.2))


def test_lists_of_a_record_become_tuples():
    assert learners.make("maml", inner_lr=[0.1]).inner_lr == (0.1,)


def test_every_recipe_makes_its_learner():
    for name, entry in recipes.RECIPES.items():
        assert entry.recipe.make_learner(), name


def test_training_makes_one_step_of_adaptation_worth_taking(tmp_path):
    learner = learners.make("maml", way=0, architecture="regressor", batch_norm="none", inner_lr=(0.01,), test_steps=1)
    settings = Settings(steps=800, tasks=25, lr=3e-3, validate_every=400, validation_episodes=100, log_every=100)
    training, validation, test = (SinusoidSampler(10, 20, seed=seed) for seed in range(3))
    outcome = train(learner, training, validation, settings, tmp_path / "run")
    before, after = scores_by_step(learner, outcome.params, test, 200)[1].mean(axis=1)
    assert after < 0.7 * before
