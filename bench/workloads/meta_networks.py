"""The meta-gradient of Meta Networks (Munkhdalai & Yu 2017) on one 5-way 1-shot task, by the official networks.

PyTorch has the gradients of single examples by a loop or by `vmap`, and convolves each query with fast weights of its
own in groups or by matrix products of its patches.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from workloads import images, layout, lstm
from workloads.candidate import Candidate

from minimeta import tree
from minimeta.backend import to_device
from minimeta.learners.model_based.meta_networks import MetaNetworks

WAY, BLOCKS, P = 5, 5, 7.0


@dataclass(frozen=True)
class MetaNetworksGradient:
    """Loss and gradient with `queries` queries per class and `filters` filters per convolution."""

    queries: int = 10
    filters: int = 64
    dtype: Any = np.float32
    bytes = 0.0

    @property
    def flop(self) -> float:
        f, queries = self.filters, WAY * self.queries
        net = 2 * 9 * f * (28**2 + f * (14**2 + 7**2 + 4**2 + 2**2))
        # slow and fast: the embedding of all images, the base learner of queries; slow alone: both, of the support set
        nets = 2 * (2 * queries + WAY) + 2 * WAY
        coordinates, h = 9 * f * (1 + 4 * f) + f * f, MetaNetworks().hidden
        generators = 2 * WAY * coordinates * ((2 + h) * 4 * h + 2 * h + h * h + h)
        return 3.0 * (nets * net + generators)

    def minimeta(self, device: str = "numpy") -> Candidate:
        learner = MetaNetworks(filters=self.filters)
        params, episode = to_device(self._init(), device), to_device(self._episode(), device)

        def gradient() -> Any:
            loss, _, grads = learner.meta_grad(params, episode)
            return [loss, *tree.leaves({**grads, "embedding": _trained(grads["embedding"])})]

        return Candidate(gradient)

    def torch(self) -> dict[str, Candidate]:
        return {
            "loop": self._torch_gradient(_by_loop, _in_groups),
            "vmap": self._torch_gradient(_by_vmap, _in_groups),
            "vmap, patches": self._torch_gradient(_by_vmap, _by_patches),
        }

    def _torch_gradient(self, by_example: Callable[..., Any], convolve: Callable[..., Any]) -> Candidate:
        import torch

        params = self._init()
        head = layout.tensor(params["embedding"]["head"].T.copy())
        params["embedding"] = _trained(params["embedding"])
        for generator in params["task"].values():
            generator |= lstm.swap_gates({name: generator[name] for name in ("w", "u", "b")})
        leaves = layout.to_torch(params)
        named = tree.unflatten(params, leaves)
        episode = self._episode()
        xs, xq = layout.images(episode.xs[0]), layout.images(episode.xq[0])
        ys, yq = layout.tensor(episode.ys[0]), layout.tensor(episode.yq[0])

        def gradient() -> list[Any]:
            loss = _torch_loss(named, head, xs, ys, xq, yq, by_example, convolve)
            return [loss, *torch.autograd.grad(loss, leaves)]

        def arrays(results: list[Any]) -> list[np.ndarray]:
            loss, *gradients = layout.from_torch(results)
            gradients = tree.unflatten(params, gradients)
            for generator in gradients["task"].values():
                generator |= {name: lstm.swap_gates(generator[name]) for name in ("w", "u", "b")}
            return [loss, *tree.leaves(gradients)]

        return Candidate(gradient, arrays)

    def _init(self) -> Any:
        init = MetaNetworks(filters=self.filters).init(np.random.default_rng(1))
        return tree.map(lambda w: w.astype(self.dtype), init)

    def _episode(self) -> Any:
        return images.episode(1, WAY, self.queries, self.dtype)


def _trained(embedding: Any) -> Any:
    """The layers of the embedding that are trained: its head is not, nor what compares pairs."""
    return {name: w for name, w in embedding.items() if name not in ("head", "pair")}


def _torch_loss(
    params: Any, head: Any, xs: Any, ys: Any, xq: Any, yq: Any,
    by_example: Callable[..., Any], convolve: Callable[..., Any],
) -> Any:  # fmt: skip
    import torch
    from torch.nn import functional

    embedding, base = params["embedding"], params["base"]
    of_embedding = by_example(_constant(embedding, "conv", "dense"), head, xs, ys)
    of_base = by_example(_constant(base, "conv", "dense", "head"), None, xs, ys)
    fast = _generated(of_embedding, lambda kind, seen: _torch_lstm(params["task"][kind], seen))
    memory = _generated(of_base, lambda kind, seen: _torch_mlp(params["example"][kind], seen))
    keys, queries = (_torch_key(embedding, fast, x) for x in (xs, xq))
    attention = torch.softmax(functional.normalize(queries, dim=1) @ functional.normalize(keys, dim=1).T, dim=1)
    own = {name: (attention @ w.flatten(1)).reshape(len(xq), *w.shape[1:]) for name, w in memory.items()}
    for name in _convolutions():
        xq = _torch_layer(functional.conv2d(xq, base[name], padding=1), convolve(xq, own[name]))
    xq = xq.flatten(1)
    hidden = torch.relu(functional.linear(xq, base["dense"])) + torch.relu(_each(own["dense"], xq))
    return functional.cross_entropy(functional.linear(hidden, base["head"]) + _each(own["head"], hidden), yq)


def _convolutions() -> list[str]:
    return [f"conv{i + 1}" for i in range(BLOCKS)]


def _each(weights: Any, x: Any) -> Any:
    """x [Q, I] by matrices [Q, O, I] of its rows' own."""
    import torch

    return torch.einsum("qoi,qi->qo", weights, x)


def _torch_layer(*results: Any) -> Any:
    import torch
    from torch.nn import functional

    return functional.max_pool2d(sum(map(torch.relu, results)), 2, ceil_mode=True)


def _torch_key(slow: Any, fast: Any, x: Any) -> Any:
    from torch.nn import functional

    for name in _convolutions():
        x = _torch_layer(*(functional.conv2d(x, net[name], padding=1) for net in (slow, fast)))
    return functional.linear(x.flatten(1), slow["dense"]) + functional.linear(x.flatten(1), fast["dense"])


def _in_groups(x: Any, weights: Any) -> Any:
    """x [Q, C, H, W] by filters [Q, O, C, 3, 3] of its images' own."""
    from torch.nn import functional

    maps = functional.conv2d(x.flatten(0, 1)[None], weights.flatten(0, 1), padding=1, groups=len(x))
    return maps.reshape(len(x), -1, *x.shape[2:])


def _by_patches(x: Any, weights: Any) -> Any:
    from torch.nn import functional

    return (weights.flatten(2) @ functional.unfold(x, 3, padding=1)).reshape(len(x), -1, *x.shape[2:])


def _constant(net: Any, *kinds: str) -> dict[str, Any]:
    """Layers of these kinds without their history."""
    return {name: w.detach() for name, w in net.items() if name.startswith(kinds)}


def _example_loss(net: Any, head: Any, x: Any, y: Any) -> Any:
    import torch
    from torch.nn import functional

    x = x[None]
    for name in _convolutions():
        x = _torch_layer(functional.conv2d(x, net[name], padding=1))
    hidden = torch.relu(functional.linear(x.flatten(1), net["dense"]))
    return functional.cross_entropy(functional.linear(hidden, net["head"] if head is None else head), y[None])


def _by_loop(net: Any, head: Any, xs: Any, ys: Any) -> dict[str, Any]:
    import torch

    leaves = [w.requires_grad_() for w in net.values()]
    losses = (_example_loss(net, head, x, y) for x, y in zip(xs, ys, strict=True))
    gradients = [torch.autograd.grad(loss, leaves) for loss in losses]
    return {name: torch.stack(of) for name, of in zip(net, zip(*gradients, strict=True), strict=True)}


def _by_vmap(net: Any, head: Any, xs: Any, ys: Any) -> dict[str, Any]:
    import torch

    gradient = torch.func.vmap(torch.func.grad(_example_loss), in_dims=(None, None, 0, 0))
    found: dict[str, Any] = gradient(net, head, xs, ys)
    return found


def _generated(gradients: dict[str, Any], generate: Callable[[str, Any], Any]) -> dict[str, Any]:
    """Fast weights by layer, of both kinds of layers."""
    import torch

    fast = {}
    for kind, names in (("conv", _convolutions()), ("dense", [name for name in gradients if "conv" not in name])):
        x = torch.cat([gradients[name].flatten(1) for name in names], dim=1)
        seen = torch.stack([x.abs().clamp_min(math.exp(-P)).log() / P, (x * math.exp(P)).clamp(-1, 1)], dim=-1)
        weights = generate(kind, seen)
        parts = weights.split([gradients[name][0].numel() for name in names], dim=-1)
        for name, part in zip(names, parts, strict=True):
            shape = gradients[name].shape
            fast[name] = part.reshape(shape if part.ndim == 2 else shape[1:])
    return fast


def _torch_lstm(weights: Any, seen: Any) -> Any:
    import torch
    from torch.nn import functional

    w, u, b = weights["w"], weights["u"], weights["b"]
    state = seen.new_zeros(1, seen.shape[1], u.shape[1])
    # one bias is enough: the cell adds the two
    hidden = torch.lstm(seen, (state, state), [w, u, b, torch.zeros_like(b)], True, 1, 0.0, True, False, False)[1][0]
    return functional.linear(hidden, weights["out"]["w"], weights["out"]["b"])[..., 0]


def _torch_mlp(weights: Any, seen: Any) -> Any:
    import torch
    from torch.nn import functional

    *layers, out = ((layer["w"], layer["b"]) for layer in weights.values())
    for layer in layers:
        seen = torch.relu(functional.linear(seen, *layer))
    return functional.linear(seen, *out)[..., 0]
