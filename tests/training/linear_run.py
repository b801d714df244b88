"""A fast test double: linear prototypes with a gradient written by hand, NumPy alone. Run as a program, it trains.

Environment: KILL_AT="NAME:N" kills the process (SIGKILL) at the N-th call of os.NAME, e.g. in the middle of a save;
VALIDATE_EVERY is the setting of that name.
"""

import os
import signal
import sys
from dataclasses import dataclass

import numpy as np

from minimeta.data import EpisodeSampler, ImageClasses
from minimeta.learners.base import MetaGradient
from minimeta.training import Settings, train

SIDE = 6


def dataset(part, classes=30, drawings=12):
    """Classes that differ in every pixel; the lower half is too noisy to be of use, as a learner has to find out."""
    rng = np.random.default_rng(["train", "val", "test"].index(part))
    noise = rng.normal(0, 0.2, (classes, drawings, SIDE, SIDE, 1))
    noise[:, :, SIDE // 2 :] *= 5
    images = (rng.random((classes, 1, SIDE, SIDE, 1)) + noise).astype(np.float32)
    return ImageClasses("toy", part, images, tuple(map(str, range(classes))))


def episodes(part, query=4, seed=0):
    return EpisodeSampler(dataset(part), 5, 2, query, seed=seed)


@dataclass(frozen=True)
class Linear:
    """Prototypes of x @ w; "running" counts the steps, as a stand-in for batch norm's statistics."""

    size: int = 8
    batch_norm: str = "running"

    def init(self, rng):
        w = rng.normal(0, 0.1, (SIDE * SIDE, self.size)).astype(np.float32)
        return {"net": {"w": w}, "running": {"steps": np.zeros((), np.float32)}}

    def adapt(self, params, xs, ys, n_way):
        one_hot = np.eye(n_way, dtype=np.float32)[ys]
        return one_hot.swapaxes(1, 2) @ self._embed(params, xs) / one_hot.sum(axis=1)[..., None]

    def predict(self, params, state, xq):
        return -((self._embed(params, xq)[:, :, None] - state[:, None]) ** 2).sum(axis=-1)

    def _embed(self, params, x):
        return x.reshape(*x.shape[:2], -1) @ params["net"]["w"]

    def meta_grad(self, params, episode):
        xs, ys, xq, yq, n_way = episode
        state = self.adapt(params, xs, ys, n_way)
        logits = self.predict(params, state, xq)
        logits = logits - logits.max(axis=-1, keepdims=True)
        logp = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        one_hot, p = np.eye(n_way, dtype=np.float32), np.exp(logp)
        loss = -(logp * one_hot[yq]).sum(axis=-1).mean()
        g = (p - one_hot[yq]) / yq.size
        away = self._embed(params, xq)[:, :, None] - state[:, None]
        dq = -2 * (g[..., None] * away).sum(axis=2)
        dc = 2 * (g[..., None] * away).sum(axis=1)
        ds = one_hot[ys] @ (dc / one_hot[ys].sum(axis=1)[..., None])
        flat = [x.reshape(*x.shape[:2], -1) for x in (xs, xq)]
        dw = sum((x.swapaxes(1, 2) @ d).sum(axis=0) for x, d in zip(flat, (ds, dq), strict=True))
        accuracy = (logits.argmax(axis=-1) == yq).mean()
        running = {"steps": params["running"]["steps"] + np.float32(1)}
        return MetaGradient(loss, {"accuracy": accuracy, "running": running}, {"net": {"w": dw}})


def settings(**changes):
    base = {"steps": 60, "tasks": 2, "validate_every": 7, "validation_episodes": 10, "log_every": 4, "lr": 0.02}
    return Settings(**{**base, "schedule": "cosine", **changes})


def kill_at(name, count):
    """Let the count-th call of os.`name` be the process's last act, before anything is done."""
    original = getattr(os, name)

    def counted(*args):
        nonlocal count
        count -= 1
        if count == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args)

    setattr(os, name, counted)


if __name__ == "__main__":
    folder, steps, resume = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "resume"
    if "KILL_AT" in os.environ:
        name, _, count = os.environ["KILL_AT"].partition(":")
        kill_at(name, int(count))
    chosen = settings(steps=steps, validate_every=int(os.environ.get("VALIDATE_EVERY", "7")))
    outcome = train(Linear(), episodes("train"), episodes("val"), chosen, folder, resume=resume)
    print("interrupted" if outcome.interrupted else "finished")
