"""How a network says labels: as one of N, or as strings of five characters a..e (Santoro et al., 2016, section 4.1).

Either way a label is a row of zeros and ones, its code, and the network has a softmax over the alphabet per character;
one of N is a string of one character.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minimeta import ops

CHARACTERS, ALPHABET = 5, 5
STRINGS = ALPHABET**CHARACTERS  # 3125


def one_hot_codes(way: int) -> np.ndarray:
    """The codes float32 [way, way] of labels said as one of `way`."""
    return np.eye(way, dtype=np.float32)


def string_codes() -> np.ndarray:
    """The codes float32 [3125, 25] of labels said as strings: five one-hot characters one after another.

    The first five are aaaaa, bbbbb, ..., which have no character in common.

    >>> string_codes()[1].reshape(5, 5).argmax(axis=1)
    array([1, 1, 1, 1, 1])
    """
    # 781 is 11111 to the base 5, and has no divisor in common with 3125: every string is that of one label
    numbers = np.arange(STRINGS) * 781 % STRINGS
    characters = numbers[:, None] // ALPHABET ** np.arange(CHARACTERS)[::-1] % ALPHABET
    return np.eye(ALPHABET, dtype=np.float32)[characters].reshape(STRINGS, CHARACTERS * ALPHABET)


class Speech:
    """What outputs [..., W] of a network say about the first `n_way` of the labels with these codes [labels, W].

    They come in the dtype of `like`, an array of the same module. Raises ValueError where there are fewer labels.

    >>> speech = Speech(one_hot_codes(3), 3, n_way=2, like=np.zeros(1))
    >>> speech.scores(np.array([0.0, 0.0, 0.0])).round(2)
    array([-1.1, -1.1])
    """

    def __init__(self, codes: Any, alphabet: int, n_way: int, like: Any) -> None:
        if not 1 <= n_way <= len(codes):
            raise ValueError(f"n_way={n_way}; the network has words for 1 to {len(codes)} classes")
        self.codes = codes[:n_way].astype(like.dtype, copy=False)
        self.alphabet = alphabet

    def of(self, labels: Any) -> Any:
        """The codes [..., W] of labels [...]."""
        return self.codes[labels]

    def log_probabilities(self, outputs: Any) -> Any:
        """Of every character in each of its places, [..., W]."""
        characters = outputs.reshape(*outputs.shape[:-1], -1, self.alphabet)
        return ops.log_softmax(characters).reshape(*outputs.shape)

    def scores(self, outputs: Any) -> Any:
        """The log-probability [..., n_way] of each label."""
        return self.log_probabilities(outputs) @ self.codes.T

    def surprise(self, outputs: Any, labels: Any) -> Any:
        """The cross-entropy [...] of labels [...]: what saying them would have cost."""
        return -(self.log_probabilities(outputs) * self.of(labels)).sum(axis=-1)
