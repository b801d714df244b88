"""Learners that read an episode as a sequence, in plain NumPy: one episode, one step, one row and one number at a time.

Imported as `from tests.learners import plain_mann`. Nothing is shared with the engine or with the learners, which are
only asked for their settings; a learner without rows is an LSTM alone.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from tests.learners import plain

START, EPS = 1e-6, 1e-6


class Walk(NamedTuple):
    """What a sequence leaves, by time: outputs [L, O], weights [L, R, N], usage [L, N], memory [L, N, W], reads."""

    outputs: np.ndarray
    write: np.ndarray
    read: np.ndarray
    usage: np.ndarray
    memory: np.ndarray
    reads: np.ndarray


def walk(learner: Any, params: Any, inputs: np.ndarray) -> Walk:
    """Over one sequence [L, D]."""
    rows, heads = getattr(learner, "rows", 0), getattr(learner, "heads", 0)
    width = getattr(learner, "width", 0)
    controller, out = params["controller"], params["out"]
    hidden, cell, reads = np.zeros(learner.hidden), np.zeros(learner.hidden), np.zeros((heads, width))
    memory, usage = np.full((rows, width), START), np.array([1.0, *[0.0] * (rows - 1)] if rows else [])
    weights = np.stack([usage] * heads) if rows else np.zeros((0, 0))
    steps = []
    for x in inputs:
        pre = x @ controller["w"] + controller["b"]
        fed = reads.ravel() if rows and learner.feedback else np.zeros(0)
        if learner.controller == "lstm":
            i, f, o, candidate = np.split(pre + np.concatenate([fed, hidden]) @ controller["u"], 4)
            cell = plain.sigmoid(f) * cell + plain.sigmoid(i) * np.tanh(candidate)
            hidden = plain.sigmoid(o) * np.tanh(cell)
        else:
            hidden = np.tanh(pre + fed @ controller["u"])
        write = np.zeros((0, 0))
        if rows:
            keys, adds, gates = vectors(learner, params["memory"], hidden)
            before = memory
            memory, write = written(learner, memory, weights, usage, adds, gates)
            weights = looked_up(memory if learner.address == "after" else before, keys)
            reads = np.array([sum(w * row for w, row in zip(of_head, memory, strict=True)) for of_head in weights])
            usage = np.array([learner.decay * usage[n] + sum(weights[:, n]) + sum(write[:, n]) for n in range(rows)])
        output = np.concatenate([hidden, reads.ravel()]) @ out["w"] + out["b"]
        steps.append((output, write, weights, usage, memory, reads.ravel()))
    return Walk(*map(np.array, zip(*steps, strict=True)))


def vectors(learner: Any, weights: Any, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keys and what is added [R, W], gates [R]."""
    pre, size = hidden @ weights["w"] + weights["b"], learner.heads * learner.width
    keys, gates = np.tanh(pre[:size]), plain.sigmoid(pre[-learner.heads :])
    adds = np.tanh(pre[size : 2 * size]) if learner.write_vector == "separate" else keys
    return keys.reshape(learner.heads, -1), adds.reshape(learner.heads, -1), gates


def written(
    learner: Any, memory: np.ndarray, weights: np.ndarray, usage: np.ndarray, adds: np.ndarray, gates: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Memory after a step's writes, and the write weights [R, N]."""
    rows, heads = len(memory), learner.heads
    least = sorted(range(rows), key=lambda n: (usage[n], n))[:heads]
    write = np.zeros((heads, rows))
    for r in range(heads):
        for n in range(rows):
            target = n in least if learner.write_rows == "all" else n == least[r]
            write[r, n] = gates[r] * weights[r, n] + (1 - gates[r]) * target
    memory = memory.copy()
    memory[least[0]] = 0
    for n in range(rows):
        for r in range(heads):
            memory[n] += write[r, n] * adds[r]
    return memory, write


def looked_up(memory: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Read weights [R, N]."""
    cosines = [[k @ m / math.sqrt((k @ k) * (m @ m) + EPS) for m in memory] for k in keys]
    return np.array([plain.softmax(row) for row in cosines])


def sequence(xs: np.ndarray, ys: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """What a network is to be given of one episode [S, *feat], [S]: each example and the label before it."""
    before = [np.zeros(codes.shape[1]), *(codes[y] for y in ys[:-1])]
    return np.array([[*x.ravel(), *label] for x, label in zip(xs, before, strict=True)])


def log_probabilities(output: np.ndarray, alphabet: int) -> np.ndarray:
    """Of each character, from outputs [W]: a softmax for each place of a string."""
    return np.concatenate([np.log(plain.softmax(place)) for place in output.reshape(-1, alphabet)])


def said(learner: Any, params: Any, xs: np.ndarray, ys: np.ndarray, codes: np.ndarray, alphabet: int) -> np.ndarray:
    """Log-probabilities of characters [S, W] when each example of one episode comes."""
    outputs = walk(learner, params, sequence(xs, ys, codes)).outputs
    return np.array([log_probabilities(output, alphabet) for output in outputs])
