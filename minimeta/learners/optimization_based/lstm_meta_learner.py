"""The LSTM meta-learner (Ravi and Larochelle, 2017): an LSTM whose cell state is the weights of a network.

With l_t and g_t the loss of step t on the support set and its gradient, for every coordinate of theta by one rule:

    h_t = LSTM([logAndSign(l_t), logAndSign(g_t)], h_t-1)        an ordinary one; each coordinate has its own state
    F_t = w_F . [h_t, theta_t-1, F_t-1] + b_F,   I_t likewise,   F_0 = I_0 = 0
    theta_t = sigmoid(F_t) theta_t-1 - sigmoid(I_t) g_t

These weights and theta_0 are trained on the loss of the queries under theta_T. Losses and gradients of the support set
are constants in that: there are no second derivatives.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, final

import numpy as np

from minimeta import ops
from minimeta.autodiff import grad, scope, stop_gradient
from minimeta.data.episodes import Episode
from minimeta.learners.base import Params, check_choice, check_least
from minimeta.learners.coordinates import flat, layered, log_and_sign
from minimeta.learners.optimization_based.base import OptimizationLearner, last, per_task
from minimeta.learners.optimization_based.minibatches import minibatches

FEEDBACKS = ("pre", "post")
#: Where b_F and b_I are drawn: at first 0.99 of theta is kept at each step, and the rate is about 0.01.
BIASES = ((4.0, 5.0), (-5.0, -4.0))


class Memory(NamedTuple):
    """What coordinates remember: `hidden` and `cell` of the LSTM [T, P, H]; F and I [2, T, P] as gates see them."""

    hidden: Any
    cell: Any
    gates: Any


@final
@dataclass(frozen=True)
class LSTMMetaLearner(OptimizationLearner):
    """Adaptation by `inner_steps` steps in training and `test_steps` in test, on `inner_batch` support examples each.

    Of a larger support set, steps take one mini-batch after another. `hidden` is the size H of the LSTM. A gate sees
    its own last value: `gate_feedback` "pre", from before the sigmoid, as in the official code, or "post", from behind
    it, as in the paper. `grad_div_batch` divides gradients of the mean loss by the size of the batch, as the official
    code does: rates are that much smaller. Training holds about 8 H numbers per coordinate, step and task: some 200 MB
    for a task with the defaults.

    >>> learner = LSTMMetaLearner(filters=8)
    >>> params = learner.init(np.random.default_rng(0))
    >>> xs, ys = np.random.default_rng(1).random((1, 5, 28, 28, 1), np.float32), np.arange(5)[None]
    >>> learner.predict(params, learner.adapt(params, xs, ys, n_way=5), xs).shape
    (1, 5, 5)
    """

    architecture: str = "conv4"
    filters: int = 32
    batch_norm: str = "episode"
    test_steps: int = 12
    inner_steps: int = 12
    inner_batch: int = 25
    hidden: int = 20
    gate_feedback: str = "pre"
    grad_div_batch: bool = False

    order_sensitive: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "gate_feedback", FEEDBACKS)
        check_least(self, inner_steps=1, inner_batch=1, hidden=1)

    @property
    def exact_gradient(self) -> bool:
        return False

    def init(self, rng: np.random.Generator) -> Params:
        def small(*shape: int) -> np.ndarray:
            return rng.uniform(-0.01, 0.01, shape).astype(np.float32)

        h = self.hidden
        # matrices and biases by what they are multiplied by; gates are F, I
        lstm = {"loss": small(2, 4 * h), "gradient": small(2, 4 * h), "hidden": small(h, 4 * h), "b": small(4 * h)}
        gates = {"hidden": small(h, 2), "theta": small(2), "last": small(2)}
        biases = np.array([rng.uniform(*bounds) for bounds in BIASES], np.float32)
        return {**super().init(rng), "lstm": lstm, "gates": {**gates, "b": biases}}

    def trajectory(self, params: Params, xs: Any, ys: Any, n_way: int) -> Iterator[Params]:
        return self._walk(params, xs, ys, n_way, self.test_steps)

    def meta_loss(self, params: Params, episode: Episode) -> tuple[Any, dict[str, Any]]:
        xs, ys, xq, yq, n_way = episode
        weights = last(self._walk(params, xs, ys, n_way, self.inner_steps))
        scores = self.scores(weights, xq, n_way)
        return self.loss(scores, yq), self.measured(scores, yq)

    def _walk(self, params: Params, xs: Any, ys: Any, n_way: int, steps: int) -> Iterator[Params]:
        """The weights before adaptation and after each of `steps` steps."""
        weights = per_task(params["net"], len(xs))
        yield weights
        theta = flat(weights)
        zero = stop_gradient(theta) * 0.0
        zeros = ops.broadcast_to(zero[..., None], (*zero.shape, self.hidden))
        memory = Memory(zeros, zeros, ops.stack([zero, zero]))
        for k, (x, y) in enumerate(minibatches(xs, ys, self.inner_batch, steps), 1):
            with scope(f"inner step {k}"):
                losses, gradient = self._descent(stop_gradient(weights), x, y, n_way)
                theta, memory = self._step(params, theta, memory, losses, gradient)
                weights = layered(theta, weights)
            yield weights

    def _descent(self, weights: Params, xs: Any, ys: Any, n_way: int) -> tuple[Any, Any]:
        """The mean loss [T] of each task, and its gradient [T, P]."""

        def total(weights: Params) -> tuple[Any, Any]:
            losses = self.loss(self.scores(weights, xs, n_way), ys, "none").reshape(len(xs), -1).mean(axis=1)
            return losses.sum(), losses  # a task's loss depends on its own weights only

        gradient, losses = grad(total, has_aux=True)(weights)
        gradient = flat(gradient)
        return losses, gradient * (1 / xs.shape[1]) if self.grad_div_batch else gradient

    def _step(self, params: Params, theta: Any, memory: Memory, losses: Any, gradient: Any) -> tuple[Any, Memory]:
        """theta [T, P] and the memory after one step."""
        hidden, cell = ops.lstm_gates(_lstm_inputs(params["lstm"], memory.hidden, losses, gradient), memory.cell)
        gates = _gate_inputs(params["gates"], hidden, theta, memory.gates)
        opened = ops.sigmoid(gates)
        forget, rate = ops.unstack(opened)
        seen = gates if self.gate_feedback == "pre" else opened
        return forget * theta - rate * gradient, Memory(hidden, cell, seen)


def _lstm_inputs(lstm: Params, hidden: Any, losses: Any, gradient: Any) -> Any:
    """The pre-activations [T, P, 4H] of the LSTM, from hidden [T, P, H], losses [T] and gradient [T, P].

    One matrix product: what the coordinates of a task have in common, the loss and the bias, is a row of its matrix.
    """
    shared = ops.concatenate([lstm["hidden"], lstm["gradient"]])
    row = log_and_sign(losses) @ lstm["loss"] + lstm["b"]
    matrices = ops.concatenate([ops.broadcast_to(shared, (len(row), *shared.shape)), row[:, None]], axis=1)
    ones = gradient[..., None] * 0.0 + 1.0
    return ops.concatenate([hidden, log_and_sign(gradient), ones], axis=-1) @ matrices


def _gate_inputs(gates: Params, hidden: Any, theta: Any, last: Any) -> Any:
    """F and I [2, T, P], from hidden [T, P, H], theta [T, P] and what they see of their last values [2, T, P]."""
    theta_weight, last_weight, bias = (gates[name].reshape(2, 1, 1) for name in ("theta", "last", "b"))
    return ops.moveaxis(hidden @ gates["hidden"], -1, 0) + theta_weight * theta + last_weight * last + bias
