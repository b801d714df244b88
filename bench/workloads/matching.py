"""Matching networks: 5-way 1-shot, 15 queries; conv4-64, the support set read by a biLSTM, cosine attention.

One training step's loss and gradients. Support and queries of an episode share their batch statistics.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from workloads import attention, images, layout, lstm
from workloads.candidate import Candidate

from minimeta import layers, ops, tree, value_and_grad
from minimeta.backend import namespace, to_device

WAY, QUERIES, UNITS = 5, 15, 64


@dataclass(frozen=True)
class Matching:
    tasks: int = 32
    dtype: Any = np.float32
    bytes = 0.0

    @property
    def flop(self) -> float:
        lstms = 2 * WAY * 2 * (2 * UNITS) * 4 * UNITS
        return 3.0 * self.tasks * (WAY * (1 + QUERIES) * images.forward_flop() + lstms)

    def minimeta(self, device: str = "numpy") -> Candidate:
        params, episode = self._init(), images.episode(self.tasks, WAY, QUERIES, self.dtype)
        x = np.concatenate([episode.xs, episode.xq], axis=1)
        labels = ops.one_hot(episode.ys, WAY, dtype=self.dtype)
        params, x, labels, targets = to_device((params, x, labels, episode.yq[..., None]), device)

        def loss(params: Any) -> Any:
            features, _ = layers.conv_net(params["net"], x)
            support, queries = features[:, :WAY], features[:, WAY:]
            probabilities = ops.cosine_attention(queries, _full_context(params, support), labels)
            return -ops.log(ops.take_along_axis(probabilities, targets)).mean()

        step = value_and_grad(loss)
        return Candidate(lambda: step(params))

    def torch(self) -> dict[str, Candidate]:
        import torch

        def loop(net: list[Any], x: Any) -> Any:
            return torch.stack([images.torch_features(net, task) for task in x])

        return {
            "loop": self._torch_step(loop),
            "loop, channels last": self._torch_step(loop, channels_last=True),
            "vmap": self._torch_step(torch.vmap(images.torch_features, in_dims=(None, 0))),
        }

    def _torch_step(self, embed: Callable[[list[Any], Any], Any], channels_last: bool = False) -> Candidate:
        import torch
        from torch.nn import functional

        params, episode = self._init(), images.episode(self.tasks, WAY, QUERIES, self.dtype)
        net = layout.to_torch(params["net"], channels_last)
        context = _torch_context(params)
        leaves = [*net, *(p for name, p in context.named_parameters() if "bias_hh" not in name)]
        x = layout.images(np.concatenate([episode.xs, episode.xq], axis=1))
        labels, targets = functional.one_hot(layout.tensor(episode.ys)).to(x), layout.tensor(episode.yq)

        def step() -> list[Any]:
            features = embed(net, x)
            support, queries = features[:, :WAY], features[:, WAY:]
            forward, backward = context(support)[0].chunk(2, dim=-1)
            probabilities = attention.torch_attention(queries, support + forward + backward, labels)
            loss = functional.nll_loss(probabilities.log().flatten(0, 1), targets.flatten())
            return [loss, *torch.autograd.grad(loss, leaves)]

        return Candidate(step, _arrays)

    def _init(self) -> layers.Params:
        rng = np.random.default_rng(1)
        net = layers.conv_net_init(rng)
        params = {"net": net, "forward": lstm.init(rng, UNITS, UNITS), "backward": lstm.init(rng, UNITS, UNITS)}
        return tree.map(lambda w: w.astype(self.dtype), params)


def _full_context(params: Any, support: Any) -> Any:
    """Both directions' hidden states added to the embeddings [T, S, D]."""
    steps = [support[:, i] for i in range(support.shape[1])]
    forward = _read(params["forward"], steps)
    backward = _read(params["backward"], steps[::-1])[::-1]
    return support + ops.stack(forward, axis=1) + ops.stack(backward, axis=1)


def _read(params: Any, steps: list[Any]) -> list[Any]:
    h = c = namespace(params["b"]).zeros((len(steps[0]), UNITS), steps[0].dtype)
    states = []
    for x in steps:
        h, c = ops.lstm_cell(x, h, c, params["w"], params["u"], params["b"])
        states.append(h)
    return states


def _torch_context(params: Any) -> Any:
    import torch

    directions = [layout.to_torch(lstm.swap_gates(params[name])) for name in ("forward", "backward")]
    context = torch.nn.LSTM(UNITS, UNITS, batch_first=True, bidirectional=True, dtype=directions[0][0].dtype)
    with torch.no_grad():
        for suffix, direction in zip(("l0", "l0_reverse"), directions, strict=True):
            for name, value in zip(("weight_ih", "weight_hh", "bias_ih"), direction, strict=True):
                context.get_parameter(f"{name}_{suffix}").copy_(value)
            context.get_parameter(f"bias_hh_{suffix}").zero_()  # one bias is enough: the cell adds the two
    return context


def _arrays(results: list[Any]) -> list[np.ndarray]:
    *others, w, u, b, w_back, u_back, b_back = layout.from_torch(results)
    return [*others, *map(lstm.swap_gates, (w, u, b, w_back, u_back, b_back))]
