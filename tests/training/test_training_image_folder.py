"""A folder of image files through the command line: trained on, tested, used."""

import json

import pytest
from image_files import write_glyphs

from minimeta.cli import main
from minimeta.defaults import recipe_for
from minimeta.experiment import load_recipe

TINY = ["--way", 3, "--query", 3, "--steps", 60, "--set", "filters=8", "--set", "test_episodes=20",
        "--set", "validation_episodes=10", "--set", "validate_every=30", "--set", "lr=0.005"]  # fmt: skip


def minimeta(*args):
    return main([str(arg) for arg in args])


@pytest.mark.parametrize("colour", [False, True])
def test_a_model_is_trained_on_a_folder_and_tells_new_classes_apart(tmp_path, capsys, colour):
    home = write_glyphs(tmp_path / "letters", colour=colour)
    run = tmp_path / "run"
    assert minimeta("train", "--data", home, *TINY, "--out", run) == 0, capsys.readouterr().err
    results = json.loads((run / "results.json").read_text())
    assert results["accuracy"] > 0.6
    assert results["split"] == "test"
    assert load_recipe(run).make_learner().channels == (3 if colour else 1)
    capsys.readouterr()

    assert minimeta("evaluate", run, "--split", "val", "--episodes", 5, "--json") == 0
    assert json.loads(capsys.readouterr().out)["split"] == "val"

    new = write_glyphs(tmp_path / "new", "test", classes=3, colour=colour)
    queries = [path for name in sorted(new.iterdir()) for path in sorted(name.iterdir())[5:]]
    support = tmp_path / "support"
    for name in new.iterdir():
        (support / name.name).mkdir(parents=True)
        for path in sorted(name.iterdir())[:5]:
            path.rename(support / name.name / path.name)
    assert minimeta("predict", run, "--support", support, "--query", *queries, "--json") == 0
    answers = json.loads(capsys.readouterr().out)
    assert [answer["file"] for answer in answers] == list(map(str, queries))
    right = [answer["label"] == path.parent.name for answer, path in zip(answers, queries, strict=True)]
    assert sum(right) / len(right) > 0.7


def test_without_a_way_there_are_as_many_classes_as_the_folder_has(tmp_path):
    recipe = recipe_for("matching", str(write_glyphs(tmp_path / "letters")))
    assert (recipe.way, recipe.test_way, recipe.hyper) == (13, 3, {"channels": 1})


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--way", 30], "30-way needs 30 classes, split 'train' has 13"),
        (["--way", 3, "--test-way", 5], "5-way needs 5 classes, split 'val' has 3"),
        (["--way", 3, "--test-way", 3, "--shot", 6], "6-shot with 5 queries needs 11 drawings per class"),
    ],
)
def test_a_folder_that_is_too_small_is_refused(tmp_path, capsys, args, message):
    home = write_glyphs(tmp_path / "letters")
    assert minimeta("train", "--data", home, *args, "--out", tmp_path / "run") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
