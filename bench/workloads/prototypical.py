"""Prototypical networks with conv4-64, 1-shot: a training step, and a prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from workloads import images, layout
from workloads.adam import adam
from workloads.candidate import Candidate

from minimeta import optim, tree
from minimeta.backend import to_device
from minimeta.learners.base import trainable
from minimeta.learners.metric_based.prototypical import Prototypical


@dataclass(frozen=True)
class TrainStep:
    """Loss, gradient, Adam, running statistics; support and queries go through the network together."""

    way: int
    queries: int
    dtype: Any = np.float32
    filters: int = 64
    bytes = 0.0

    @property
    def flop(self) -> float:
        return 3.0 * images.forward_flop(self.filters) * self.way * (1 + self.queries)

    def minimeta(self, device: str = "numpy") -> Candidate:
        learner, optimizer = Prototypical(filters=self.filters), optim.adam(1e-3)
        params = to_device(_init(self.dtype, self.filters), device)
        state = optimizer.init(trainable(params))
        episode = to_device(images.episode(1, self.way, self.queries, self.dtype), device)

        def step() -> Any:
            nonlocal params, state
            loss, aux, grads = learner.meta_grad(params, episode)
            weights, state = optimizer.update(grads, state, trainable(params))
            params = {**weights, "running": aux["running"]}
            return loss, grads

        return Candidate(step, reset=None)

    def torch(self) -> dict[str, Candidate]:
        import torch

        formats = {"eager": torch.contiguous_format, "channels last": torch.channels_last}
        return {name: self._torch_step(memory_format) for name, memory_format in formats.items()}

    def _torch_step(self, memory_format: Any) -> Candidate:
        from torch.nn import functional

        episode = images.episode(1, self.way, self.queries, self.dtype)
        x = layout.images(np.concatenate([episode.xs[0], episode.xq[0]])).to(memory_format=memory_format)
        labels = layout.tensor(episode.yq[0])
        net = _torch_net(self.dtype, self.filters, track_running_stats=True).to(memory_format=memory_format)
        optimizer, reset = adam(list(net.parameters()))

        def step() -> list[Any]:
            features = net(x)
            loss = functional.cross_entropy(_torch_logits(features[: self.way], features[self.way :]), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return [loss, *(weights.grad for weights in net.parameters())]

        return Candidate(step, layout.from_torch, reset)


@dataclass(frozen=True)
class Prediction:
    """Adapt to a support set and classify queries, both by the statistics of the batch, without gradients."""

    way: int
    queries: int
    bytes = 0.0

    @property
    def flop(self) -> float:
        return float(images.forward_flop() * self.way * (1 + self.queries))

    def minimeta(self, device: str = "numpy") -> Candidate:
        learner, params = Prototypical(batch_norm="batch"), to_device(_init(np.float32), device)
        xs, ys, xq, _, n_way = to_device(images.episode(1, self.way, self.queries, np.float32), device)
        return Candidate(lambda: learner.predict(params, learner.adapt(params, xs, ys, n_way), xq))

    def torch(self) -> dict[str, Candidate]:
        import torch

        formats = {"eager": torch.contiguous_format, "channels last": torch.channels_last}
        return {name: self._torch_prediction(memory_format) for name, memory_format in formats.items()}

    def _torch_prediction(self, memory_format: Any) -> Candidate:
        import torch

        episode = images.episode(1, self.way, self.queries, np.float32)
        support, queries = (layout.images(x[0]).to(memory_format=memory_format) for x in (episode.xs, episode.xq))
        net = _torch_net(np.float32, 64, track_running_stats=False).to(memory_format=memory_format)

        @torch.inference_mode()
        def predict() -> Any:
            return _torch_logits(net(support), net(queries))

        return Candidate(predict, lambda scores: layout.arrays([scores[None]]))


def _init(dtype: Any, filters: int = 64) -> Any:
    return tree.map(lambda w: w.astype(dtype), Prototypical(filters=filters).init(np.random.default_rng(1)))


def _torch_net(dtype: Any, filters: int, track_running_stats: bool) -> Any:
    """The network of `_init` as a module."""
    import torch
    from torch import nn

    values = layout.to_torch(_init(dtype, filters)["net"])
    blocks: list[Any] = []
    for channels in (1, filters, filters, filters):
        norm = nn.BatchNorm2d(filters, track_running_stats=track_running_stats)
        blocks += [nn.Conv2d(channels, filters, 3, padding=1, bias=False), norm, nn.ReLU(), nn.MaxPool2d(2)]
    net = nn.Sequential(*blocks, nn.Flatten()).to(values[0].dtype)
    with torch.no_grad():
        for weights, value in zip(net.parameters(), values, strict=True):
            weights.copy_(value)
    return net


def _torch_logits(prototypes: Any, queries: Any) -> Any:
    """With one shot, the examples are the prototypes."""
    return -((queries[:, None] - prototypes) ** 2).sum(-1)
