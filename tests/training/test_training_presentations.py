"""Learners that read an episode as a sequence: episodes for them, results by presentation, runs, pictures."""

import json
from collections import Counter
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimeta import FewShotClassifier, checkpoint, memory_maps, tree
from minimeta.cli import main
from minimeta.data import DataError, Episode, EpisodeSampler, ImageClasses, load
from minimeta.evaluation import half_interval, scores_by_presentation
from minimeta.experiment import Trial, assess, load_model, sequence_trial, trial_of
from minimeta.learners.model_based.mann import MANN
from minimeta.recipe import Recipe
from minimeta.sources import Source

SHORT = ["--tasks", "2", "--set", "test_episodes=6", "--set", "validation_episodes=4", "--set", "validate_every=2",
         "--set", "log_every=3", "--set", "hidden=8"]  # fmt: skip
MEMORY = ["--set", "rows=8", "--set", "width=4"]
SMALL = [*SHORT, *MEMORY, "--set", "heads=2", "--set", "size=10"]
seeds = st.integers(0, 2**32 - 1)


def minimeta(capsys, *args):
    """What a command that works prints."""
    assert main([str(arg) for arg in args]) == 0
    return capsys.readouterr().out


def refused(capsys, *args):
    assert main([str(arg) for arg in args]) == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


def trained(tmp_path_factory, *args):
    """The folder of a short run."""
    folder = tmp_path_factory.mktemp(args[0]) / "run"
    assert main(["train", *args, "--steps", "4", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def mann(tmp_path_factory):
    return trained(tmp_path_factory, "mann", "--data", "glyphs", *SMALL)


@pytest.fixture(scope="module")
def strings(tmp_path_factory):
    return trained(tmp_path_factory, "mann", "--data", "glyphs", "--set", "labels=strings", *SMALL)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    return trained(tmp_path_factory, "ntm", "--data", "copy", "--shot", "5", *SHORT, *MEMORY)


@pytest.fixture(scope="module")
def prototypical(tmp_path_factory):
    settings = ["--set", "filters=2", "--set", "test_episodes=2", "--set", "validation_episodes=2"]
    return trained(tmp_path_factory, "prototypical", "--way", "5", *settings)


# Results by presentation


class Told(NamedTuple):
    """A learner that looks up given scores instead of looking at examples: xs holds them."""

    def presented(self, params, xs, ys, n_way):
        return xs


class Fixed(NamedTuple):
    """Episodes whose examples are the scores themselves."""

    scores: np.ndarray
    labels: np.ndarray

    def batch(self, first, tasks):
        xs, ys = self.scores[first : first + tasks], self.labels[first : first + tasks]
        return Episode(xs, ys, xs[:, :0], ys[:, :0], xs.shape[2])


@st.composite
def sequences(draw):
    """Episodes of some of 7 labels, each as often as the others, in any order; scores tie now and then."""
    rng = np.random.default_rng(draw(seeds))
    way, times, episodes = draw(st.integers(2, 5)), draw(st.integers(1, 4)), draw(st.integers(2, 6))
    labels = [rng.permutation(np.repeat(rng.choice(7, way, replace=False), times)) for _ in range(episodes)]
    return Fixed(rng.integers(3, size=(episodes, way * times, 7)).astype(float), np.stack(labels)), way, times


def by_hand(scores, labels, way, times):
    """Of one episode, the share of classes told right when they come for the first time, the second, ..."""
    won, seen = np.zeros(times), Counter()
    for row, label in zip(scores, labels, strict=True):
        best = [n for n, score in enumerate(row) if score == max(row)]
        won[seen[label]] += (label in best) / len(best) / way
        seen[label] += 1
    return won


@given(sequences(), st.integers(1, 4))
def test_scores_by_presentation_count_how_often_a_class_was_there(problem, batch):
    episodes, way, times = problem
    heard = []
    count = len(episodes.labels)
    metric, values = scores_by_presentation(Told(), {}, episodes, count, batch=batch, report=heard.append)
    expected = [by_hand(*episode, way, times) for episode in zip(*episodes, strict=True)]
    assert metric == "accuracy"
    assert heard[-1] == count
    np.testing.assert_allclose(values, np.transpose(expected), rtol=0, atol=1e-12)


def test_a_learner_that_knows_a_class_once_it_was_there_is_right_from_the_second_time_on():
    labels = np.array([[2, 0, 0, 1, 2, 1], [1, 1, 0, 2, 0, 2]])
    right = np.eye(3)[labels]
    for task, time in [(0, 0), (0, 1), (0, 3), (1, 0), (1, 2), (1, 3)]:  # each class's first
        right[task, time] = -right[task, time]
    _, values = scores_by_presentation(Told(), {}, Fixed(right, labels), 2)
    assert values.tolist() == [[0, 0], [1, 1]]


def test_scores_that_are_nan_are_an_error():
    scores = np.zeros((2, 4, 2))
    scores[1, 3, 0] = np.nan
    with pytest.raises(ValueError, match=r"predictions in episodes 1\.\.1 are NaN"):
        scores_by_presentation(Told(), {}, Fixed(scores, np.array([[0, 1, 0, 1]] * 2)), 2, batch=1)


@given(sequences())
def test_the_record_has_every_presentation_and_the_result_is_that_of_all(problem):
    episodes, way, times = problem
    count = len(episodes.labels)
    trial = Trial("glyphs", "test", way, times, 0, count, 0, None, "none", 28, 1, True)
    result, record = assess(Told(), {}, trial, Source(episodes, "test"), by="presentation")
    values = np.array([by_hand(*episode, way, times) for episode in zip(*episodes, strict=True)])
    names = [str(j + 1) for j in range(times)]
    assert list(record["accuracy_by_presentation"]) == list(record["ci95_by_presentation"]) == names
    for j, name in enumerate(names):
        assert record["accuracy_by_presentation"][name] == pytest.approx(values[:, j].mean(), abs=1e-12)
        assert record["ci95_by_presentation"][name] == pytest.approx(half_interval(values[:, j]), abs=1e-12)
    assert record["accuracy"] == result.mean == pytest.approx(values.mean(), abs=1e-12)
    assert record["ci95"] == result.ci95 == pytest.approx(half_interval(values.mean(axis=1)), abs=1e-12)
    assert (record["way"], record["shot"], record["query"], record["episodes"]) == (way, times, 0, count)


def test_a_sequence_has_ten_presentations_and_no_queries_and_one_of_bits_is_as_it_was():
    recipe = Recipe("mann", "glyphs", way=5, shot=3, query=0, hyper={"labels": "strings"})
    trial = sequence_trial(recipe)
    assert (trial.way, trial.shot, trial.query, trial.labels, trial.shuffle_support) == (5, 10, 0, 3125, True)
    bits = Recipe("ntm", "copy", way=0, shot=20, query=1, test_way=0, test_shot=20, test_query=1)
    assert sequence_trial(bits) == trial_of(bits)


# The command line


def test_evaluate_prints_the_accuracy_by_presentation(capsys, mann):
    args = ["evaluate", mann, "--protocol", "presentations", "--episodes", 8]
    record = json.loads(minimeta(capsys, *args, "--json"))
    names = [str(j) for j in range(1, 11)]
    assert list(record["accuracy_by_presentation"]) == list(record["ci95_by_presentation"]) == names
    assert record["accuracy"] == pytest.approx(np.mean(list(record["accuracy_by_presentation"].values())))
    assert (record["way"], record["shot"], record["query"], record["episodes"]) == (5, 10, 0, 8)
    *lines, whole = minimeta(capsys, *args).splitlines()
    for name, line in zip(names, lines, strict=True):
        percent = 100 * record["accuracy_by_presentation"][name], 100 * record["ci95_by_presentation"][name]
        assert line.startswith("presentation {}: accuracy {:.2f} % ± {:.2f} %".format(name, *percent))
    assert whole.startswith(f"5-way 10-shot, test, accuracy {100 * record['accuracy']:.2f} % ±")


def test_they_are_those_of_the_model_on_the_episodes_of_the_test(capsys, mann):
    learner, params, _ = load_model(mann)
    record = json.loads(
        minimeta(capsys, "evaluate", mann, "--protocol", "presentations", "--episodes", 4, "--shot", 3, "--json")
    )
    test = load("glyphs", "test", size=10)
    stream = int(np.random.SeedSequence([0, *b"test"]).generate_state(1)[0])
    episode = EpisodeSampler(test, way=5, shot=3, query=0, shuffle_support=True, seed=stream).batch(0, 4)
    presented = learner.presented(params, *episode[:2], 5)
    values = [by_hand(*task, 5, 3) for task in zip(presented, episode.ys, strict=True)]
    np.testing.assert_allclose(list(record["accuracy_by_presentation"].values()), np.mean(values, axis=0), atol=1e-12)


def test_a_run_with_strings_draws_its_labels_from_all_of_them(capsys, strings):
    recipe = load_model(strings).recipe
    for part in ("train", "test"):
        episode = replace(trial_of(recipe, part), shot=10, query=0).source().episodes.batch(0, 4)
        assert (episode.ys.shape, episode.n_way) == ((4, 50), 3125)
        assert np.unique(episode.ys).size > 15  # 20 but for chance
    record = json.loads(minimeta(capsys, "evaluate", strings, "--protocol", "presentations", "--episodes", 8, "--json"))
    assert max(record["accuracy_by_presentation"].values()) < 0.1
    records = map(json.loads, (strings / "log.jsonl").read_text().splitlines())
    [loss] = [record["loss"] for record in records if "loss" in record]
    assert loss == pytest.approx(50 * 5 * np.log(5), rel=0.1)  # chance, of 50 labels of 5 characters


def test_requests_by_presentation_that_cannot_be_met(capsys, mann, copy, prototypical):
    for folder, more, message in (
        (prototypical, [], "--protocol presentations: prototypical does not read an episode as a sequence"),
        (copy, [], "--protocol presentations: copy has no classes that come again"),
        (mann, ["--query", 1], "--query 1: not with --protocol presentations, where every example is asked for"),
        (mann, ["--way", 6], "n_way=6; the network has words for 1 to 5 classes"),
        (mann, ["--shot", 21], "21-shot with 0 queries needs 21 drawings per class"),
    ):
        assert message in refused(capsys, "evaluate", folder, "--protocol", "presentations", *more)


def test_other_data_than_a_network_is_made_for_are_refused(capsys, mann, copy):
    for folder, more, message in (
        (copy, ["--data", "glyphs"], "--data glyphs: the model was trained on copy, and its network is for the like"),
        (mann, ["--data", "copy"], "--data copy: the model was trained on glyphs, and its network is for the like"),
        (copy, ["--way", 5], "copy has no classes, got way=5"),
        (copy, ["--query", 2], "copy: repeats=2; only repeat-copy has any"),
        (copy, ["--query", 0], "--query 0; need 1 or more"),
    ):
        assert message in refused(capsys, "evaluate", folder, *more)


def test_a_run_draws_its_memory_and_plot_draws_it_again(capsys, mann, copy, strings, tmp_path):
    for folder in (mann, copy, strings):
        assert (folder / "memory.png").read_bytes().startswith(b"\x89PNG")
    first = (mann / "memory.png").read_bytes()
    assert minimeta(capsys, "plot", "memory", mann) == f"{mann / 'memory.png'}\n"
    assert (mann / "memory.png").read_bytes() == first
    pictures = {first, (copy / "memory.png").read_bytes()}
    for folder, more in ((mann, ["--seed", 4]), (copy, ["--shot", 9])):
        out = tmp_path / "other.png"
        assert minimeta(capsys, "plot", "memory", folder, *more, "--out", out) == f"{out}\n"
        pictures.add(out.read_bytes())
    assert len(pictures) == 4
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)


def test_a_learner_without_a_memory_has_none_to_draw(capsys, prototypical, tmp_path):
    assert main(["train", "lstm", "--steps", "2", "--out", str(tmp_path / "lstm"), "--set", "size=10", *SHORT]) == 0
    assert not (tmp_path / "lstm/memory.png").exists()
    for name, folder in (("prototypical", prototypical), ("lstm", tmp_path / "lstm")):
        line = refused(capsys, "plot", "memory", folder)
        assert line == f"minimeta: error: {name} has no memory with heads; ntm and mann have"


@given(st.integers(2, 12), st.integers(1, 3), seeds)
def test_a_picture_has_the_rows_that_matter_and_as_few_others_as_can_be(size, maps, seed):
    rng = np.random.default_rng(seed)
    weights = [rng.random((4, size)) * (rng.random(size) < 0.3) + np.eye(4, size, k=1) for _ in range(maps)]
    rows = memory_maps._used_rows(weights)
    matter = {n for of_map in weights for n in range(size) if of_map[:, n].max() > 0.1 * of_map.max()}
    assert (np.diff(rows) == 1).all()
    assert matter <= {row % size for row in rows}
    # the shortest stretch of a ring that has them all
    fewest = min(max((n - first) % size for n in matter) + 1 for first in range(size))
    assert len(rows) == fewest


def left(folder):
    """Everything but times."""
    state, counters = checkpoint.load(folder / "state.safetensors")
    del counters["seconds"]
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    log = [{key: value for key, value in line.items() if key != "seconds"} for line in log]
    arrays = {"/".join(path): leaf.tobytes() for path, leaf in tree.items(state)}
    return (folder / "model.safetensors").read_bytes(), arrays, counters, log


def test_a_crashed_run_goes_on_to_the_same_bits(mann, tmp_path, monkeypatch):
    command = ["train", "mann", "--data", "glyphs", "--steps", "4", "--out", str(tmp_path / "run"), *SMALL]
    steps, meta_loss = [], MANN.meta_loss

    def crash(*args):
        steps.append(len(steps))
        if len(steps) == 4:  # the state of step 2 has been saved, step 3 is lost
            raise MemoryError
        return meta_loss(*args)

    with monkeypatch.context() as patched:
        patched.setattr(MANN, "meta_loss", crash)
        assert main(command) == 1
    assert checkpoint.load(tmp_path / "run/state.safetensors")[1]["step"] == 2
    assert main([*command, "--resume"]) == 0
    assert left(tmp_path / "run") == left(mann)


# Episodes


CLASSES = ImageClasses("toy", "test", np.arange(8 * 6, dtype=np.uint8).reshape(8, 6, 1, 1, 1), tuple("abcdefgh"))


@st.composite
def samplers(draw, **fixed):
    way, query = draw(st.integers(2, 8)), draw(st.integers(0, 3))
    options = {"labels": draw(st.integers(way, 3125)), "shuffle_support": draw(st.booleans()), "seed": draw(seeds)}
    return EpisodeSampler(CLASSES, way, draw(st.integers(1, 3)), query, **{**options, **fixed})


@given(samplers(), st.integers(0, 100))
def test_labels_are_different_numbers_below_their_bound_and_change_names_alone(sampler, first):
    way, shot, query = sampler.way, sampler.shot, sampler.query
    xs, ys, xq, yq, n_way = sampler.batch(first, 3)
    plain = EpisodeSampler(
        CLASSES, way, shot, query, shuffle_support=sampler.shuffle_support, seed=sampler.seed
    ).batch(first, 3)
    np.testing.assert_array_equal(xs, plain.xs)
    np.testing.assert_array_equal(xq, plain.xq)
    assert (xq.shape, yq.shape) == ((3, way * query, 1, 1, 1), (3, way * query))
    assert (ys.dtype, yq.dtype, n_way) == (np.int64, np.int64, sampler.labels)
    for task in range(3):
        names = dict(zip(plain.ys[task], ys[task], strict=True))
        assert ys[task].tolist() == [names[label] for label in plain.ys[task]]
        assert yq[task].tolist() == [names[label] for label in plain.yq[task]]
        assert len(set(names.values())) == way
        assert 0 <= min(names.values()) <= max(names.values()) < sampler.labels
    part = sampler.batch(first + 1, 1)
    for whole, alone in zip((xs, ys, xq, yq), part[:4], strict=True):
        np.testing.assert_array_equal(whole[1:2], alone)


def test_every_label_comes_as_often():
    ys = EpisodeSampler(CLASSES, way=3, shot=1, query=0, labels=12).batch(0, 2000).ys
    for column in (ys[:, 0], ys[:, 2]):
        counts = np.bincount(column, minlength=12)
        assert len(counts) == 12
        assert (np.abs(counts - 2000 / 12) < 5 * np.sqrt(2000 / 12)).all()


def test_without_queries_all_drawings_can_be_in_the_support_set():
    xs, ys, xq, yq, _ = EpisodeSampler(CLASSES, way=8, shot=6, query=0).batch(0, 1)
    assert sorted(xs.ravel() * 255) == pytest.approx(range(48))
    assert np.bincount(ys[0]).tolist() == [6] * 8
    assert xq.size == yq.size == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": 4}, "5-way needs 5 different labels, got labels=4"),
        ({"labels": 0}, "5-way needs 5 different labels, got labels=0"),
        ({"query": -1}, "query must be at least 0, got -1"),
        ({"shot": 7}, "7-shot with 0 queries needs 7 drawings per class, split 'test' has 6 of class 'a'"),
    ],
)
def test_impossible_episodes_are_refused(options, message):
    with pytest.raises(DataError, match=message):
        EpisodeSampler(CLASSES, **{"way": 5, "shot": 1, "query": 0, **options})


# A classifier


def images(n):
    return np.random.default_rng(n).integers(256, size=(n, 10, 10, 1), dtype=np.uint8)


def test_a_classifier_reads_its_examples_as_a_sequence(mann):
    learner, params, _ = load_model(mann)
    X, queries, ids = images(7), images(3), np.array([1, 0, 2, 1, 1, 0, 2])
    classifier = FewShotClassifier.load(mann, seed=3).fit(X, np.array(["a", "b", "c"])[ids])
    order = np.random.default_rng(3).permutation(7)
    xs, xq = X[order] / np.float32(255), queries / np.float32(255)
    expected = []
    for query in xq:  # each as the next example
        longer = np.concatenate([xs, query[None]])[None]
        scores = learner.presented(params, longer, np.append(ids[order], 0)[None], 3)[0, -1].astype(float)
        expected.append(np.exp(scores) / np.exp(scores).sum())
    shares = classifier.predict_proba(queries)
    np.testing.assert_allclose(shares, expected, atol=1e-6)
    assert classifier.predict(queries).tolist() == [["a", "b", "c"][row.argmax()] for row in shares]


def test_a_classifier_has_as_many_classes_as_the_network_has_words(mann, strings):
    X, y = images(8), list("abcdefgh")
    with pytest.raises(ValueError, match="n_way=8; the network has words for 1 to 5 classes"):
        FewShotClassifier(mann).fit(X, y)
    shares = FewShotClassifier(strings).fit(X, y).predict_proba(X)
    assert shares.shape == (8, 8)
    np.testing.assert_allclose(shares.sum(axis=1), 1)


def test_a_network_for_sequences_of_bits_does_not_classify(copy):
    with pytest.raises(ValueError, match="model=ntm trained on copy, not classes: it cannot classify"):
        FewShotClassifier(copy).fit(images(2), ["a", "b"])
