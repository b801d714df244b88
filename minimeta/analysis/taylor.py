"""Why MAML, first-order MAML and Reptile behave alike: their gradients, expanded in the inner rate and measured.

A task has losses L_1 .. L_k, one per mini-batch. From phi_1 the inner loop takes SGD steps phi_j+1 = phi_j - alpha g_j
with g_j = grad L_j(phi_j). The three algorithms then move phi_1 against

    MAML      d L_k(phi_k) / d phi_1 = (I - alpha L_1''(phi_1)) ... (I - alpha L_k-1''(phi_k-1)) g_k
    FOMAML    g_k, the same with every Hessian left out
    Reptile   g_1 + ... + g_k, the way travelled (and a last step) over alpha

Let h_j and H_j be gradient and Hessian of L_j at phi_1. Then g_j = h_j - alpha H_j (h_1 + ... + h_j-1) + O(alpha^2).
Mini-batches of a task are exchangeable, so that in the mean over tasks and mini-batches only two vectors are left:

    A = AvgGrad      = E[h_j]
    B = AvgGradInner = E[H_j h_m] = 1/2 E[grad (h_j . h_m)]      for m != j
    S                = E[H_j h_j] = 1/2 E[grad |h_j|^2]          where a mini-batch meets itself

              an own mini-batch per step (the paper)    k steps on one batch, then MAML's loss on a fresh one
    MAML      A - 2 (k-1) alpha B                       A - 2 k alpha B
    FOMAML    A -   (k-1) alpha B                       A -   k alpha B
    Reptile   k A - 1/2 k (k-1) alpha B                 k A - 1/2 k (k-1) alpha S

A alone is training on all tasks at once. B is half the *gradient* of the inner product of two mini-batches' gradients.
Descent steps against g, so -alpha B in g means +alpha B in the step: it raises that inner product, and where it is
large, a step on one mini-batch helps the other. That is learning to generalise within a task, from few examples. All
three algorithms have it, in proportions 2 : 1 : 1/2 to A at equal k. Reptile on one and the same batch has not: it sees
no second mini-batch, and raises the squared length of a mini-batch's own gradient instead.

How it is measured. Every task is averaged over orders of its mini-batches in which every pair comes equally often
either way round (`orders`). Then the O(alpha) terms above hold for the very tasks drawn, not just in expectation, and
the fit is exact but for O(alpha^2) in the gradient, O(alpha) in b; with a single order the last mini-batch is not the
average one, and the noise of few tasks exceeds alpha B. The intervals are over groups of tasks: they say how much tasks
differ, and do not cover that remainder. The residuals show it: a quarter when alpha is halved.

Kinks. Almost everywhere the Hessian of a ReLU network knows nothing of its kinks, but a step of length alpha crosses a
number of them that grows as alpha, and each changes the gradient at once. Measured, the residual falls by 1.4 a halving
in a convolutional net with ReLU or max-pooling (few jumps of random sign: sqrt(alpha)) and by 1.9 for 1000 waves at a
time (their mean: alpha); there b is 12 % off at alpha 1e-3 and 17 % at 1e-4. Hence tanh, and strides, not pooling.

Paper: Nichol, Achiam and Schulman 2018, section 5.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from minimeta import backend, tree
from minimeta.analysis.taylor_problems import Loss, Problem
from minimeta.autodiff import grad, hvp
from minimeta.evaluation import half_interval
from minimeta.optim import sgd

GROUP = 4  # tasks of a group, at most: enough to keep a processor busy, few enough for memory
HALVINGS = 5  # of alpha
INNER, OWN = "AvgGradInner", "½ ∇|g|²"  # what B and S are called


class ByAlgorithm(NamedTuple):
    """One thing for each of the three algorithms."""

    maml: Any
    fomaml: Any
    reptile: Any


NAMES = ByAlgorithm("MAML", "FOMAML", "Reptile")


class Study(NamedTuple):
    """What was measured: of each algorithm's g = a A + b alpha B the (a, b), half their 95 % intervals, the theory's.

    `residuals` are |g - a A - b alpha B| / |A| by the theory's a and b, at each of `alphas`. `second` names what stands
    in place of B: where Reptile repeats one batch, that is S for it.
    """

    coefficients: ByAlgorithm
    ci95: ByAlgorithm
    theory: ByAlgorithm
    second: ByAlgorithm
    alphas: list[float]
    residuals: ByAlgorithm

    def record(self) -> dict[str, Any]:
        """For JSON."""
        fields = self._asdict()
        return {name: part._asdict() if isinstance(part, ByAlgorithm) else part for name, part in fields.items()}


def meta_gradients(losses: Sequence[Loss], start: Any, alpha: float) -> ByAlgorithm:
    """The three gradients at the tree `start`, each step on a mini-batch of its own, the last loss being MAML's.

    >>> one, two = (lambda x, end=end: (x - end) ** 2 / 2 for end in (1.0, 2.0))
    >>> [float(g) for g in meta_gradients([one, two], 0.0, alpha=0.5)]
    [-0.75, -1.5, -2.5]
    """
    maml, steps = _unrolled(losses, start, alpha)
    return ByAlgorithm(maml, steps[-1], _total(steps))


def meta_gradients_same_batch(loss: Loss, fresh: Loss, k: int, start: Any, alpha: float) -> ByAlgorithm:
    """The same with all k steps on one `loss`; MAML's loss is `fresh`, after the k-th, and Reptile never sees it.

    >>> one, two = (lambda x, end=end: (x - end) ** 2 / 2 for end in (1.0, 2.0))
    >>> [float(g) for g in meta_gradients_same_batch(one, two, 2, 0.0, alpha=0.5)]
    [-0.3125, -1.25, -1.5]
    """
    maml, steps = _unrolled([loss] * k + [fresh], start, alpha)
    return ByAlgorithm(maml, steps[-1], _total(steps[:-1]))


def _unrolled(losses: Sequence[Loss], start: Any, alpha: float) -> tuple[Any, list[Any]]:
    """The derivative of the last loss by `start` through a step on each other, and the gradient of every step."""
    descent = sgd(alpha)

    def last_loss(params: Any) -> Any:
        steps = []
        for loss in losses[:-1]:
            steps.append(grad(loss)(params))
            params, _ = descent.update(steps[-1], {}, params)
        return losses[-1](params), (params, steps)

    maml, (end, steps) = grad(last_loss, has_aux=True)(start)
    return maml, [*steps, grad(losses[-1])(end)]


def averages(losses: Sequence[Loss], start: Any) -> tuple[Any, Any, Any]:
    """A, B and S of these mini-batches at `start`, trees like it; B is the mean over all ordered pairs m != j.

    >>> one, two = (lambda x, end=end: (x - end) ** 2 / 2 for end in (1.0, 3.0))
    >>> [float(mean) for mean in averages([one, two], 0.0)]
    [-2.0, -2.0, -2.0]
    """
    gradients = [grad(loss)(start) for loss in losses]
    first, own = _mean(gradients), _mean([hvp(f, start, g) for f, g in zip(losses, gradients, strict=True)])
    # the pairs with m = j are S: without them the mean of H_j A over j is (k-1)/k of B
    k, all_pairs = len(losses), _mean([hvp(f, start, first) for f in losses])
    return first, tree.map(lambda pairs, same: (k * pairs - same) / (k - 1), all_pairs, own), own


def theory(k: int, same_batch: bool = False) -> ByAlgorithm:
    """The coefficients (a, b) of A and alpha B, for Reptile on the same batch of A and alpha S.

    >>> theory(2)
    ByAlgorithm(maml=(1, -2), fomaml=(1, -1), reptile=(2, -1.0))
    """
    steps = k if same_batch else k - 1  # before the last loss
    return ByAlgorithm((1, -2 * steps), (1, -steps), (k, -k * (k - 1) / 2))


def orders(k: int) -> list[tuple[int, ...]]:
    """Orders of k mini-batches: all rotations of one and of its reverse.

    Every pair comes equally often either way round, and each mini-batch equally often last.

    >>> orders(2)
    [(0, 1), (1, 0)]
    """
    rotations = [(*range(first, k), *range(first)) for first in range(k)]
    return list(dict.fromkeys(rotations + [order[::-1] for order in rotations]))


def fit(gradient: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The coefficients [2] of `first` and `second` whose sum is nearest to `gradient`; vectors [n].

    >>> fit(np.array([2.0, 3.0, 9.0]), np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])).round(9)
    array([2., 3.])
    """
    return np.linalg.lstsq(np.stack([first, second], axis=1), gradient)[0]


def mini_batches(k: int, same_batch: bool = False) -> int:
    """How many mini-batches a task needs: one per step, or one for all steps and a fresh one."""
    return 2 if same_batch else k


def check(k: int, tasks: int, alpha: float) -> None:
    """Raises ValueError unless `study` can be done with these.

    >>> check(1, 40, 0.001)
    Traceback (most recent call last):
    ValueError: k=1: with less than 2 steps the three gradients are one
    """
    if k < 2:
        raise ValueError(f"k={k}: with less than 2 steps the three gradients are one")
    if tasks < 2:
        raise ValueError(f"tasks={tasks}: an interval needs at least 2")
    if not 0 < alpha < math.inf:
        raise ValueError(f"alpha={alpha}: a rate is positive and finite")


def study(
    problem: Problem,
    k: int,
    tasks: int,
    alpha: float,
    *,
    same_batch: bool = False,
    report: Callable[[int], None] | None = None,
) -> Study:
    """Measure the three gradients on tasks 0 .. tasks-1, in groups; `report(done)` is called after each group.

    Raises ValueError for what `check` refuses and for a problem without `mini_batches(k, same_batch)` per task,
    ArithmeticError where steps of this length overflow.
    """
    check(k, tasks, alpha)
    needed = mini_batches(k, same_batch)
    if problem.batches != needed:
        raise ValueError(f"problem.batches={problem.batches}: k={k}, same_batch={same_batch} needs {needed}")
    alphas = alpha / 2.0 ** np.arange(HALVINGS + 1)
    measured, done = [], 0
    for group in np.array_split(np.arange(tasks), max(2, math.ceil(tasks / GROUP))):
        start, losses = problem.start(len(group)), problem.losses(done, len(group))
        measured.append(_measure(losses, start, alphas, k, same_batch))
        done += len(group)
        if report is not None:
            report(done)
    coefficients, residuals = (np.array(column) for column in zip(*measured, strict=True))
    return Study(
        coefficients=ByAlgorithm(*coefficients.mean(0).tolist()),
        ci95=ByAlgorithm(*np.apply_along_axis(half_interval, 0, coefficients).tolist()),
        theory=theory(k, same_batch),
        second=ByAlgorithm(INNER, INNER, OWN if same_batch else INNER),
        alphas=alphas.tolist(),
        residuals=ByAlgorithm(*residuals.mean(0).tolist()),
    )


def _measure(
    losses: list[Loss], start: Any, alphas: np.ndarray, k: int, same_batch: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Of a group of tasks, by algorithm: (a, b) fitted at the first alpha [3, 2], residuals at each [3, alphas]."""
    a, b, s = (_vector(mean) for mean in averages(losses, start))
    terms = np.array([(a, b), (a, b), (a, s if same_batch else b)])
    gradients = np.array([_balanced(losses, start, alpha, k, same_batch) for alpha in alphas])
    if not np.isfinite(gradients).all():
        raise ArithmeticError(f"alpha={alphas[0]}: the inner loop overflows; choose a smaller alpha")
    fitted = [fit(g, *pair) for g, pair in zip(gradients[0], terms, strict=True)]
    powers = np.stack([np.ones_like(alphas), alphas], axis=1)  # alpha to the 0 and to the 1
    expansions = np.einsum("ac,rc,acn->ran", theory(k, same_batch), powers, terms)
    residuals = np.linalg.norm(gradients - expansions, axis=-1).T / np.linalg.norm(a)
    return np.array(fitted) / powers[0], residuals


def _balanced(losses: list[Loss], start: Any, alpha: float, k: int, same_batch: bool) -> list[np.ndarray]:
    """The three gradients as vectors, in the mean over tasks and `orders` of their mini-batches."""
    ordered = [[losses[j] for j in order] for order in orders(len(losses))]
    if same_batch:
        found = [meta_gradients_same_batch(loss, fresh, k, start, alpha) for loss, fresh in ordered]
    else:
        found = [meta_gradients(sequence, start, alpha) for sequence in ordered]
    return [_vector(gradient) for gradient in _mean(found)]


def _total(trees: Sequence[Any]) -> Any:
    return tree.map(lambda *leaves: sum(leaves), *trees)


def _mean(trees: Sequence[Any]) -> Any:
    return tree.map(lambda total: total / len(trees), _total(trees))


def _vector(gradient: Any) -> np.ndarray:
    """The mean over tasks, the leading axis of every leaf, as one vector."""
    return np.concatenate([backend.asnumpy(leaf.mean(0)).ravel() for leaf in tree.leaves(gradient)])
