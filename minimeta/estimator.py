"""Few-shot learning by scikit-learn's conventions: fit a handful of labelled examples, predict many more.

scikit-learn itself is not needed; where it is installed, its tools take a `FewShotClassifier` for one of their own.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from os import PathLike
from typing import Any, NamedTuple, Self

import numpy as np

from minimeta import backend, ops
from minimeta.evaluation import EXAMPLES_AT_ONCE
from minimeta.experiment import Model, load_model, trial_of
from minimeta.learners.base import Learner, Params
from minimeta.sources import INK

TOLERANCE = 1e-3  # by which resized images may leave 0..1


class NotFittedError(ValueError, AttributeError):
    """A prediction was asked for before any `fit`; of the same kind as scikit-learn's error of this name.

    >>> issubclass(NotFittedError, ValueError) and issubclass(NotFittedError, AttributeError)
    True
    """


@dataclass(eq=False, repr=False)
class FewShotClassifier:
    """A meta-trained learner as a classifier: `fit` adapts it to labelled examples of classes it has never seen.

    `model` is the folder of a run, a `Model` (`experiment.load_model`), or a learner alone; its parameters are then
    drawn by `seed`, which is of use for learners that have none, such as nearest neighbours. `seed` also draws the
    order of the examples for learners to which it matters. `backend` is where to compute: "numpy", or "cupy" on a GPU.

    Examples are images [n, H, W, C] or, grey, [n, H, W], float 0..1 or uint8 0..255; features [n, D], for a learner
    that takes them; or a list of paths of image files. A trained model wants the size it was trained on, and ink = 1
    if those were drawings (of files this is seen to). Labels are of any hashable type. Classes may differ in their
    numbers of examples. With batch_norm="batch" the examples of one prediction, 256 at a time, influence each other.

    Fitted attributes: `classes_` (sorted, or as they first appeared if they have no order), `n_features_in_`.

    >>> from minimeta import learners
    >>> rng = np.random.default_rng(0)
    >>> cats, dogs = rng.random((2, 3, 28, 28), np.float32) * [[[[0.5]]], [[[1.0]]]]
    >>> classifier = FewShotClassifier(learners.make("prototypical", filters=8))
    >>> classifier.fit([*cats[:2], dogs[0]], ["cat", "cat", "dog"]).predict([dogs[1], cats[2]]).tolist()
    ['dog', 'cat']
    """

    model: Model | Learner | str | PathLike[str]
    seed: int = 0
    backend: str = "numpy"

    @classmethod
    def load(cls, folder: str | PathLike[str], seed: int = 0, backend: str = "numpy") -> Self:
        """A classifier with the best model of a run folder, read now. Raises what `experiment.load_model` raises."""
        return cls(load_model(folder), seed, backend)

    def fit(self, X: Any, y: Any) -> Self:
        """Learn the classes of y [n] from the examples X, and forget any others. Returns self.

        Raises ValueError or TypeError for a model that cannot classify, for examples that are none or not as the
        model takes them, NaN or infinite, for labels that are missing or continuous, and for fewer than two classes.
        """
        trained = _trained(self.model, self.seed, self.backend)
        xs, labels = _labelled(X, y, trained)
        return self._adapt(trained, xs, labels)

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> Self:
        """Learn further examples, of new classes or of known ones, and keep the earlier. Returns self.

        `classes`, as scikit-learn's tools pass it, are the labels allowed. Raises as `fit` does and for a label not
        allowed, and then nothing has changed.
        """
        trained = self._trained if self._fitted() else _trained(self.model, self.seed, self.backend)
        xs, labels = _labelled(X, y, trained)
        if classes is not None:
            allowed = set(_label_array(classes))
            for label in labels:
                if label not in allowed:
                    raise ValueError(f"y holds {label!r}, which is not in classes={classes!r}")
        if self._fitted():
            xs, labels = np.concatenate([self._xs, xs]), _joined(self._labels, labels)
        return self._adapt(trained, xs, labels)

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each class, float64 [n, classes] with columns as in `classes_`: softmax of the logits.

        Raises NotFittedError before `fit`, ValueError for examples unlike those of `fit` and for scores that are
        NaN or infinite.
        """
        if not self._fitted():
            raise NotFittedError("this FewShotClassifier is not fitted yet: call fit first")
        xq = _examples(X, self._trained)
        learner, params, device, *_ = self._trained
        chunks = [xq[None, start : start + EXAMPLES_AT_ONCE] for start in range(0, len(xq), EXAMPLES_AT_ONCE)]
        predictions = (learner.predict(params, self._state, backend.to_device(chunk, device)) for chunk in chunks)
        scores = [backend.asnumpy(logits)[0] for logits in predictions]
        logits = np.concatenate(scores).astype(np.float64)
        if logits.shape[1:] != self.classes_.shape:
            raise ValueError(f"{learner} does not classify: {len(self.classes_)} classes get scores {logits.shape[1:]}")
        if not np.isfinite(logits.max(axis=1)).all():  # single scores may well be -inf
            raise ValueError(f"{learner}: its scores are NaN or infinite")
        return ops.softmax(logits)  # type: ignore[no-any-return]

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class [n] of each example. Raises as `predict_proba` does."""
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    def score(self, X: Any, y: Any) -> float:
        """The accuracy: the share of examples whose class is that of y [n]. Raises as `predict_proba` does."""
        predicted, labels = self.predict(X), _label_array(y)
        _check_lengths(predicted, labels)
        return float((predicted == labels).mean())

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments of the constructor by name; none has parameters of its own, so `deep` adds nothing."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def set_params(self, **params: Any) -> Self:
        """Change arguments of the constructor, for the next `fit`. Raises ValueError for a name it has not."""
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                raise ValueError(f"FewShotClassifier has no parameter {name!r}; it has {', '.join(known)}")
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        model = self.model.learner if isinstance(self.model, Model) else self.model  # weights would fill pages
        return f"FewShotClassifier({model!r}, seed={self.seed!r}, backend={self.backend!r})"

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags  # nobody but scikit-learn calls this

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=True),
            transformer_tags=None,
            classifier_tags=ClassifierTags(),
            regressor_tags=None,
            input_tags=InputTags(three_d_array=True),
        )

    def _fitted(self) -> bool:
        return hasattr(self, "classes_")

    def _adapt(self, trained: _Trained, xs: np.ndarray, labels: np.ndarray) -> Self:
        classes, ids = _numbered(labels)
        if len(classes) < 2:
            raise ValueError(f"y holds one class only, {str(classes[0])!r}; a classifier needs two")
        learner, params, device, *_ = trained
        shuffled = np.random.default_rng(self.seed).permutation(len(xs)) if learner.order_sensitive else slice(None)
        support, numbers = backend.to_device((xs[shuffled][None], ids[shuffled][None]), device)
        self._state = learner.adapt(params, support, numbers, len(classes))
        self._trained, self._xs, self._labels = trained._replace(shape=xs.shape[1:]), xs, labels
        self.classes_, self.n_features_in_ = classes, math.prod(xs.shape[1:])
        return self


class _Trained(NamedTuple):
    """A learner ready to adapt, on its device: the shape of an example, None if any will do, the data it knows."""

    learner: Learner
    params: Params
    device: str
    shape: tuple[int, ...] | None
    data: str | None


def _trained(model: Any, seed: int, device: str) -> _Trained:
    if isinstance(model, str | PathLike):
        model = load_model(model)
    if isinstance(model, Model):
        trial = trial_of(model.recipe)
        if trial.way == 0:
            raise ValueError(f"model={model.recipe.learner} trained on {trial.data}, not classes: it cannot classify")
        params = backend.to_device(model.params, device)
        return _Trained(model.learner, params, device, (trial.size, trial.size, trial.channels), trial.data)
    if isinstance(model, type) or not hasattr(model, "adapt"):
        raise TypeError(f"model={model!r}: need the folder of a run, a Model or a learner")
    params = backend.to_device(model.init(np.random.default_rng(seed)), device)
    return _Trained(model, params, device, None, None)


def _labelled(X: Any, y: Any, trained: _Trained) -> tuple[np.ndarray, np.ndarray]:
    """Examples and labels, checked, and as many of one as of the other."""
    labels = _label_array(y)
    xs = _examples(X, trained)
    _check_lengths(xs, labels)
    return xs, labels


def _check_lengths(xs: np.ndarray, labels: np.ndarray) -> None:
    if len(xs) != len(labels):
        raise ValueError(f"X has {len(xs)} examples, y has {len(labels)} labels; need one label per example")


def _examples(X: Any, trained: _Trained) -> np.ndarray:
    """Examples as the learner takes them, float32 [n, *feat]."""
    if isinstance(X, Sequence) and len(X) and isinstance(X[0], str | PathLike):
        return _read(X, trained)
    if hasattr(X, "tocsr"):
        raise TypeError("X is a sparse matrix, which is not supported; give X.toarray()")
    shapes = {np.shape(x) for x in X} if isinstance(X, Sequence) else set()
    if len(shapes) > 1:
        raise ValueError(f"X has examples of different shapes: {', '.join(map(str, sorted(shapes)))}; need one for all")
    given = np.asarray(X)
    if given.dtype.kind == "c":
        raise ValueError(f"Complex data not supported: X has dtype {given.dtype}")
    if given.ndim not in (2, 3, 4):
        raise ValueError(f"X has shape {given.shape}; need [n, D], [n, H, W] or [n, H, W, C]. Reshape your data")
    if given.size == 0:
        missing = "feature(s)" if len(given) else "sample(s)"
        raise ValueError(f"X has 0 {missing} (shape={given.shape}) while a minimum of 1 is required.")
    with np.errstate(over="ignore"):  # seen below
        xs = given.astype(np.float32)
    if not np.isfinite(xs).all():
        raise ValueError("X holds NaN, inf or a number too large for float32")
    if xs.ndim > 2:
        xs = _images(xs, scale=255 if given.dtype == np.uint8 else 1)
    if trained.shape is not None and xs.shape[1:] != trained.shape:
        found, expected = _in_words(xs.shape[1:]), _in_words(trained.shape)
        raise ValueError(f"X has {found}, but FewShotClassifier is expecting {expected} as input")
    return xs


def _images(xs: np.ndarray, scale: int) -> np.ndarray:
    """Images [n, H, W, C] within 0..1."""
    xs /= scale
    low, high = xs.min(), xs.max()
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        raise ValueError(f"X has images with values {low:g}..{high:g}; need 0..1, or 0..255 with dtype uint8")
    return xs[..., None] if xs.ndim == 3 else xs


def _in_words(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} features" if len(shape) == 1 else f"images of shape {shape}"


def _read(paths: Sequence[str | PathLike[str]], trained: _Trained) -> np.ndarray:
    """Image files as the learner takes them, float32 [n, size, size, channels]."""
    from minimeta.data.images import read_image

    shape = trained.shape or _own_shape(trained.learner)
    if len(shape) != 3 or shape[0] != shape[1]:
        raise ValueError(f"X has paths of images, but FewShotClassifier is expecting {_in_words(shape)} as input")
    return np.stack([read_image(path, shape[0], shape[2], ink=trained.data in INK) for path in paths])


def _own_shape(learner: Any) -> tuple[int, ...]:
    """The shape of the images that a learner is made for."""
    if not hasattr(learner, "size"):
        raise ValueError(f"X has paths of images, but {learner} does not say of which size; give arrays")
    return learner.size, learner.size, learner.channels


def _label_array(y: Any) -> np.ndarray:
    """Labels [n] as an array: of NumPy's own dtype if they are all of one kind, else of dtype object."""
    if y is None:
        raise ValueError("FewShotClassifier requires y to be passed, but the target y is None")
    labels = np.asarray(y) if hasattr(y, "__array__") else _one_kind(list(y))
    if labels.ndim != 1:
        raise ValueError(f"y has shape {labels.shape}; need one label per example, [n]")
    if not len(labels):
        raise ValueError("y is empty; need one label per example")
    for label in labels[labels != labels]:
        raise ValueError(f"y holds {label!r}, which is no label")
    if labels.dtype.kind == "f" and (labels != np.round(labels)).any():
        raise ValueError(f"Unknown label type: y holds {labels[labels != np.round(labels)][0]}, a continuous value")
    return labels


def _one_kind(labels: list[Any]) -> np.ndarray:
    kinds = {type(label) for label in labels}
    plain = len(kinds) == 1 and issubclass(kinds.pop(), str | bool | int | float | np.generic)
    return np.array(labels) if plain else np.fromiter(labels, object, len(labels))


def _joined(earlier: np.ndarray, later: np.ndarray) -> np.ndarray:
    """Both one after another; NumPy would turn a number beside a string into a string."""
    dtype = None if earlier.dtype.kind == later.dtype.kind else object
    return np.concatenate([earlier, later], dtype=dtype)


def _numbered(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The classes, sorted or else in order of appearance, and for each label the number of its class, int64."""
    if labels.dtype != object:
        classes, ids = np.unique(labels, return_inverse=True)
        return classes, ids.astype(np.int64)
    try:
        distinct = list(dict.fromkeys(labels))
    except TypeError as error:
        raise TypeError(f"y holds labels that cannot be hashed: {error}") from error
    with contextlib.suppress(TypeError):  # kinds that have no order
        distinct = sorted(distinct)
    number = {label: i for i, label in enumerate(distinct)}
    return np.fromiter(distinct, object, len(distinct)), np.array([number[label] for label in labels], np.int64)
