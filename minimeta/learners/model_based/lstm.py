"""An LSTM with no memory beside it, the baseline of Santoro et al. (2016): what it learns of a task is in its cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np

from minimeta.learners.base import Params
from minimeta.learners.model_based.base import SequenceLearner


@final
@dataclass(frozen=True)
class LSTM(SequenceLearner):
    """The controller of a memory network alone.

    >>> learner = LSTM(hidden=16)
    >>> params = learner.init(np.random.default_rng(0))
    >>> xs, ys = np.random.default_rng(1).random((1, 5, 20, 20, 1), np.float32), np.arange(5)[None]
    >>> learner.predict(params, learner.adapt(params, xs, ys, n_way=5), xs).shape
    (1, 5, 5)
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.controller != "lstm":
            raise ValueError(f"LSTM: controller={self.controller!r}; without a memory it must be 'lstm'")

    @property
    def read_size(self) -> int:
        return 0

    @property
    def fed_back(self) -> bool:
        return False

    def memory_init(self, rng: np.random.Generator) -> Params:
        return {}

    def memory_start(self, sequences: int, xp: Any, dtype: Any) -> None:
        return None

    def access(self, weights: Params, hidden: Any, memory: None) -> tuple[Any, None]:
        return hidden[:, :0], None
