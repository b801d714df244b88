"""Between the layouts of minimeta and PyTorch: images NHWC and NCHW, filters HWIO and OIHW, matrices transposed."""

from __future__ import annotations

from typing import Any

import numpy as np

from minimeta import tree


def tensor(array: np.ndarray) -> Any:
    """On the device of `with torch.device`; on the processor it is the array's memory."""
    import torch

    return torch.as_tensor(array)


def arrays(tensors: Any) -> list[np.ndarray]:
    """Copied to the host where they are elsewhere."""
    return [tensor.detach().cpu().numpy() for tensor in tensors]


def to_torch(params: Any, channels_last: bool = False) -> list[Any]:
    """The leaves of a parameter tree as PyTorch lays them out, ready to be differentiated."""
    import torch

    tensors = [torch.tensor(_turn(leaf, (3, 2, 0, 1))) for leaf in tree.leaves(params)]
    if channels_last:
        tensors = [t.to(memory_format=torch.channels_last) if t.ndim == 4 else t for t in tensors]
    return [tensor.requires_grad_() for tensor in tensors]


def from_torch(tensors: list[Any]) -> list[np.ndarray]:
    """The inverse: leaves as minimeta lays them out."""
    return [_turn(array, (2, 3, 1, 0)) for array in arrays(tensors)]


def images(x: np.ndarray) -> Any:
    """[..., H, W, C] -> [..., C, H, W] as a tensor."""
    return tensor(np.ascontiguousarray(np.moveaxis(x, -1, -3)))


def _turn(leaf: np.ndarray, filters: tuple[int, ...]) -> np.ndarray:
    return np.ascontiguousarray(leaf.transpose(filters)) if leaf.ndim == 4 else leaf.T.copy()
