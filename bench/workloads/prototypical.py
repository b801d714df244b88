"""Prototypical networks with conv4-64, 1-shot: a training step, and a prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from workloads import images, layout
from workloads.candidate import Candidate

from minimeta import optim, tree
from minimeta.learners.base import trainable
from minimeta.learners.metric_based.prototypical import Prototypical


@dataclass(frozen=True)
class TrainStep:
    """Loss, gradient, Adam, running statistics; support and queries go through the network together."""

    way: int
    queries: int
    dtype: Any = np.float32
    bytes = 0.0

    @property
    def flop(self) -> float:
        return 3.0 * images.FORWARD_FLOP * self.way * (1 + self.queries)

    def minimeta(self) -> Candidate:
        learner, optimizer = Prototypical(), optim.adam(1e-3)
        params = _init(self.dtype)
        state = optimizer.init(trainable(params))
        episode = images.episode(1, self.way, self.queries, self.dtype)

        def step() -> Any:
            nonlocal params, state
            loss, aux, grads = learner.meta_grad(params, episode)
            weights, state = optimizer.update(grads, state, trainable(params))
            params = {**weights, "running": aux["running"]}
            return loss, grads

        return Candidate(step)

    def torch(self) -> dict[str, Candidate]:
        import torch

        formats = {"eager": torch.contiguous_format, "channels last": torch.channels_last}
        return {name: self._torch_step(memory_format) for name, memory_format in formats.items()}

    def _torch_step(self, memory_format: Any) -> Candidate:
        import torch
        from torch.nn import functional

        episode = images.episode(1, self.way, self.queries, self.dtype)
        x = layout.images(np.concatenate([episode.xs[0], episode.xq[0]])).to(memory_format=memory_format)
        labels = torch.from_numpy(episode.yq[0])
        net = _torch_net(self.dtype, track_running_stats=True).to(memory_format=memory_format)
        optimizer = torch.optim.Adam(net.parameters())

        def step() -> list[Any]:
            features = net(x)
            loss = functional.cross_entropy(_torch_logits(features[: self.way], features[self.way :]), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return [loss, *(weights.grad for weights in net.parameters())]

        return Candidate(step, layout.from_torch)


@dataclass(frozen=True)
class Prediction:
    """Adapt to a support set and classify queries, both by the statistics of the batch, without gradients."""

    way: int
    queries: int
    bytes = 0.0

    @property
    def flop(self) -> float:
        return float(images.FORWARD_FLOP * self.way * (1 + self.queries))

    def minimeta(self) -> Candidate:
        learner, params = Prototypical(batch_norm="batch"), _init(np.float32)
        xs, ys, xq, _, n_way = images.episode(1, self.way, self.queries, np.float32)
        return Candidate(lambda: learner.predict(params, learner.adapt(params, xs, ys, n_way), xq))

    def torch(self) -> dict[str, Candidate]:
        import torch

        formats = {"eager": torch.contiguous_format, "channels last": torch.channels_last}
        return {name: self._torch_prediction(memory_format) for name, memory_format in formats.items()}

    def _torch_prediction(self, memory_format: Any) -> Candidate:
        import torch

        episode = images.episode(1, self.way, self.queries, np.float32)
        support, queries = (layout.images(x[0]).to(memory_format=memory_format) for x in (episode.xs, episode.xq))
        net = _torch_net(np.float32, track_running_stats=False).to(memory_format=memory_format)

        @torch.inference_mode()
        def predict() -> Any:
            return _torch_logits(net(support), net(queries))

        return Candidate(predict, lambda scores: [scores[None].numpy()])


def _init(dtype: Any) -> Any:
    return tree.map(lambda w: w.astype(dtype), Prototypical().init(np.random.default_rng(1)))


def _torch_net(dtype: Any, track_running_stats: bool) -> Any:
    """The network of `_init` as a module."""
    import torch
    from torch import nn

    values = layout.to_torch(_init(dtype)["net"])
    blocks: list[Any] = []
    for channels in (1, 64, 64, 64):
        norm = nn.BatchNorm2d(64, track_running_stats=track_running_stats)
        blocks += [nn.Conv2d(channels, 64, 3, padding=1, bias=False), norm, nn.ReLU(), nn.MaxPool2d(2)]
    net = nn.Sequential(*blocks, nn.Flatten()).to(values[0].dtype)
    with torch.no_grad():
        for weights, value in zip(net.parameters(), values, strict=True):
            weights.copy_(value)
    return net


def _torch_logits(prototypes: Any, queries: Any) -> Any:
    """With one shot, the examples are the prototypes."""
    return -((queries[:, None] - prototypes) ** 2).sum(-1)
