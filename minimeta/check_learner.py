"""One suite for every learner: what the protocol of `minimeta.learners.base` promises, on small real episodes."""

from __future__ import annotations

import gc
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from minimeta import backend, optim, tree
from minimeta.autodiff import Node
from minimeta.checkpoint import load, save
from minimeta.data import glyphs
from minimeta.data.episodes import Episode, EpisodeSampler
from minimeta.learners.base import Learner, Params, accuracy, chunked_meta_grad, trainable


def check_learner(
    learner: Learner,
    *,
    way: int = 3,
    shot: int = 2,
    size: int = 28,
    transductive: bool = False,
    overfit_steps: int = 60,
    seed: int = 0,
    device: str = "numpy",
) -> list[str]:
    """Run every check of the protocol on `learner` and return their names; a small learner keeps this to seconds.

    Episodes are `way`-way `shot`-shot drawings of `size` x `size` pixels, on `device`. `transductive` declares that
    queries see each other, as the learner itself does what `Learner` lists; checks of that are then left out.
    Raises AssertionError naming the broken promise.
    """
    sampler = EpisodeSampler(glyphs.load("train", classes=20, size=size, seed=seed), way, shot, 2, seed=seed)
    episode = backend.to_device(_float64(sampler.batch(0, 3)), device)
    params = backend.to_device(_float64(learner.init(np.random.default_rng(seed))), device)
    checks: dict[str, Any] = {
        "shapes": _shapes,
        "determinism": _determinism,
        "label permutation": None if learner.label_sensitive else _label_permutation,
        "support order": None if learner.order_sensitive else _support_order,
        "queries": None if transductive else _queries_apart,
        "tasks": _tasks_apart,
        "batched equals looped": _batched_equals_looped,
        "meta-gradient": _meta_gradient if learner.exact_gradient else None,
        "no graph left": _no_graph_left,
        "save and load": _save_and_load,
        "constant scores": _constant_scores,
    }
    done = []
    for name, check in checks.items():
        if check is not None:
            check(learner, params, episode)
            done.append(name)
    fresh = learner.init(np.random.default_rng(seed)), sampler.batch(0, 1)
    params, episode = backend.to_device(fresh, device)
    _overfits(learner, params, episode, overfit_steps)
    return [*done, "overfits one episode"]


def _float64(values: Any) -> Any:
    """Trees of arrays in double precision; labels stay integers. Sums then agree to far below any real difference."""

    def widen(leaf: Any) -> Any:
        return leaf.astype(np.float64) if getattr(leaf, "dtype", None) == np.float32 else leaf

    return tree.map(widen, values)


def _logits(learner: Learner, params: Params, episode: Episode) -> np.ndarray:
    logits: np.ndarray = backend.asnumpy(
        learner.predict(params, learner.adapt(params, *episode[:2], episode.n_way), episode.xq)
    )
    return logits


def _same(name: str, actual: Any, expected: Any, tolerance: float = 1e-9) -> None:
    for (path, a), (_, b) in zip(tree.items(actual), tree.items(expected), strict=True):
        a, b = backend.asnumpy((a, b))
        scale = max(1.0, float(np.abs(b).max(initial=0)))
        off = float(np.abs(a - b).max(initial=0)) if a.shape == b.shape else np.inf
        if not off <= tolerance * scale:
            place = "/".join(path) or "values"
            raise AssertionError(f"check_learner: {name}: {place} differ by {off:g} (scale {scale:g})")


def _shapes(learner: Learner, params: Params, episode: Episode) -> None:
    logits = _logits(learner, params, episode)
    expected = (*episode.yq.shape, episode.n_way)
    if logits.shape != expected:
        raise AssertionError(f"check_learner: shapes: logits have shape {logits.shape}, need [T, Q, N] = {expected}")
    loss, aux, grads = learner.meta_grad(params, episode)
    if np.shape(loss) != () or "accuracy" not in aux:
        raise AssertionError("check_learner: shapes: meta_grad needs a 0-d loss and aux['accuracy']")
    tree.map(lambda g, w: _same("gradient shapes", np.shape(g), np.shape(w), 0), grads, trainable(params))


def _determinism(learner: Learner, params: Params, episode: Episode) -> None:
    again, other = (_float64(learner.init(np.random.default_rng(seed))) for seed in (7, 7))
    _same("determinism of init", again, other, 0)
    _same("predict twice", _logits(learner, params, episode), _logits(learner, params, episode), 0)
    _same("meta_grad twice", learner.meta_grad(params, episode), learner.meta_grad(params, episode), 0)


def _label_permutation(learner: Learner, params: Params, episode: Episode) -> None:
    order = np.roll(np.arange(episode.n_way), 1)
    renamed = episode._replace(ys=_like(episode.ys, order)[episode.ys])
    _same("label permutation", _logits(learner, params, renamed)[..., order], _logits(learner, params, episode))


def _support_order(learner: Learner, params: Params, episode: Episode) -> None:
    order = np.random.default_rng(0).permutation(episode.ys.shape[1])
    shuffled = episode._replace(xs=episode.xs[:, order], ys=episode.ys[:, order])
    _same("support order", _logits(learner, params, shuffled), _logits(learner, params, episode))


def _queries_apart(learner: Learner, params: Params, episode: Episode) -> None:
    """A query's scores do not depend on the other queries, nor on their order."""
    logits = _logits(learner, params, episode)
    _same("queries apart", _logits(learner, params, episode._replace(xq=episode.xq[:, :1])), logits[:, :1])
    _same("query order", _logits(learner, params, episode._replace(xq=episode.xq[:, ::-1])), logits[:, ::-1])


def _tasks_apart(learner: Learner, params: Params, episode: Episode) -> None:
    """A task's scores do not depend on the other tasks, nor on their order."""
    logits = _logits(learner, params, episode)
    alone, turned = episode.tasks(slice(1, 2)), episode.tasks(slice(None, None, -1))
    _same("task alone", _logits(learner, params, alone), logits[1:2])
    _same("task order", _logits(learner, params, turned), logits[::-1])


def _batched_equals_looped(learner: Learner, params: Params, episode: Episode) -> None:
    looped = chunked_meta_grad(learner, params, episode, chunk=1)
    _same("batched equals looped", learner.meta_grad(params, episode), looped)


def _meta_gradient(learner: Learner, params: Params, episode: Episode) -> None:
    """The derivative along three random directions against central differences."""
    grads = learner.meta_grad(params, episode).grads
    for seed in range(3):
        rng = np.random.default_rng(seed)
        direction = tree.map(lambda w: _like(w, rng.standard_normal(w.shape)), grads)  # noqa: B023 (used at once)
        slope = sum(float((g * d).sum()) for g, d in zip(tree.leaves(grads), tree.leaves(direction), strict=True))
        # short enough that hardly any ReLU switches on the way
        ahead, behind = (float(learner.meta_loss(_moved(params, direction, t), episode)[0]) for t in (1e-7, -1e-7))
        numeric = (ahead - behind) / 2e-7
        if abs(slope - numeric) > 1e-6 * max(1.0, abs(numeric)):
            raise AssertionError(f"check_learner: meta-gradient: {slope} along a direction, by differences {numeric}")


def _like(array: Any, values: np.ndarray) -> Any:
    return backend.namespace(array).asarray(values)


def _moved(params: Params, direction: Params, distance: float) -> Params:
    return {**params, **tree.map(lambda w, d: w + distance * d, trainable(params), direction)}


def _no_graph_left(learner: Learner, params: Params, episode: Episode) -> None:
    before = sum(type(thing) is Node for thing in gc.get_objects())
    result = learner.meta_grad(params, episode)
    after = sum(type(thing) is Node for thing in gc.get_objects())
    if after != before:
        raise AssertionError(f"check_learner: {after - before} nodes are alive after meta_grad returned {type(result)}")


def _save_and_load(learner: Learner, params: Params, episode: Episode) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save(path, params)
        loaded, _ = load(path)
    _same("save and load", loaded, params, 0)
    loaded = tree.map(_like, params, loaded)
    _same("predict after load", _logits(learner, loaded, episode), _logits(learner, params, episode), 0)


def _constant_scores(learner: Learner, params: Params, episode: Episode) -> None:
    """A learner that tells no class from another gets 1/N, not a lucky index."""
    constant = backend.namespace(episode.yq).zeros((*episode.yq.shape, episode.n_way))
    _same("constant scores", accuracy(constant, episode.yq).mean(), 1 / episode.n_way)


def _overfits(learner: Learner, params: Params, episode: Episode, steps: int) -> None:
    if not learner.exact_gradient:  # the queries may have no part in what is descended
        episode = episode._replace(xq=episode.xs, yq=episode.ys)
    optimizer = optim.adam(1e-2)
    state = optimizer.init(trainable(params))
    first = last = float(learner.meta_loss(params, episode)[0])
    for _ in range(steps):
        loss, aux, grads = learner.meta_grad(params, episode)
        last = float(loss)
        weights, state = optimizer.update(grads, state, trainable(params))
        params = {**params, **weights} | ({"running": aux["running"]} if "running" in aux else {})
    if not last < 0.1 * first:
        raise AssertionError(f"check_learner: overfits: {steps} steps on one episode, loss {first:g} -> {last:g}")
