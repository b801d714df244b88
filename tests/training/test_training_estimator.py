"""FewShotClassifier: against references of its own, labels and examples of every kind, and what it refuses."""

import copy
import pickle
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minimeta
from minimeta import FewShotClassifier, checkpoint, learners
from minimeta.estimator import NotFittedError
from minimeta.experiment import Model
from minimeta.recipe import Recipe
from minimeta.run_folder import RunError, RunFolder

NEAREST = learners.make("kernel", blocks=0, kernel="l1", tau=0.0, neighbours=1)
TWO = [[0.0], [1.0]]
RECIPE = Recipe("prototypical", "glyphs", way=5, shot=1, query=2, hyper={"filters": 4})


@dataclass(frozen=True)
class Spy:
    """Nearest class mean of raw features, which keeps a record of what it is asked."""

    order_sensitive: ClassVar[bool] = False
    calls: list[Any] = field(default_factory=list)

    def init(self, rng):
        return {"drawn": rng.random()}

    def adapt(self, params, xs, ys, n_way):
        self.calls.append(("adapt", params, xs, ys, n_way))
        return np.stack([xs[0, ys[0] == label].mean(axis=0) for label in range(n_way)])

    def predict(self, params, state, xq):
        self.calls.append(("predict", params, xq))
        away = xq[:, :, None] - state
        return -(away**2).reshape(*away.shape[:3], -1).sum(axis=-1)


class Ordered(Spy):
    order_sensitive = True


@pytest.fixture(scope="module")
def model():
    learner = RECIPE.make_learner()
    return Model(learner, learner.init(np.random.default_rng(5)), RECIPE)


@pytest.fixture
def run(tmp_path, model):
    """The folder of a run that trained `model`."""
    checkpoint.write_json(RunFolder(tmp_path).config, model.recipe.record())
    checkpoint.save(RunFolder(tmp_path).model, model.params)
    return tmp_path


def images(n, side=28, seed=0):
    return np.random.default_rng(seed).integers(256, size=(n, side, side, 1), dtype=np.uint8)


@given(st.lists(st.integers(1, 5), min_size=2, max_size=6), st.integers(0, 2**32), st.integers(1, 4))
def test_the_nearest_example_names_the_class_whatever_the_counts(counts, seed, features):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat([f"class {i}" for i in range(len(counts))], counts))
    X, queries = rng.normal(size=(len(y), features)), rng.normal(size=(9, features))
    classifier = FewShotClassifier(NEAREST).fit(X, y)
    assert classifier.score(X, y) == 1
    predicted = classifier.predict(queries)
    for query, label in zip(queries, predicted, strict=True):
        distances = np.abs(X - query).sum(axis=1)
        assert distances[y == label].min() < distances.min() + 1e-5  # float32 may swap what is all but equally far
    assert classifier.score(queries, y[:1].repeat(9)) == np.mean(predicted == y[0])


def test_the_learner_sees_one_task_and_queries_in_chunks():
    spy = Spy()
    rng = np.random.default_rng(0)
    X, y = rng.random((7, 3, 4)), ["b", "a", "c", "a", "b", "b", "a"]
    classifier = FewShotClassifier(spy, seed=2).fit(X, y)
    assert [call[0] for call in spy.calls] == ["adapt"]
    _, params, xs, ys, n_way = spy.calls[0]
    assert params == {"drawn": np.random.default_rng(2).random()}
    assert (xs.shape, xs.dtype, ys.dtype, n_way) == ((1, 7, 3, 4, 1), np.float32, np.int64, 3)
    np.testing.assert_array_equal(xs[0, ..., 0], X.astype(np.float32))
    assert ys.tolist() == [[1, 0, 2, 0, 1, 1, 0]]
    queries = rng.random((600, 3, 4))
    answer = classifier.predict_proba(queries)
    assert [call[2].shape[1] for call in spy.calls[1:]] == [256, 256, 88]
    np.testing.assert_array_equal(np.concatenate([call[2][0] for call in spy.calls[1:]])[..., 0], queries.astype("f4"))
    alone = [classifier.predict_proba(queries[i : i + 1])[0] for i in (0, 255, 256, 599)]
    np.testing.assert_allclose(answer[[0, 255, 256, 599]], alone, rtol=1e-5)


def test_a_learner_to_which_order_matters_sees_the_examples_shuffled_by_the_seed():
    X, y = np.arange(40.0)[:, None], np.repeat(["a", "b"], 20)
    seen = {}
    for seed in (0, 0, 1):
        spy = Ordered()
        FewShotClassifier(spy, seed).fit(X, y)
        _, _, xs, ys, _ = spy.calls[0]
        np.testing.assert_array_equal(ys[0], xs[0, :, 0] >= 20)
        assert sorted(xs[0, :, 0]) == X[:, 0].tolist() != xs[0, :, 0].tolist()
        assert seen.setdefault(seed, xs.tolist()) == xs.tolist()
    assert seen[0] != seen[1]


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (["b", "a", "b", "c"], ["a", "b", "c"]),
        ([7, -2, 7, 3], [-2, 3, 7]),
        ([True, False, True, False], [False, True]),
        (np.array([2.0, 1.0, 1.0, 5.0]), [1.0, 2.0, 5.0]),
        (np.array(["y", "x", "y", "x"], object), ["x", "y"]),
        ([(1, 2), (0, 5), (1, 2), (0, 4)], [(0, 4), (0, 5), (1, 2)]),
        ([(1,), (0, 5), (1,), ()], [(), (0, 5), (1,)]),
        (["b", None, "a", None], ["b", None, "a"]),
        ([1, "1", 1, "1"], [1, "1"]),
    ],
)
def test_labels_of_any_hashable_type(y, classes):
    X = np.arange(4.0)[:, None]
    classifier = FewShotClassifier(NEAREST).fit(X, y)
    assert classifier.classes_.shape == (len(classes),)
    assert classifier.classes_.tolist() == classes
    assert classifier.predict(X).tolist() == list(y)
    assert classifier.score(X, y) == 1
    assert classifier.predict_proba(X).argmax(axis=1).tolist() == [classes.index(label) for label in y]


def test_labels_keep_their_dtype():
    X = np.arange(2.0)[:, None]
    assert FewShotClassifier(NEAREST).fit(X, np.array([4, 2], np.uint8)).predict(X).dtype == np.uint8


@given(st.integers(2, 12), st.integers(1, 6), st.integers(0, 2**32), st.booleans())
def test_learning_in_parts_is_learning_the_whole(first, later, seed, strings):
    rng = np.random.default_rng(seed)
    ids = np.concatenate([[0, 1], rng.integers(2, size=first - 2), rng.integers(5, size=later)])
    y = np.array([f"name {'x' * i}" for i in range(5)])[ids] if strings else ids
    X, queries = rng.normal(size=(len(y), 2)), rng.normal(size=(5, 2))
    whole = FewShotClassifier(Spy()).fit(X, y)
    parts = FewShotClassifier(Spy()).partial_fit(X[:first], y[:first]).partial_fit(X[first:], y[first:])
    assert parts.classes_.tolist() == whole.classes_.tolist()
    np.testing.assert_array_equal(parts.predict_proba(queries), whole.predict_proba(queries))
    assert set(parts.fit(X[:first], y[:first]).classes_) == set(y[:2])  # the rest is forgotten


def test_a_number_and_a_string_that_come_one_after_the_other_stay_what_they_are():
    classifier = FewShotClassifier(NEAREST).fit([[0.0], [1.0]], [1, 2]).partial_fit([[2.0]], ["1"])
    assert classifier.predict([[0.0], [2.0]]).tolist() == [1, "1"]


@pytest.mark.parametrize(
    ("X", "y", "classes", "message"),
    [
        ([[1.0, 2.0]], ["a"], None, "X has 2 features, but FewShotClassifier is expecting 1 features"),
        ([[np.nan]], ["a"], None, "NaN"),
        ([[1.0]], ["c"], ["a", "b"], "y holds .*'c'.*, which is not in classes=\\['a', 'b'\\]"),
    ],
)
def test_a_refused_part_changes_nothing(X, y, classes, message):
    classifier = FewShotClassifier(NEAREST).fit([[0.0], [1.0]], ["a", "b"])
    before = copy.deepcopy(vars(classifier))
    with pytest.raises(ValueError, match=message):
        classifier.partial_fit(X, y, classes)
    np.testing.assert_equal(vars(classifier), before)


def test_images_of_all_kinds_are_the_same_images(model):
    X, queries, y = images(6), images(4, seed=1), [0, 0, 1, 1, 2, 2]
    classifier = FewShotClassifier(model).fit(X, y)
    assert classifier.n_features_in_ == 784
    expected = classifier.predict_proba(queries)
    np.testing.assert_allclose(expected.sum(axis=1), 1, rtol=1e-12)
    for change in (lambda a: a[..., 0], lambda a: list(a), lambda a: a / 255, lambda a: (a / 255).tolist()):
        same = FewShotClassifier(model).fit(change(X), y).predict_proba(change(queries))
        np.testing.assert_allclose(same, expected, atol=1e-5)


def test_probabilities_are_those_of_the_learner(model):
    X, queries, ids = images(7), images(5, seed=1), [1, 0, 2, 1, 1, 0, 2]
    learner, params, _ = model
    state = learner.adapt(params, X[None] / np.float32(255), np.array(ids)[None], 3)
    powers = np.exp(np.float64(learner.predict(params, state, queries[None] / np.float32(255))[0]))
    probabilities = FewShotClassifier(model).fit(X, ["xyz"[i] for i in ids]).predict_proba(queries)
    np.testing.assert_allclose(probabilities, powers / powers.sum(axis=1, keepdims=True), atol=1e-5)


def test_a_run_folder_and_its_model_predict_the_same(run, model):
    X, y, queries = images(4), list("abab"), images(3, seed=1)
    expected = FewShotClassifier(model).fit(X, y).predict_proba(queries)
    for classifier in (FewShotClassifier(run), FewShotClassifier(str(run)), FewShotClassifier.load(run, seed=1)):
        np.testing.assert_array_equal(classifier.fit(X, y).predict_proba(queries), expected)


@pytest.mark.parametrize(("data", "inverted"), [("glyphs", True), ("omniglot", True), ("folder", False)])
def test_paths_are_read_as_the_model_was_trained(data, inverted, tmp_path):
    from PIL import Image

    X, y = images(4), list("abab")
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for path, image in zip(paths, X, strict=True):
        Image.fromarray(image[..., 0]).save(path)
    expected = ((255 - X if inverted else X) / 255)[None]
    for names in (paths, [str(path) for path in paths]):
        spy = Spy()
        FewShotClassifier(Model(spy, {}, replace(RECIPE, data=data))).fit(names, y).predict(names)
        (_, _, xs, _, _), (_, _, xq) = spy.calls
        assert xs.dtype == xq.dtype == np.float32
        np.testing.assert_allclose(xs, expected, atol=1e-6)
        np.testing.assert_allclose(xq, expected, atol=1e-6)
    plain = FewShotClassifier(replace(NEAREST, size=14)).fit(paths, y)
    assert plain.n_features_in_ == 14 * 14
    assert plain.score(paths, y) == 1


def test_a_fitted_classifier_survives_pickling_and_copying(run):
    X, y = images(4), list("abab")
    classifier = FewShotClassifier(run).fit(X, y)
    for file in run.iterdir():
        file.unlink()
    for same in (pickle.loads(pickle.dumps(classifier)), copy.deepcopy(classifier)):
        np.testing.assert_array_equal(same.predict_proba(X), classifier.predict_proba(X))
        assert same.partial_fit(X[:1], ["c"]).classes_.tolist() == ["a", "b", "c"]


def test_the_constructor_keeps_its_arguments_and_does_nothing(model):
    classifier = FewShotClassifier("no/such/folder", seed=3)
    assert vars(classifier) == classifier.get_params() == {"model": "no/such/folder", "seed": 3, "backend": "numpy"}
    assert classifier.set_params(model=model, seed=4) is classifier
    assert classifier.model is model
    assert repr(classifier) == f"FewShotClassifier({model.learner!r}, seed=4, backend='numpy')"
    with pytest.raises(ValueError, match="no parameter 'sede'; it has model, seed"):
        classifier.set_params(sede=1)


def test_a_changed_model_counts_from_the_next_fit():
    old, new = Spy(), Spy()
    classifier = FewShotClassifier(old).fit(TWO, ["a", "b"]).set_params(model=new)
    classifier.predict(TWO)
    classifier.partial_fit(TWO, ["a", "c"])
    assert new.calls == []
    classifier.fit(TWO, ["a", "b"]).predict(TWO)
    assert [call[0] for call in old.calls] == ["adapt", "predict", "adapt"]
    assert [call[0] for call in new.calls] == ["adapt", "predict"]


def test_labels_never_seen_are_predicted_wrong():
    classifier = FewShotClassifier(NEAREST).fit(TWO, ["1", "2"])
    assert classifier.score(TWO, ["1", "3"]) == 0.5
    assert classifier.score(TWO, [1, 2]) == classifier.score(TWO, [None, (1,)]) == 0
    with pytest.raises(ValueError, match="X has 2 examples, y has 1 labels"):
        classifier.score(TWO, ["1"])


@pytest.mark.parametrize("method", ["predict", "predict_proba"])
@pytest.mark.parametrize("kind", [NotFittedError, ValueError, AttributeError])
def test_predictions_before_fit(method, kind):
    with pytest.raises(kind, match="not fitted yet: call fit first"):
        getattr(FewShotClassifier(NEAREST), method)([[1.0]])


def test_other_sizes_than_the_trained_are_refused_by_name(model):
    y = list("abab")
    message = r"X has images of shape \(20, 20, 1\), but FewShotClassifier is expecting images of shape \(28, 28, 1\)"
    with pytest.raises(ValueError, match=message):
        FewShotClassifier(model).fit(images(4, side=20), y)
    with pytest.raises(ValueError, match=message):
        FewShotClassifier(model).fit(images(4), y).predict(images(4, side=20))
    with pytest.raises(ValueError, match=r"X has 784 features, but .* expecting images of shape \(28, 28, 1\)"):
        FewShotClassifier(model).fit(images(4).reshape(4, 784), y)
    with pytest.raises(ValueError, match=r"X has images of shape \(28, 28, 3\)"):
        FewShotClassifier(model).fit(np.zeros((4, 28, 28, 3)), y)


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (TWO, ["a", "a"], "y holds one class only, 'a'"),
        ([np.zeros((4, 4)), np.zeros((3, 3))], ["a", "b"], r"X has examples of different shapes: \(3, 3\), \(4, 4\)"),
        (TWO, ["a"], "X has 2 examples, y has 1 labels"),
        (TWO, [], "y is empty"),
        ([], ["a", "b"], "X has shape"),
        (np.zeros((0, 3)), ["a", "b"], "X has 0 sample"),
        (TWO, None, "target y is None"),
        (TWO, [0.5, 1.0], "Unknown label type: y holds 0.5, a continuous value"),
        (TWO, [1.0, np.nan], "y holds .*nan"),
        (TWO, ["a", np.nan], "y holds nan"),
        (TWO, np.array([["a"], ["b"]]), r"y has shape \(2, 1\)"),
        ([[np.inf], [1.0]], ["a", "b"], "NaN, inf"),
        ([[1e39], [1.0]], ["a", "b"], "too large for float32"),
        ([[1j], [1.0]], ["a", "b"], "Complex"),
        (np.full((2, 4, 4), 200.0), ["a", "b"], r"values 200\.\.200; need 0\.\.1, or 0\.\.255 with dtype uint8"),
        (np.full((2, 4, 4), -0.5), ["a", "b"], r"values -0.5\.\.-0.5"),
    ],
)
def test_what_cannot_be_learned_from(X, y, message):
    spy = Spy()
    with pytest.raises(ValueError, match=message):
        FewShotClassifier(spy).fit(X, y)
    assert spy.calls == []


def test_labels_that_cannot_be_hashed():
    with pytest.raises(TypeError, match="y holds labels that cannot be hashed: unhashable type: 'list'"):
        FewShotClassifier(NEAREST).fit(TWO, [["a"], ["b"]])


def test_models_that_cannot_classify(tmp_path, model):
    with pytest.raises(RunError, match="missing: not the folder of a run"):
        FewShotClassifier(tmp_path / "missing").fit(TWO, [0, 1])
    with pytest.raises(RunError, match="missing: not the folder of a run"):
        FewShotClassifier.load(tmp_path / "missing")
    for other in (None, 3, Spy):
        with pytest.raises(TypeError, match="need the folder of a run, a Model or a learner"):
            FewShotClassifier(other).fit(TWO, [0, 1])
    with pytest.raises(ValueError, match="trained on sinusoid, not classes"):
        FewShotClassifier(model._replace(recipe=replace(RECIPE, data="sinusoid", test_way=0))).fit(TWO, [0, 1])
    with pytest.raises(ValueError, match="does not say of which size"):
        FewShotClassifier(Spy()).fit(["a.png", "b.png"], [0, 1])


@dataclass(frozen=True)
class Answer(Spy):
    """Gives the same scores to whatever it is asked."""

    scores: Any = None

    def predict(self, params, state, xq):
        return np.array([self.scores], np.float32)


def answered(scores):
    return FewShotClassifier(Answer(scores=scores)).fit(TWO, ["a", "b"]).predict_proba(TWO[: len(scores)])


def test_as_many_scores_as_classes():
    with pytest.raises(ValueError, match=r"does not classify: 2 classes get scores \(3,\)"):
        answered([[0, 0, 0]])


@pytest.mark.parametrize("row", [[0, np.nan], [np.inf, 0], [-np.inf, -np.inf]])
def test_minus_infinity_is_a_score_and_nan_is_an_error(row):
    assert answered([[0, 0], [0, -np.inf]]).tolist() == [[0.5, 0.5], [1, 0]]
    with pytest.raises(ValueError, match="its scores are NaN or infinite"):
        answered([[0, 0], row])


def test_the_package_offers_it_and_no_other_name():
    assert minimeta.FewShotClassifier is FewShotClassifier
    with pytest.raises(AttributeError, match="module 'minimeta' has no attribute 'FewShotClasifier'"):
        minimeta.FewShotClasifier  # noqa: B018
