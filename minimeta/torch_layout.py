"""Weights trained by PyTorch as parameters of ours: convolutions OIHW -> HWIO, linear layers (out, in) -> [in, out].

What else differs: our convolutions have no bias before a batch norm, and flattened maps are in the order H, W, C.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from minimeta import tree
from minimeta.learners.base import Params, trainable

#: Where PyTorch has the axes of our arrays, by their number.
AXES = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,), 0: ()}
KINDS = ("weight", "bias", "running_mean", "running_var")
BLOCK = {"w", "gamma", "beta"}


def from_torch_layout(tensors: Mapping[str, Any], like: Params) -> Params:
    """Parameters with the names, shapes and dtypes of `like`, e.g. `learner.init(rng)`, from those of a PyTorch net.

    `tensors` are arrays by name, as `{name: tensor.numpy() for name, tensor in net.state_dict().items()}` gives them.
    Layers are matched by order, so `tensors` must be in that of `like`: what `safetensors.numpy.load_file` reads is
    sorted by name, and may have to be put in order first. Where there are several nets, each needs a prefix of its own:
    `{f"embed.{name}": ..., f"relate.{name}": ...}`.

    `like` is a nested dict of layers: conv blocks {"w" [kh, kw, in, out], "gamma" [out], "beta" [out]}, each filled
    from a convolution and a batch norm; convolutions and linear layers {"w", "b"}. Its entry "running" takes the
    running statistics {"mean" [out], "var" [out]} of the blocks by name: where the net has none, those of `like` stay,
    and where `like` has none, those of the net are dropped. The bias of a convolution before a batch norm, which
    subtracts it again, is subtracted from the running mean. A linear layer right after a convolution reads square maps.

    Raises ValueError naming the tensor and its shape, the place in `like` and the shape needed there, where tensors
    are missing, left over or do not fit.

    >>> like = {"fc": {"w": np.zeros((3, 2), np.float32), "b": np.zeros(2, np.float32)}}
    >>> from_torch_layout({"0.weight": np.arange(6.0).reshape(2, 3), "0.bias": np.ones(2)}, like)["fc"]["w"]
    array([[0., 3.],
           [1., 4.],
           [2., 5.]], dtype=float32)
    """
    source = _Tensors(tensors)
    weights, running = trainable(like), dict(like.get("running", {}))
    leaves: list[np.ndarray] = []
    channels = None  # of the maps that a layer reads, where it comes right after a convolution
    for place, layer in _layers(weights):
        if layer.keys() == BLOCK:
            filled = _block(source, place, layer, running)
        else:
            filled = _plain(source, place, layer, channels)
        leaves += [filled[key] for key in layer]
        weight = filled[_weight(layer)]
        channels = weight.shape[-1] if weight.ndim == 4 else None
    source.check_empty()
    params: Params = tree.unflatten(weights, leaves)
    return {**params, "running": running} if "running" in like else params


class _Tensors:
    """The tensors of a net, module by module, each in the order of KINDS; they are taken one after another."""

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        named = {name: np.asarray(tensor) for name, tensor in tensors.items() if _kind(name) != "num_batches_tracked"}
        for name, tensor in named.items():
            if _kind(name) not in KINDS:
                raise ValueError(
                    f"from_torch_layout: tensor {name} of shape {tensor.shape} is none of {', '.join(KINDS)}"
                )
        modules = list(dict.fromkeys(_module(name) for name in named))
        _check_order(modules)
        names = sorted(named, key=lambda name: (modules.index(_module(name)), KINDS.index(_kind(name))))
        self.rest = [(name, named[name]) for name in names]

    def next_is(self, kind: str) -> bool:
        """Whether the next tensor is of this kind; a module's first is its weight."""
        return bool(self.rest) and _kind(self.rest[0][0]) == kind

    def take(self, kind: str, place: str, like: Any) -> np.ndarray:
        """The next tensor, for `like` at `place`, in our layout."""
        axes = AXES[like.ndim]
        shape = tuple(like.shape[axis] for axis in axes)
        needed = f"{place}, which needs a {kind} of shape {shape or (1,)}"
        if not self.rest:
            raise ValueError(f"from_torch_layout: no tensor is left for {needed}")
        name, tensor = self.rest[0]
        if not self.next_is(kind) or tensor.shape != (shape or (1,)):
            raise ValueError(f"from_torch_layout: tensor {name} of shape {tensor.shape} does not fit {needed}")
        del self.rest[0]
        # a copy: arrays from PyTorch share memory with the net
        return np.array(tensor.reshape(shape).transpose(np.argsort(axes)), like.dtype, order="C")

    def check_empty(self) -> None:
        if self.rest:
            name, tensor = self.rest[0]
            raise ValueError(f"from_torch_layout: tensor {name} of shape {tensor.shape} is left over: it has no place")


def _kind(name: str) -> str:
    return name.rpartition(".")[2]


def _module(name: str) -> str:
    return name.rpartition(".")[0]


def _check_order(modules: list[str]) -> None:
    """Refuse 1, 10, 2: modules sorted as text, as in files, which are in another order than the layers."""
    if modules == sorted(modules) != sorted(modules, key=_natural):
        raise ValueError(f"from_torch_layout: {', '.join(modules)}: sorted by name; need the order of the layers")


def _natural(name: str) -> list[Any]:
    parts = re.split(r"(\d+)", name)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)]


def _layers(node: Any, place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """The layers in a nested dict, in order, and their places."""
    if isinstance(node, dict) and (not node or any(isinstance(child, dict) for child in node.values())):
        for name, child in node.items():
            yield from _layers(child, f"{place}/{name}" if place else name)
        return
    keys = node.keys() if isinstance(node, dict) else set()
    if keys != BLOCK and not (len(keys) == 2 and "b" in keys and node[_weight(node)].ndim in (2, 4)):
        raise ValueError(f"from_torch_layout: {place} ({', '.join(keys)}) is no layer of w, gamma, beta or of w, b")
    yield place, node


def _weight(layer: dict[str, Any]) -> str:
    """The name of the weights, whatever it is: a siamese network's are called alpha."""
    return next(key for key in layer if key not in ("b", "gamma", "beta"))


def _block(source: _Tensors, place: str, layer: dict[str, Any], running: dict[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of a conv block; its running statistics go into `running` if that has a place for them."""
    name, beta = place.rpartition("/")[2], layer["beta"]
    filled = {"w": source.take("weight", f"{place}/w", layer["w"])}
    bias = source.take("bias", f"running/{name}/mean", beta) if source.next_is("bias") else 0
    filled["gamma"] = source.take("weight", f"{place}/gamma", layer["gamma"])
    filled["beta"] = source.take("bias", f"{place}/beta", beta)
    if source.next_is("running_mean"):
        mean = source.take("running_mean", f"running/{name}/mean", beta)
        var = source.take("running_var", f"running/{name}/var", beta)
        if name in running:
            running[name] = {"mean": mean - bias, "var": var}
    return filled


def _plain(source: _Tensors, place: str, layer: dict[str, Any], channels: int | None) -> dict[str, np.ndarray]:
    """The arrays of a convolution or a linear layer that reads maps with `channels`."""
    name = _weight(layer)
    weight = source.take("weight", f"{place}/{name}", layer[name])
    if channels and weight.ndim == 2:
        inputs, outputs = weight.shape
        side = math.isqrt(inputs // channels)
        if inputs != side * side * channels:
            raise ValueError(
                f"from_torch_layout: {place}/{name}: {inputs} inputs are no square maps of {channels} channels"
            )
        weight = weight.reshape(channels, side, side, outputs).transpose(1, 2, 0, 3).reshape(inputs, outputs)
    return {name: weight, "b": source.take("bias", f"{place}/b", layer["b"])}
