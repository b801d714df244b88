"""`minimeta evaluate --protocol lake`: errors against a computation of their own, on Omniglot and glyphs."""

import io
import json
import os
import zipfile
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from minimeta import checkpoint, layers
from minimeta.cli import main
from minimeta.data import glyphs
from minimeta.recipe import Recipe
from minimeta.run_folder import RunFolder

if not find_spec("PIL"):
    pytest.skip("decoding drawings needs Pillow", allow_module_level=True)

from PIL import Image

DATA = os.environ.get("MINIMETA_DATA")
ARCHIVE = Path(DATA or ".", "omniglot", "images_evaluation.zip")
RECIPE = Recipe("prototypical", "omniglot", way=20, shot=1, query=1, split="lake", hyper={"filters": 8, "blocks": 3})


def write_runs(folder, pairs):
    """Runs of (classes, items), 20 PNG files each in the same order of characters; items are then dealt anew."""
    rng = np.random.default_rng(0)
    for run, (classes, items) in enumerate(pairs, 1):
        home, lines = folder / f"run{run:02d}", []
        for part in ("training", "test"):
            (home / part).mkdir(parents=True)
        for item, c in enumerate(rng.permutation(20), 1):
            (home / f"training/class{c + 1:02d}.png").write_bytes(classes[c])
            (home / f"test/item{item:02d}.png").write_bytes(items[c])
            lines.append(f"{home.name}/test/item{item:02d}.png {home.name}/training/class{c + 1:02d}.png\n")
        (home / "class_labels.txt").write_text("".join(lines))
    return folder


def png(drawing):
    file = io.BytesIO()
    Image.fromarray(np.where(drawing > 127, 0, 255).astype(np.uint8)).convert("1").save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A folder of two runs of glyphs."""
    images = glyphs.load("test", classes=40, drawings=2, size=105).images[..., 0]
    pairs = [[[png(x) for x in images[first : first + 20, d]] for d in (0, 1)] for first in (0, 20)]
    return write_runs(tmp_path_factory.mktemp("glyphs") / "all_runs", pairs)


@pytest.fixture(scope="module")
def omniglot(tmp_path_factory):
    """A folder of 20 runs, each of 20 characters of an evaluation alphabet by two of their drawers."""
    if not ARCHIVE.exists():
        pytest.skip("needs the real Omniglot: set MINIMETA_DATA to the folder that holds omniglot/")
    rng, pairs = np.random.default_rng(1), []
    with zipfile.ZipFile(ARCHIVE) as archive:
        names = [name for name in archive.namelist() if name.endswith(".png")]
        for alphabet in sorted({name.split("/")[1] for name in names}):
            characters = sorted({name[: -len("00.png")] for name in names if name.split("/")[1] == alphabet})
            chosen = rng.choice(characters, 20, replace=False)
            pairs.append([[archive.read(f"{c}{d:02d}.png") for c in chosen] for d in rng.choice(20, 2, False) + 1])
    return write_runs(tmp_path_factory.mktemp("omniglot") / "all_runs", pairs)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A run folder of a network that was never trained: far from perfect, and far better than chance."""
    return write_model(tmp_path_factory.mktemp("model"), RECIPE)


def write_model(folder, recipe):
    folder.mkdir(exist_ok=True)
    files = RunFolder(folder)
    checkpoint.write_json(files.config, recipe.record())
    checkpoint.save(files.model, recipe.make_learner().init(np.random.default_rng(0)), {})
    return folder


def expected_errors(folder, model):
    """Each run's error, image by image: the class with the nearest features, by the answers in the labels' file."""
    params, _ = checkpoint.load(RunFolder(model).model, like=RECIPE.make_learner().init(np.random.default_rng(0)))
    errors = []
    for run in sorted(folder.iterdir()):
        features = {}
        for path in run.glob("*/*.png"):
            paper = Image.open(path).convert("L").point(lambda v: 255 - v).convert("F").resize((28, 28), Image.LANCZOS)
            image = (np.asarray(paper).clip(0, 255).round() / 255).astype(np.float32)
            features[f"{run.name}/{path.parent.name}/{path.name}"] = np.asarray(
                layers.conv_net(params["net"], image[None, None, ..., None], params["running"])[0]
            ).ravel()
        classes = [name for name in features if "/training/" in name]
        wrong = 0
        for line in (run / "class_labels.txt").read_text().splitlines():
            item, answer = line.split()
            nearest = min(classes, key=lambda name, item=item: np.sum((features[item] - features[name]) ** 2))
            wrong += nearest != answer
        errors.append(wrong / 20)
    return errors


def evaluate(capsys, *args):
    assert main(["evaluate", *map(str, args)]) == 0
    return capsys.readouterr()


def zipped(folder, path):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return path


def test_errors_on_omniglot_are_those_of_a_loop_over_files(capsys, tmp_path, omniglot, model):
    record = json.loads(evaluate(capsys, model, "--protocol", "lake", "--runs", omniglot, "--json").out)
    errors = expected_errors(omniglot, model)
    np.testing.assert_allclose(record["error_by_run"], errors)
    assert 0.2 < np.mean(errors) < 0.8  # the untrained network is neither perfect nor guessing
    assert record["accuracy"] == pytest.approx(1 - np.mean(errors))
    assert record["ci95"] == pytest.approx(2.093024 * np.std(errors, ddof=1) / np.sqrt(20))
    assert {name: record[name] for name in ("episodes", "way", "shot", "query", "bn_mode", "backend")} == {
        "episodes": 20, "way": 20, "shot": 1, "query": 1, "bn_mode": "running", "backend": "numpy"
    }  # fmt: skip
    archive = zipped(omniglot, tmp_path / "all_runs.zip")
    printed = evaluate(capsys, model, "--protocol", "lake", "--runs", archive)
    assert printed.err == ""
    *runs, total = printed.out.splitlines()
    assert runs == [f"run{i:02d}: error {100 * error:.1f} %" for i, error in enumerate(errors, 1)]
    assert total.startswith(
        f"20 runs: error {100 * np.mean(errors):.2f} %; 20-way 1-shot, batch norm running: accuracy "
    )


def test_errors_on_glyphs_and_other_modes_of_batch_norm(capsys, drawn, model):
    lake = ["--protocol", "lake", "--runs", drawn, "--json"]
    running, batch = (json.loads(evaluate(capsys, model, *lake, *more).out) for more in ([], ["--batch-norm", "batch"]))
    np.testing.assert_allclose(running["error_by_run"], expected_errors(drawn, model))
    assert (running["bn_mode"], batch["bn_mode"]) == ("running", "batch")
    assert running["error_by_run"] != batch["error_by_run"]


def test_a_model_that_may_know_the_characters_is_noted(capsys, tmp_path, drawn):
    model = write_model(tmp_path, replace(RECIPE, split="vinyals"))
    printed = evaluate(capsys, model, "--protocol", "lake", "--runs", drawn)
    assert "note: trained on split vinyals, which has characters of the runs" in printed.err


def refused(capsys, *args):
    assert main(["evaluate", *map(str, args)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err


def test_requests_that_cannot_be_met(capsys, tmp_path, drawn, model):
    lake = ["--protocol", "lake", "--runs", drawn]
    assert "the lake protocol needs runs" in refused(capsys, model, "--protocol", "lake")
    assert "the lake protocol needs runs, no other does" in refused(capsys, model, "--runs", drawn)
    for option in ("--way", "--seed", "--episodes", "--data-dir", "--split"):
        assert f"{option}: not with --protocol lake" in refused(capsys, model, *lake, option, 5)
    assert f"{tmp_path}: has 0 runs" in refused(capsys, model, "--protocol", "lake", "--runs", tmp_path)
    coloured = write_model(tmp_path / "colour", replace(RECIPE, hyper={**RECIPE.hyper, "channels": 3}))
    assert "prototypical: channels=3; drawings of Lake's runs have 1" in refused(capsys, coloured, *lake)
