"""scikit-learn's own checks of what it takes for an estimator, and its tools at work on ours."""

import warnings

import numpy as np
import pytest

from minimeta import FewShotClassifier, learners
from minimeta.experiment import Model
from minimeta.recipe import Recipe

pytest.importorskip("sklearn", minversion="1.9")
from sklearn.base import clone, is_classifier
from sklearn.model_selection import GridSearchCV, cross_val_score, learning_curve
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_is_fitted

# the k-NN rule: its probabilities are frequencies, which the rounding of float32 leaves alone
NEAREST = learners.make("kernel", blocks=0, kernel="euclidean", tau=0.0, neighbours=3)

FAILING = {
    "check_estimators_unfitted": "wants scikit-learn's own NotFittedError; ours has its name and its base classes",
    "check_supervised_y_2d": "wants a column of labels taken with a warning; here it is an error",
}

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "Estimator FewShotClassifier does not inherit")  # it does without scikit-learn
    CHECKS = parametrize_with_checks([FewShotClassifier(NEAREST)], expected_failed_checks=lambda estimator: FAILING)


@CHECKS
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def test_its_tags_bring_the_checks_of_a_classifier():
    assert is_classifier(FewShotClassifier(NEAREST))
    assert get_tags(FewShotClassifier(NEAREST)).target_tags.required


def blobs(each=20, spread=0.5):
    rng, labels = np.random.default_rng(0), np.repeat(["a", "b", "c"], each)
    centres = {"a": [0, 0], "b": [3, 0], "c": [0, 3]}
    order = rng.permutation(len(labels))
    X = np.array([centres[label] for label in labels]) + rng.normal(0, spread, (len(labels), 2))
    return X[order], labels[order]


def test_it_takes_part_in_cross_validation_pipelines_and_searches():
    X, y = blobs()
    pipeline = make_pipeline(StandardScaler(), FewShotClassifier(NEAREST))
    assert cross_val_score(pipeline, X, y, cv=3).mean() > 0.95
    # folds without strata would leave out classes that lie together, and score 0
    assert cross_val_score(FewShotClassifier(NEAREST), *(a[np.argsort(y)] for a in (X, y)), cv=3).mean() > 0.95
    far = learners.make("kernel", blocks=0, kernel="euclidean", tau=0.0, neighbours=40)
    search = GridSearchCV(FewShotClassifier(far), {"model": [far, NEAREST]}, cv=3).fit(X, y)
    assert search.best_params_ == {"model": NEAREST}


def test_it_learns_increment_by_increment():
    _, _, scores = learning_curve(
        FewShotClassifier(NEAREST), *blobs(), train_sizes=[10, 20, 40], cv=3, exploit_incremental_learning=True
    )
    assert scores[-1].mean() > 0.95


def test_clones_have_the_model_and_not_what_was_learned():
    recipe = Recipe("prototypical", "glyphs", way=5, shot=1, query=2, hyper={"filters": 2})
    learner = recipe.make_learner()
    model = Model(learner, learner.init(np.random.default_rng(3)), recipe)
    X, y = np.random.default_rng(0).random((4, 28, 28), np.float32), ["a", "a", "b", "b"]
    fitted = FewShotClassifier(model, seed=4).fit(X, y)
    copy = clone(fitted)
    assert (copy.model.learner, copy.model.recipe, copy.seed) == (learner, recipe, 4)
    check_is_fitted(fitted)
    assert not hasattr(copy, "classes_")
    np.testing.assert_array_equal(copy.fit(X, y).predict_proba(X), fitted.predict_proba(X))
    assert clone(FewShotClassifier("runs/mine")).model == "runs/mine"
