"""The learners, by family: metric-based, optimization-based, model-based. `make(name, **hyper)` builds any of them."""

from __future__ import annotations

import importlib
from dataclasses import fields

from minimeta.learners.base import Learner

_LEARNERS = {
    "siamese": ("minimeta.learners.metric_based.siamese", "Siamese"),
    "matching": ("minimeta.learners.metric_based.matching", "Matching"),
    "matching-fce": ("minimeta.learners.metric_based.matching_fce", "MatchingFCE"),
    "relation": ("minimeta.learners.metric_based.relation", "Relation"),
    "prototypical": ("minimeta.learners.metric_based.prototypical", "Prototypical"),
    "kernel": ("minimeta.learners.metric_based.kernel_classifier", "KernelClassifier"),
    "maml": ("minimeta.learners.optimization_based.maml", "MAML"),
    "fomaml": ("minimeta.learners.optimization_based.maml", "FOMAML"),
    "reptile": ("minimeta.learners.optimization_based.reptile", "Reptile"),
    "finetune": ("minimeta.learners.optimization_based.finetune", "FineTune"),
    "lstm-meta": ("minimeta.learners.optimization_based.lstm_meta_learner", "LSTMMetaLearner"),
    "ntm": ("minimeta.learners.model_based.ntm", "NTM"),
    "mann": ("minimeta.learners.model_based.mann", "MANN"),
    "lstm": ("minimeta.learners.model_based.lstm", "LSTM"),
    "meta-networks": ("minimeta.learners.model_based.meta_networks", "MetaNetworks"),
}


def names() -> list[str]:
    """The names that `make` knows.

    >>> "prototypical" in names()
    True
    """
    return list(_LEARNERS)


def hyper_parameters(name: str) -> list[str]:
    """The hyper-parameters of a learner; ValueError for a name that is none's.

    >>> hyper_parameters("prototypical")
    ['size', 'channels', 'filters', 'blocks', 'batch_norm', 'distance', 'temperature']
    """
    return [field.name for field in fields(_class(name))]  # type: ignore[arg-type]


def make(name: str, **hyper: object) -> Learner:
    """Build a learner by name with its hyper-parameters; raises ValueError for a name or hyper-parameter it has not.

    >>> make("prototypical", filters=32)
    Prototypical(size=28, channels=1, filters=32, blocks=4, batch_norm='running', ...)
    """
    known = hyper_parameters(name)
    for key in hyper:
        if key not in known:
            raise ValueError(f"{name} has no hyper-parameter {key!r}; it has {', '.join(known)}")
    # JSON knows no tuples
    return _class(name)(**{key: tuple(value) if isinstance(value, list) else value for key, value in hyper.items()})


def _class(name: str) -> type[Learner]:
    if name not in _LEARNERS:
        raise ValueError(f"unknown learner {name!r}; choose one of {', '.join(_LEARNERS)}")
    module, attribute = _LEARNERS[name]
    return getattr(importlib.import_module(module), attribute)  # type: ignore[no-any-return]
