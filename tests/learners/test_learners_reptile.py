"""Reptile: its step and Adam's memory against a plain loop, one inner step is joint training, chunks and cycles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minimeta import checkpoint, ops, optim, tree
from minimeta.autodiff import grad
from minimeta.learners import make
from minimeta.learners.base import chunked_meta_grad, trainable
from minimeta.testing import check_learner
from tests.learners import plain, plain_regressor
from tests.learners.plain_regressor import REGRESSOR

IMAGES = {"way": 3, "size": 8, "filters": 3}


def close(actual, expected, tolerance=1e-12):
    for (path, a), (_, b) in zip(tree.items(actual), tree.items(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, err_msg="/".join(path))


def weights(learner, rng, step=7):
    """Random ones, after `step` steps of Adam on other tasks."""
    params = plain.weights(learner, rng)
    if not params["running"]:
        return params
    square = tree.map(lambda s: rng.uniform(0.001, 1, s.shape), params["running"]["square"])
    return {**params, "running": {"step": np.array(float(step)), "square": square}}


def meta_step(learner, params, episode, epsilon, chunk=None):
    """The parameters after one step of training."""
    _, aux, grads = chunked_meta_grad(learner, params, episode, chunk)
    assert set(grads) == set(trainable(params))
    return {**params, **optim.sgd(epsilon).update(grads, {}, trainable(params))[0], "running": aux["running"]}


def plain_adapted(learner, net, running, x, y, batch, steps):
    """One task's weights after slices one after another, and what Adam remembers then."""
    step, square = int(running.get("step", 0)), running.get("square")
    for k in range(steps):
        chosen = slice(None) if batch >= len(x) else slice(k * batch, (k + 1) * batch)
        scale = len(x[chosen]) if learner.reduction == "sum" else 1
        grads = tree.map(lambda g, scale=scale: scale * g, plain_regressor.gradient(net, x[chosen], y[chosen]))
        if learner.inner_optimizer == "sgd":
            net = plain_regressor.sgd(net, grads, learner.inner_lr)
        else:
            step += 1
            net, square = plain_regressor.adam(net, grads, learner.inner_lr, step, square)
    return net, {"step": step, "square": square} if square else {}


def mean_of(trees):
    return tree.map(lambda *leaves: np.mean(leaves, axis=0), *trees)


def plain_meta_step(learner, params, episode, epsilon):
    net, running, ends, memories = params["net"], params["running"], [], []
    for x, y in zip(episode.xs, episode.ys, strict=True):
        begin = memories[-1] if learner.serial and memories else running
        end, memory = plain_adapted(learner, net, begin, x, y, learner.inner_batch, learner.inner_steps)
        ends.append(end)
        memories.append(memory)
    net = tree.map(lambda w, end: w + epsilon * (end - w), net, mean_of(ends))
    return {"net": net, "running": memories[-1] if learner.serial else mean_of(memories)}


@pytest.mark.parametrize("serial", [False, True])
@pytest.mark.parametrize("inner_optimizer", ["adam", "sgd"])
@settings(max_examples=40)
@given(plain.seeds, st.integers(1, 3), st.integers(1, 4), st.sampled_from(["mean", "sum"]), st.booleans())
def test_two_steps_of_training_equal_a_plain_loop(serial, inner_optimizer, seed, steps, batch, reduction, whole):
    """Adam's memory goes from inner step to inner step, from meta-step to meta-step, and `serial` from task to task."""
    rng = np.random.default_rng(seed)
    learner = make(
        "reptile", **REGRESSOR, inner_optimizer=inner_optimizer, inner_lr=0.01, inner_steps=steps,
        inner_batch=batch, reduction=reduction, serial=serial,
    )  # fmt: skip
    actual = expected = weights(learner, rng)
    for epsilon in (0.7, 0.4):
        episode = plain_regressor.episode(rng, tasks=3, shot=batch if whole else batch * steps + 1)
        actual = meta_step(learner, actual, episode, epsilon)
        expected = plain_meta_step(learner, expected, episode, epsilon)
        close(actual, expected, 1e-10)


@settings(max_examples=40)
@given(plain.seeds, st.integers(0, 3), st.integers(1, 4))
def test_adaptation_in_test_begins_with_adams_memory_and_leaves_it(seed, steps, batch):
    rng = np.random.default_rng(seed)
    learner = make("reptile", **REGRESSOR, inner_lr=0.01, test_steps=steps, test_batch=batch)
    params, episode = weights(learner, rng), plain_regressor.episode(rng, tasks=2, shot=batch * 3 + 1)
    before = tree.map(np.copy, params)
    for _ in range(2):
        state = learner.adapt(params, *episode[:2], 0)
        for task in range(2):
            x, y = episode.xs[task], episode.ys[task]
            expected, _ = plain_adapted(learner, before["net"], before["running"], x, y, batch, steps)
            close(tree.map(lambda w, task=task: w[task], state.weights), expected, 1e-10)
    close(params, before, 0)


@settings(max_examples=10)
@given(plain.seeds, st.integers(1, 4), st.sampled_from(["mean", "sum"]))
def test_one_step_of_sgd_is_joint_training(seed, tasks, reduction):
    """Several meta-steps of rate epsilon equal as many of rate epsilon alpha on all tasks' mini-batches at once."""
    rng = np.random.default_rng(seed)
    alpha, epsilon, batch = 0.5, 0.1, 4
    hyper = {"inner_optimizer": "sgd", "inner_lr": alpha, "inner_steps": 1, "inner_batch": batch}
    learner = make("reptile", **IMAGES, **hyper, reduction=reduction)
    params = weights(learner, rng)
    joint = params["net"]
    for _ in range(3):
        episode = plain.episode(rng, tasks=tasks, extra=4)
        x, y = episode.xs[:, :batch], episode.ys[:, :batch]

        def loss(net, x=x, y=y):
            scale = batch if reduction == "sum" else 1
            return scale * ops.cross_entropy(learner.network(net, x)[0], y)

        gradient = grad(loss)(params["net"])
        away = learner.meta_grad(params, episode).grads["net"]
        close(tree.map(lambda w: w / alpha, away), gradient)
        params = meta_step(learner, params, episode, epsilon)
        joint = plain_regressor.sgd(joint, grad(loss)(joint), epsilon * alpha)
        close(params["net"], joint, 1e-10)


@settings(max_examples=10)
@given(plain.seeds, st.sampled_from(["adam", "sgd"]))
def test_the_whole_way_to_one_task_ends_at_its_weights(seed, inner_optimizer):
    rng = np.random.default_rng(seed)
    learner = make(
        "reptile", **IMAGES, inner_optimizer=inner_optimizer, inner_lr=0.02, inner_steps=3, inner_batch=2,
        test_steps=3, test_batch=2,
    )  # fmt: skip
    params, episode = weights(learner, rng), plain.episode(rng, tasks=1)
    state = learner.adapt(params, *episode[:2], episode.n_way)
    close(meta_step(learner, params, episode, 1.0)["net"], tree.map(lambda w: w[0], state.weights))
    loss, aux = learner.meta_loss(params, episode)
    scores = learner.predict(params, state, episode.xq)
    close([loss, aux["accuracy"]], [ops.cross_entropy(scores, episode.yq), plain_accuracy(scores, episode.yq)])


def plain_accuracy(scores, labels):
    return np.mean(scores.argmax(-1) == labels)


@plain.drawn(5)
def test_one_task_after_another_changes_nothing_for_sgd(seed):
    rng = np.random.default_rng(seed)
    together, serial = (
        make("reptile", **IMAGES, inner_optimizer="sgd", inner_lr=0.1, inner_batch=2, serial=serial)
        for serial in (False, True)
    )
    params, episode = weights(together, rng), plain.episode(rng, tasks=3)
    close(together.meta_grad(params, episode), serial.meta_grad(params, episode))


@pytest.mark.parametrize("inner_optimizer", ["adam", "sgd"])
@settings(max_examples=10)
@given(plain.seeds, st.integers(1, 5), st.integers(1, 5))
def test_chunks_of_tasks_change_nothing(inner_optimizer, seed, tasks, chunk):
    rng = np.random.default_rng(seed)
    learner = make("reptile", **IMAGES, inner_optimizer=inner_optimizer, inner_lr=0.01, inner_steps=2, inner_batch=2)
    params, episode = weights(learner, rng), plain.episode(rng, tasks=tasks)
    close(chunked_meta_grad(learner, params, episode, chunk), learner.meta_grad(params, episode))


@pytest.mark.parametrize(("dtype", "step", "tasks"), [(np.float64, 0, 6), (np.float32, 499_995, 12)])
def test_the_counter_never_loses_count_in_chunks(dtype, step, tasks):
    """Means of 5 over sixths, and of 500,000 over twelfths, come out just under."""
    assert sum(dtype(step + 5) * (1 / tasks) for _ in range(tasks)) < step + 5
    learner = make("reptile", **REGRESSOR, inner_steps=5, inner_batch=2)
    params = learner.init(np.random.default_rng(0))
    params["running"]["step"] = np.array(step, dtype)
    episode = plain_regressor.episode(np.random.default_rng(0), tasks, shot=2)
    for k in range(1, 6):
        params = meta_step(learner, params, episode, 0.5, chunk=1)
        assert params["running"]["step"].dtype == dtype
        assert round(float(params["running"]["step"])) == step + 5 * k


@settings(max_examples=50)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), plain.seeds)
def test_whole_cycles_see_every_example_equally_often(size, batch, cycles, seed):
    """Steps so small that gradients stay what they are add up: to as many times the whole set's as there are cycles."""
    rng = np.random.default_rng(seed)
    learner = make(
        "reptile", **REGRESSOR, inner_optimizer="sgd", reduction="sum", inner_lr=1e-10, inner_batch=batch,
        inner_steps=cycles if batch >= size else cycles * size,
    )  # fmt: skip
    params, episode = weights(learner, rng), plain_regressor.episode(rng, tasks=1, shot=size)
    seen = cycles * (1 if batch >= size else batch)
    away = learner.meta_grad(params, episode).grads["net"]
    whole = plain_regressor.gradient(params["net"], episode.xs[0], episode.ys[0])
    scale = max(np.abs(g).max() for g in tree.leaves(whole)) * seen * size
    for a, g in zip(tree.leaves(away), tree.leaves(whole), strict=True):
        np.testing.assert_allclose(a / 1e-10, g * size * seen, atol=1e-4 * scale)


def test_what_is_carried_along_keeps_its_names_and_dtypes_and_survives_a_file(tmp_path):
    learner = make("reptile", **IMAGES)
    params = learner.init(np.random.default_rng(0))
    episode = tree.map(np.float32, plain.episode(np.random.default_rng(1)))
    episode = episode._replace(ys=episode.ys.astype(int), yq=episode.yq.astype(int), n_way=3)
    after = meta_step(learner, params, episode, 1.0, chunk=1)
    checkpoint.save(tmp_path / "model.safetensors", after)
    loaded, _ = checkpoint.load(tmp_path / "model.safetensors", like=params)
    close(meta_step(learner, loaded, episode, 1.0), meta_step(learner, after, episode, 1.0), 0)


@pytest.mark.parametrize("batch_norm", ["batch", "support+1", "episode"])
def test_keeps_every_promise_of_a_learner(batch_norm):
    """Six shots: it trains on support sets alone, and the suite measures how well it fits the queries."""
    hyper = {"way": 3, "size": 16, "filters": 8, "inner_lr": 0.01, "inner_batch": 9, "test_steps": 3}
    learner = make("reptile", **hyper, batch_norm=batch_norm)
    checks = check_learner(learner, shot=6, size=16, transductive=batch_norm == "batch", overfit_steps=40)
    assert ("queries" in checks) == (batch_norm != "batch")
    assert "support order" not in checks


@pytest.mark.parametrize(
    ("hyper", "message"),
    [
        ({"inner_optimizer": "momentum"}, "inner_optimizer='momentum'; choose from adam, sgd"),
        ({"reduction": "per-shot"}, "reduction='per-shot'; choose from mean, sum"),
        ({"inner_lr": 0.0}, "inner_lr=0.0; need a finite inner_lr > 0"),
        ({"inner_lr": float("nan")}, "inner_lr=nan; need a finite inner_lr > 0"),
        ({"inner_steps": 0}, "inner_steps=0; need inner_steps >= 1"),
        ({"inner_batch": 0}, "inner_batch=0; need inner_batch >= 1"),
        ({"test_batch": 0}, "test_batch=0; need test_batch >= 1"),
        ({"batch_norm": "running"}, "batch_norm='running'; choose from batch, support"),
    ],
)
def test_settings_out_of_range_are_named(hyper, message):
    with pytest.raises(ValueError, match=f"Reptile: {message}"):
        make("reptile", **hyper)
