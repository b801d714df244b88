"""A training step of a memory-augmented network (Santoro et al. 2016): LSTM controller, least-recently-used writes.

400 pixels and the label before come in; memory 128 x 40, 4 heads. Reads go back into the
controller, and each head writes to the 4 least used rows, of which the very least is erased first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from workloads import layout, lstm
from workloads.adam import adam
from workloads.candidate import Candidate

from minimeta import layers, ops, optim, tree, value_and_grad
from minimeta.backend import namespace, to_device

WAY, PIXELS = 5, 400
ROWS, WIDTH, HEADS, UNITS = 128, 40, 4, 200
DECAY, EPS = 0.95, 1e-6


@dataclass(frozen=True)
class Mann:
    """Loss, gradient and Adam; the loss is the sum over time of the mean cross-entropy."""

    steps: int = 50
    batch: int = 16
    dtype: Any = np.float32
    bytes = 0.0

    @property
    def flop(self) -> float:
        reads = HEADS * WIDTH
        products = (PIXELS + WAY + reads + UNITS) * 4 * UNITS + UNITS * (2 * reads + HEADS) + (UNITS + reads) * WAY
        memory = (6 * HEADS + 2) * ROWS * WIDTH + (14 * HEADS + 8) * ROWS * WIDTH
        return float(self.steps * self.batch * (3 * 2 * products + memory))

    def minimeta(self, device: str = "numpy") -> Candidate:
        inputs, labels = (np.ascontiguousarray(a.swapaxes(0, 1)) for a in self._sequences())  # episodes first
        memory, inputs, labels, params = to_device((self._memory(), inputs, labels, self._init()), device)
        optimizer = optim.adam(1e-3)
        state = optimizer.init(params)
        loss_and_gradient = value_and_grad(lambda params: _loss(params, memory, inputs, labels))

        def step() -> Any:
            nonlocal params, state
            loss, gradient = loss_and_gradient(params)
            params, state = optimizer.update(gradient, state, params)
            return loss, gradient

        return Candidate(step, reset=None)

    def torch(self) -> dict[str, Candidate]:
        memory = list(map(layout.tensor, self._memory()))
        inputs, labels = map(layout.tensor, self._sequences())
        params = self._init()
        leaves = layout.to_torch({**params, "lstm": lstm.swap_gates(params["lstm"])})
        optimizer, reset = adam(leaves)

        def step() -> list[Any]:
            loss = _torch_loss(leaves, memory, inputs, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return [loss, *(leaf.grad for leaf in leaves)]

        return {"eager": Candidate(step, _arrays, reset)}

    def _sequences(self) -> tuple[np.ndarray, np.ndarray]:
        """Pixels and previous labels [steps, batch, PIXELS + WAY], labels [steps, batch]."""
        rng = np.random.default_rng(0)
        shape = (self.steps, self.batch)
        labels = rng.integers(WAY, size=shape)
        before = ops.one_hot(labels, WAY, dtype=self.dtype)
        before = np.concatenate([np.zeros_like(before[:1]), before[:-1]])
        return np.concatenate([rng.random((*shape, PIXELS), np.float32), before], axis=-1, dtype=self.dtype), labels

    def _memory(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The memory before the first step, its read weights and its usage: all of the first row."""
        shapes = (self.batch, ROWS, WIDTH), (self.batch, HEADS, ROWS), (self.batch, ROWS)
        memory, weights, usage = (np.zeros(shape, self.dtype) for shape in shapes)
        memory[...], weights[..., 0], usage[..., 0] = EPS, 1, 1
        return memory, weights, usage

    def _init(self) -> layers.Params:
        rng = np.random.default_rng(1)
        reads = HEADS * WIDTH
        shapes = {"key": (UNITS, reads), "add": (UNITS, reads), "gate": (UNITS, HEADS), "out": (UNITS + reads, WAY)}
        linear = {
            name: {"w": layers.uniform(rng, shape, shape[0]), "b": layers.uniform(rng, shape[1:], shape[0])}
            for name, shape in shapes.items()
        }
        params = {"lstm": lstm.init(rng, PIXELS + WAY + reads, UNITS), **linear}
        return tree.map(lambda w: w.astype(self.dtype), params)


def _loss(params: Any, start: Any, inputs: Any, labels: Any) -> Any:
    w, u, b = (params["lstm"][name] for name in ("w", "u", "b"))
    known = PIXELS + WAY  # what comes in from outside does not wait for the steps: one product for all of them
    recurrent = ops.concatenate([w[known:], u], axis=0)
    heads, bias = (ops.concatenate([params[n][name] for n in ("key", "add", "gate")], axis=-1) for name in ("w", "b"))
    (batch, steps), xp = inputs.shape[:2], namespace(inputs)
    hidden, reads = (xp.zeros((batch, *shape), inputs.dtype) for shape in ((UNITS,), (HEADS, WIDTH)))
    state = ops.LruaLstmState(hidden, hidden, reads, *start)
    hidden, reads, _ = ops.lrua_lstm(state, inputs @ w[:known] + b, recurrent, heads, bias, decay=DECAY, eps=EPS)
    outputs = ops.concatenate([hidden, reads.reshape(batch, steps, -1)], axis=-1)
    logits = outputs @ params["out"]["w"] + params["out"]["b"]
    return ops.cross_entropy(logits, labels, "sum") / batch


def _torch_loss(params: list[Any], start: list[Any], inputs: Any, labels: Any) -> Any:
    import torch
    from torch.nn import functional

    w, u, b, *linear = params
    key, add, gate, out = zip(linear[::2], linear[1::2], strict=True)
    batch = inputs.shape[1]
    h = c = inputs.new_zeros(batch, UNITS)
    no_bias = torch.zeros_like(b)
    reads = inputs.new_zeros(batch, HEADS * WIDTH)
    memory, read_weights, usage = start
    outputs = []
    for x in inputs:
        h, c = torch.lstm_cell(torch.cat([x, reads], -1), (h, c), w, u, b, no_bias)
        keys, adds = (torch.tanh(functional.linear(h, *p)).view(batch, HEADS, WIDTH) for p in (key, add))
        gates = torch.sigmoid(functional.linear(h, *gate))
        reads, memory, read_weights, usage = torch_step(memory, read_weights, usage, keys, adds, gates)
        reads = reads.flatten(1)
        outputs.append(torch.cat([h, reads], -1))
    logits = functional.linear(torch.stack(outputs), *out)
    return functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum") / batch


def torch_step(memory: Any, read_weights: Any, usage: Any, keys: Any, adds: Any, gates: Any) -> tuple[Any, ...]:
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
