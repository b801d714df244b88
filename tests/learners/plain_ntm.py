"""A Neural Turing Machine in plain NumPy: one sequence, loops over rows and heads, straight from the equations.

Imported as `from tests.learners import plain_ntm`. Nothing is shared with the engine or with the learner.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.learners.plain import sigmoid, softmax

START, EPS = 1e-6, 1e-16


def softplus(x: Any) -> Any:
    return np.log1p(np.exp(x))


def cosine(a: np.ndarray, b: np.ndarray) -> Any:
    return a @ b / np.sqrt((a @ a + EPS) * (b @ b + EPS))


def address(emitted: np.ndarray, memory: np.ndarray, before: np.ndarray, shift: int) -> np.ndarray:
    """Where one head is [N], from what was emitted for it: k, beta, g, a score for each of the shifts, gamma."""
    rows, width = memory.shape
    key, beta, gate = emitted[:width], softplus(emitted[width]), sigmoid(emitted[width + 1])
    shares, gamma = softmax(emitted[width + 2 : -1]), 1 + softplus(emitted[-1])
    content = softmax([beta * cosine(key, row) for row in memory])
    gated = [gate * content[i] + (1 - gate) * before[i] for i in range(rows)]
    shifted = np.zeros(rows)
    for j in range(rows):
        for by in range(-shift, shift + 1):
            shifted[(j + by) % rows] += gated[j] * shares[by + shift]
    sharp = (shifted + EPS) ** gamma
    return sharp / sum(sharp)


def read(memory: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return sum(weights[i] * memory[i] for i in range(len(memory)))


def write(memory: np.ndarray, weights: list[np.ndarray], erase: list[np.ndarray], add: list[np.ndarray]) -> np.ndarray:
    """Every head erases, and then every head adds."""
    memory = memory.copy()
    for i in range(len(memory)):
        for w, e in zip(weights, erase, strict=True):
            memory[i] = memory[i] * (1 - w[i] * e)
        for w, a in zip(weights, add, strict=True):
            memory[i] = memory[i] + w[i] * a
    return memory


def control(learner: Any, params: Any, x: np.ndarray, reads: Any, hidden: np.ndarray, cell: np.ndarray) -> Any:
    if learner.controller == "feed-forward":
        return np.tanh(x @ params["w"] + np.concatenate(reads) @ params["u"] + params["b"]), cell
    gates = x @ params["w"] + np.concatenate([*reads, hidden]) @ params["u"] + params["b"]
    i, f, o, candidate = np.split(gates, 4)
    cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(candidate)
    return sigmoid(o) * np.tanh(cell), cell


def run(learner: Any, params: Any, inputs: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """What is said to inputs [L, D], and the weights [L, heads, N] of heads that "read" and "write"."""
    hidden = cell = np.zeros(learner.hidden)
    memory = np.full((learner.rows, learner.width), START)
    reads = [np.zeros(learner.width)] * learner.reads
    weights = {"read": [np.eye(learner.rows)[0]] * learner.reads, "write": [np.eye(learner.rows)[0]] * learner.writes}
    address_size, vectors = learner.width + 2 * learner.shift + 4, learner.writes * [learner.width]
    ends = np.cumsum((learner.reads + learner.writes) * [address_size] + 2 * vectors)
    said, trace = [], {"read": [], "write": []}
    for x in inputs:
        hidden, cell = control(learner, params["controller"], x, reads, hidden, cell)
        *parts, rest = np.split(hidden @ params["memory"]["w"] + params["memory"]["b"], ends)
        assert not rest.size
        emitted = {"read": parts[: learner.reads], "write": parts[learner.reads : -2 * learner.writes]}
        erase = [sigmoid(part) for part in parts[-2 * learner.writes : -learner.writes]]
        add = parts[-learner.writes :]
        for kind in learner.order.split("-"):
            pairs = zip(emitted[kind], weights[kind], strict=True)
            weights[kind] = [address(head, memory, before, learner.shift) for head, before in pairs]
            if kind == "read":
                reads = [read(memory, w) for w in weights["read"]]
            else:
                memory = write(memory, weights["write"], erase, add)
            trace[kind].append(weights[kind])
        said.append(np.concatenate([hidden, *reads]) @ params["out"]["w"] + params["out"]["b"])
    return np.array(said), {kind: np.array(steps) for kind, steps in trace.items()}
