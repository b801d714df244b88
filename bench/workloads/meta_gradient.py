"""The gradient of MAML's outer loss in PyTorch, of all tasks at once or task by task.

`network(params, x)` and `loss(predictions, targets)`, a mean, are PyTorch's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from workloads import layout
from workloads.candidate import Candidate

Function = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class InnerLoop:
    """Gradient descent on the support set."""

    rate: float
    steps: int
    first_order: bool = False


def torch_loop(network: Function, loss: Function, inner: InnerLoop, leaves: list[Any], data: list[Any]) -> Candidate:
    """`data`: support inputs and targets, query inputs and targets, as tensors with a leading task axis."""
    import torch

    def run() -> list[Any]:
        for leaf in leaves:
            leaf.grad = None
        for xs, ys, xq, yq in zip(*data, strict=True):
            fast = leaves
            for _ in range(inner.steps):
                support_loss = loss(network(fast, xs), ys)
                gradient = torch.autograd.grad(support_loss, fast, create_graph=not inner.first_order)
                fast = [w - inner.rate * g for w, g in zip(fast, gradient, strict=True)]
            (loss(network(fast, xq), yq) / len(data[0])).backward()
        return [leaf.grad for leaf in leaves]

    return Candidate(run, layout.from_torch)


def torch_at_once(network: Function, loss: Function, inner: InnerLoop, leaves: list[Any], data: list[Any]) -> Candidate:
    """As minimeta's MAML does it: `network` takes parameters with a task axis of their own."""
    import torch

    xs, ys, xq, yq = data
    tasks = len(xs)

    def run() -> Any:
        fast = [leaf.expand(tasks, *leaf.shape) for leaf in leaves]
        for _ in range(inner.steps):
            support_loss = loss(network(fast, xs), ys) * tasks
            gradient = torch.autograd.grad(support_loss, fast, create_graph=not inner.first_order)
            fast = [w - inner.rate * g for w, g in zip(fast, gradient, strict=True)]
        return torch.autograd.grad(loss(network(fast, xq), yq), leaves)

    return Candidate(run, layout.from_torch)


def torch_vmap(network: Function, loss: Function, inner: InnerLoop, leaves: list[Any], data: list[Any]) -> Candidate:
    from torch.func import grad, vmap

    def task_loss(params: list[Any], xs: Any, ys: Any, xq: Any, yq: Any) -> Any:
        fast = params
        for _ in range(inner.steps):
            gradient = grad(lambda fast: loss(network(fast, xs), ys))(fast)
            if inner.first_order:
                gradient = [g.detach() for g in gradient]
            fast = [w - inner.rate * g for w, g in zip(fast, gradient, strict=True)]
        return loss(network(fast, xq), yq)

    all_tasks = vmap(task_loss, in_dims=(None, 0, 0, 0, 0))
    meta_gradient = grad(lambda params: all_tasks(params, *data).mean())
    constants = [leaf.detach() for leaf in leaves]
    return Candidate(lambda: meta_gradient(constants), layout.from_torch)


def passes(inner: InnerLoop, support: int, queries: int) -> int:
    """The work of one task, in forward passes of one example: a gradient takes 3, differentiating it too makes 9."""
    return inner.steps * support * (3 if inner.first_order else 9) + 3 * queries
