"""`minimeta predict`: what it prints, and that it prints nothing where anything is wrong."""

import json

import numpy as np
import pytest
from image_files import write, write_glyphs

from minimeta.cli import main
from minimeta.data import glyphs, read_image
from minimeta.experiment import load_model


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run on glyphs, which are ink on black."""
    run = tmp_path_factory.mktemp("predict") / "run"
    tiny = [f"--set={text}" for text in ("filters=8", "test_episodes=2", "validation_episodes=20", "lr=0.005")]
    assert main(["train", "--way", "5", "--query", "3", "--steps", "120", *tiny, "--out", str(run)]) == 0
    return run


@pytest.fixture
def support(tmp_path):
    return write_glyphs(tmp_path / "support", "test", classes=10, drawings=5)


@pytest.fixture
def queries(tmp_path):
    images = glyphs.load("test", classes=10, drawings=7, size=32).images[:, 5:].reshape(20, 32, 32, 1)
    return [str(write(tmp_path / f"query{i}.png", ink)) for i, ink in enumerate(images)]


def predict(*args):
    return main(["predict", *map(str, args)])


def by_hand(run, support, queries):
    """The probabilities of the run's learner, by the protocol of learners."""
    learner, params, _ = load_model(run)
    names = sorted(path.name for path in support.iterdir())
    xs = [[read_image(path, 28, 1, ink=True) for path in sorted((support / name).iterdir())] for name in names]
    xq = np.stack([read_image(path, 28, 1, ink=True) for path in queries])
    state = learner.adapt(params, np.concatenate(xs)[None], np.repeat(range(len(xs)), len(xs[0]))[None], len(names))
    scores = np.exp(np.asarray(learner.predict(params, state, xq[None]))[0])
    return names, scores / scores.sum(axis=1, keepdims=True)


def test_the_answers_are_those_of_the_learner(run, support, queries, capsys):
    assert predict(run, "--support", support, "--query", *queries, "--json") == 0
    answers = json.loads(capsys.readouterr().out)
    names, probabilities = by_hand(run, support, queries)
    assert [answer["file"] for answer in answers] == queries
    for answer, expected in zip(answers, probabilities, strict=True):
        assert list(answer["probabilities"]) == names
        np.testing.assert_allclose(list(answer["probabilities"].values()), expected, atol=1e-4)
        assert answer["label"] == names[expected.argmax()]
    right = [answer["label"] == f"test-{i // 2:05d}" for i, answer in enumerate(answers)]
    assert sum(right) >= 13


def test_in_words_it_is_a_line_per_file(run, support, queries, capsys):
    assert predict(run, "--support", support, "--query", *queries[:2]) == 0
    names, probabilities = by_hand(run, support, queries[:2])
    for line, file, row in zip(capsys.readouterr().out.splitlines(), queries[:2], probabilities, strict=True):
        shares = ", ".join(f"{name} {100 * share:.1f} %" for name, share in zip(names, row, strict=True))
        assert line == f"{file}: {names[row.argmax()]} ({shares})"


def test_classes_may_have_different_numbers_of_examples(run, support, queries, capsys):
    (support / "test-00002" / "0.png").unlink()
    assert predict(run, "--support", support, "--query", queries[4], "--json") == 0
    assert len(json.loads(capsys.readouterr().out)[0]["probabilities"]) == 10


def spoil_query(support, queries):
    queries[-1] += ".missing"
    return "query19.png.missing: cannot be read: No such file"


def spoil_support(support, queries):
    (support / "test-00003" / "9.png").write_text("no image")
    return "9.png: not an image of a known format"


def spoil_class(support, queries):
    (support / "empty").mkdir()
    return "empty: no images in this class folder"


def spoil_folder(support, queries):
    for path in support.iterdir():
        path.rename(support.parent / f"gone-{path.name}")
    return "no class folders"


def spoil_all_but_one(support, queries):
    for path in sorted(support.iterdir())[1:]:
        path.rename(support.parent / f"gone-{path.name}")
    return "has one class, test-00000; need at least 2"


@pytest.mark.parametrize("spoil", [spoil_query, spoil_support, spoil_class, spoil_folder, spoil_all_but_one])
def test_nothing_is_printed_where_anything_is_wrong(run, support, queries, capsys, spoil):
    message = spoil(support, queries)
    assert predict(run, "--support", support, "--query", *queries) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert len(printed.err.splitlines()) == 1


def test_a_folder_without_a_run_is_refused(tmp_path, support, queries, capsys):
    assert predict(tmp_path, "--support", support, "--query", *queries) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert str(tmp_path) in printed.err


def test_support_and_query_must_be_given(run, capsys):
    with pytest.raises(SystemExit):
        predict(run, "--query", "x.png")
    assert "--support" in capsys.readouterr().err
