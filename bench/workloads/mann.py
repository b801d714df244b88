"""A training step of a memory-augmented network (Santoro et al. 2016): LSTM controller, least-recently-used writes.

50 time steps of 16 episodes; 400 pixels and the label before come in; memory 128 x 40, 4 heads. Reads go back into the
controller, and each head writes to the 4 least used rows, of which the very least is erased first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from workloads import layout, lstm
from workloads.candidate import Candidate

from minimeta import layers, ops, optim, value_and_grad

STEPS, BATCH, WAY, PIXELS = 50, 16, 5, 400
ROWS, WIDTH, HEADS, UNITS = 128, 40, 4, 200
DECAY, EPS = 0.95, 1e-6


@dataclass(frozen=True)
class Mann:
    """Loss, gradient and Adam; the loss is the sum over time of the mean cross-entropy."""

    bytes = 0.0

    @property
    def flop(self) -> float:
        reads = HEADS * WIDTH
        products = (PIXELS + WAY + reads + UNITS) * 4 * UNITS + UNITS * (2 * reads + HEADS) + (UNITS + reads) * WAY
        memory = (6 * HEADS + 2) * ROWS * WIDTH + (14 * HEADS + 8) * ROWS * WIDTH
        return float(STEPS * BATCH * (3 * 2 * products + memory))

    def minimeta(self) -> Candidate:
        inputs, labels = (np.ascontiguousarray(a.swapaxes(0, 1)) for a in _sequences())  # episodes first
        params, optimizer = _init(), optim.adam(1e-3)
        state = optimizer.init(params)
        loss_and_gradient = value_and_grad(lambda params: _loss(params, inputs, labels))

        def step() -> Any:
            nonlocal params, state
            loss, gradient = loss_and_gradient(params)
            params, state = optimizer.update(gradient, state, params)
            return loss, gradient

        return Candidate(step)

    def torch(self) -> dict[str, Candidate]:
        import torch

        inputs, labels = map(torch.from_numpy, _sequences())
        params = _init()
        leaves = layout.to_torch({**params, "lstm": lstm.swap_gates(params["lstm"])})
        optimizer = torch.optim.Adam(leaves)

        def step() -> list[Any]:
            loss = _torch_loss(leaves, inputs, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return [loss, *(leaf.grad for leaf in leaves)]

        return {"eager": Candidate(step, _arrays)}


def _sequences() -> tuple[np.ndarray, np.ndarray]:
    """Pixels and previous labels [STEPS, BATCH, PIXELS + WAY], labels [STEPS, BATCH]."""
    rng = np.random.default_rng(0)
    labels = rng.integers(WAY, size=(STEPS, BATCH))
    before = ops.one_hot(labels, WAY)
    before = np.concatenate([np.zeros_like(before[:1]), before[:-1]])
    return np.concatenate([rng.random((STEPS, BATCH, PIXELS), np.float32), before], axis=-1), labels


def _init() -> layers.Params:
    rng = np.random.default_rng(1)
    reads = HEADS * WIDTH
    shapes = {"key": (UNITS, reads), "add": (UNITS, reads), "gate": (UNITS, HEADS), "out": (UNITS + reads, WAY)}
    linear = {
        name: {"w": layers.uniform(rng, shape, shape[0]), "b": layers.uniform(rng, shape[1:], shape[0])}
        for name, shape in shapes.items()
    }
    return {"lstm": lstm.init(rng, PIXELS + WAY + reads, UNITS), **linear}


def _loss(params: Any, inputs: np.ndarray, labels: np.ndarray) -> Any:
    w, u, b = (params["lstm"][name] for name in ("w", "u", "b"))
    known = PIXELS + WAY  # what comes in from outside does not wait for the steps: one product for all of them
    recurrent = ops.concatenate([w[known:], u], axis=0)
    heads, bias = (ops.concatenate([params[n][name] for n in ("key", "add", "gate")], axis=-1) for name in ("w", "b"))
    state = ops.LruaLstmState(
        hidden=np.zeros((BATCH, UNITS), np.float32),
        cell=np.zeros((BATCH, UNITS), np.float32),
        reads=np.zeros((BATCH, HEADS, WIDTH), np.float32),
        memory=np.full((BATCH, ROWS, WIDTH), EPS, np.float32),
        weights=ops.one_hot(np.zeros((BATCH, HEADS), int), ROWS),
        usage=ops.one_hot(np.zeros(BATCH, int), ROWS),
    )
    hidden, reads, _ = ops.lrua_lstm(state, inputs @ w[:known] + b, recurrent, heads, bias, decay=DECAY, eps=EPS)
    outputs = ops.concatenate([hidden, reads.reshape(BATCH, STEPS, -1)], axis=-1)
    logits = outputs @ params["out"]["w"] + params["out"]["b"]
    return ops.cross_entropy(logits, labels, "sum") / BATCH


def _torch_loss(params: list[Any], inputs: Any, labels: Any) -> Any:
    import torch
    from torch.nn import functional

    w, u, b, *linear = params
    key, add, gate, out = zip(linear[::2], linear[1::2], strict=True)
    h = c = torch.zeros(BATCH, UNITS)
    no_bias = torch.zeros_like(b)
    reads = torch.zeros(BATCH, HEADS * WIDTH)
    memory = torch.full((BATCH, ROWS, WIDTH), EPS)
    usage = functional.one_hot(torch.zeros(BATCH, dtype=torch.long), ROWS).float()
    read_weights = functional.one_hot(torch.zeros(BATCH, HEADS, dtype=torch.long), ROWS).float()
    outputs = []
    for x in inputs:
        h, c = torch.lstm_cell(torch.cat([x, reads], -1), (h, c), w, u, b, no_bias)
        keys, adds = (torch.tanh(functional.linear(h, *p)).view(BATCH, HEADS, WIDTH) for p in (key, add))
        gates = torch.sigmoid(functional.linear(h, *gate))
        reads, memory, read_weights, usage = _torch_step(memory, read_weights, usage, keys, adds, gates)
        reads = reads.flatten(1)
        outputs.append(torch.cat([h, reads], -1))
    logits = functional.linear(torch.stack(outputs), *out)
    return functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum") / BATCH


def _torch_step(memory: Any, read_weights: Any, usage: Any, keys: Any, adds: Any, gates: Any) -> tuple[Any, ...]:
    import torch

    least_used = usage.argsort(dim=-1, stable=True)[:, :HEADS]
    targets = torch.zeros_like(usage).scatter_(1, least_used, 1.0)
    kept = torch.ones_like(usage).scatter_(1, least_used[:, :1], 0.0)
    gates = gates[..., None]
    write_weights = gates * read_weights + (1 - gates) * targets[:, None]
    memory = torch.baddbmm(memory * kept[..., None], write_weights.transpose(1, 2), adds)
    lengths = keys.square().sum(-1)[..., None] * memory.square().sum(-1)[:, None]
    read_weights = torch.softmax(torch.bmm(keys, memory.transpose(1, 2)) * torch.rsqrt(lengths + EPS), -1)
    with torch.no_grad():
        usage = DECAY * usage + (read_weights + write_weights).sum(1)
    return torch.bmm(read_weights, memory), memory, read_weights, usage


def _arrays(results: list[Any]) -> list[np.ndarray]:
    loss, w, u, b, *linear = layout.from_torch(results)
    return [loss, *map(lstm.swap_gates, (w, u, b)), *linear]
