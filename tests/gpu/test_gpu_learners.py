"""Every learner on the device: the same losses, gradients, updates and predictions as on NumPy, and no hidden copy."""

import numpy as np
import pytest

from minimeta import backend, learners, optim, tree
from minimeta.check_learner import check_learner
from minimeta.data import EpisodeSampler, SequenceSampler, SinusoidSampler, glyphs
from minimeta.evaluation import OnDevice
from minimeta.learners.base import chunked_meta_grad, trainable

SMALL = {"size": 16, "filters": 3}
MEMORY = {"size": 8, "hidden": 6}
ROWS = {**MEMORY, "rows": 5, "width": 3}
WAVES = {"architecture": "regressor", "way": 0, "batch_norm": "none", "test_steps": 2}
#: Learner, hyper-parameters.
CASES = {
    "prototypical": ("prototypical", SMALL),
    "prototypical cosine": ("prototypical", {**SMALL, "distance": "cosine", "batch_norm": "support+1"}),
    "matching": ("matching", {**SMALL, "batch_norm": "episode"}),
    "matching-fce": ("matching-fce", {**SMALL, "reads": 2}),
    "kernel": ("kernel", {**SMALL, "kernel": "learned", "neighbours": 2}),
    "siamese": ("siamese", SMALL),
    "siamese max": ("siamese", {**SMALL, "aggregation": "max"}),
    "relation": ("relation", {"size": 28, "filters": 3}),
    "maml": ("maml", {**SMALL, "way": 3, "inner_steps": 2}),
    "maml recomputed": ("maml", {**SMALL, "way": 3, "inner_steps": 2, "recompute": True, "batch_norm": "support+1"}),
    "maml with rates": ("maml", {**SMALL, "way": 3, "learn_rates": "parameter", "architecture": "dense"}),
    "maml on waves": ("maml", {**WAVES, "inner_steps": 2}),
    "fomaml": ("fomaml", {**SMALL, "way": 3, "batch_norm": "episode"}),
    "reptile": ("reptile", {**SMALL, "way": 3, "inner_steps": 4, "inner_batch": 4, "test_steps": 3, "test_batch": 4}),
    "reptile serial": ("reptile", {**SMALL, "way": 3, "serial": True, "inner_steps": 2, "test_steps": 2}),
    "finetune": ("finetune", {**SMALL, "way": 3, "test_steps": 2}),
    "lstm-meta": ("lstm-meta", {**SMALL, "way": 3, "inner_steps": 3, "inner_batch": 4, "hidden": 4, "test_steps": 2}),
    "lstm-meta on waves": ("lstm-meta", {**WAVES, "inner_steps": 2, "hidden": 4}),
    "ntm": ("ntm", {**ROWS, "way": 3}),
    "ntm on bits": ("ntm", {**ROWS, "way": 0, "bits": 3}),
    "mann": ("mann", {**ROWS, "way": 3, "heads": 2}),
    "mann says strings": ("mann", {**ROWS, "heads": 2, "labels": "strings", "write_rows": "own", "feedback": False}),
    "mann, addressed before": ("mann", {**ROWS, "way": 3, "address": "before", "controller": "feed-forward"}),
    "lstm": ("lstm", {**MEMORY, "way": 3}),
    "meta-networks": ("meta-networks", {"size": 9, "filters": 3, "way": 3, "chunks": 2, "embedding_loss": 0.1}),
}


def drawn(name, shot=2, tasks=2):
    """The learner of a case, float64 parameters and tasks on the host."""
    kind, hyper = CASES[name]
    learner = learners.make(kind, **hyper)
    if "bits" in name:
        source = SequenceSampler("copy", 3, bits=3)
    elif "waves" in name:
        source = SinusoidSampler(5, 3)
    else:
        data = glyphs.load("train", classes=12, size=learner.size)
        labels = getattr(learner, "label_count", None)
        source = EpisodeSampler(data, 3, shot, 2, shuffle_support=learner.order_sensitive, labels=labels)
    return learner, learner.init(np.random.default_rng(0)), source.batch(0, tasks)


def cast(values, dtype):
    return tree.map(lambda x: x.astype(dtype) if getattr(x, "dtype", None) == np.float32 else x, values)


def step(learner, params, task, chunk=None):
    """The meta-gradient, and the parameters after a step of Adam."""
    found = chunked_meta_grad(learner, params, task, chunk)
    optimizer = optim.adam(1e-2)
    grads = optim.clip_global_norm(found.grads, 0.1)
    weights, _ = optimizer.update(grads, optimizer.init(trainable(params)), trainable(params))
    return found, {**params, **weights, **({"running": found.aux["running"]} if "running" in found.aux else {})}


def predictions(learner, params, task):
    if hasattr(task, "inputs"):
        return learner.outputs(params, task.inputs)[0]
    return learner.predict(params, learner.adapt(params, task.xs, task.ys, task.n_way), task.xq)


@pytest.mark.parametrize("name", CASES)
def test_same_step_and_predictions_as_on_numpy(device, name):
    learner, params, task = cast(drawn(name), np.float64)
    expected, after = step(learner, params, task)
    found, there = step(learner, device.put(params), device.put(task))
    device.assert_close(found, expected, 1e-9)
    device.assert_close(there, after, 1e-7)
    device.assert_close(predictions(learner, there, device.put(task)), predictions(learner, after, task), 1e-6)


@pytest.mark.parametrize("name", CASES)
def test_same_loss_and_gradients_in_single_precision(device, name):
    learner, params, task = drawn(name)
    expected = learner.meta_grad(params, task)
    found = learner.meta_grad(device.put(params), device.put(task))
    device.assert_close((found.loss, found.grads), (expected.loss, expected.grads), 1e-4)


@pytest.mark.parametrize("name", CASES)
def test_a_step_and_predictions_copy_nothing(device, name):
    learner, params, task = drawn(name)
    params, task = device.put(params), device.put(task)
    for _ in range(2):  # the first time constants are moved, once and for all
        with device.copies_to_device() as copied, device.no_copies_to_host():
            _, after = step(learner, params, task, chunk=None if "serial" in name else 1)
            predictions(learner, after, task)
    assert copied() == 0


def test_meta_networks_with_one_example_a_class(device):
    learner, params, task = cast(drawn("meta-networks", shot=1), np.float64)
    found = learner.meta_grad(device.put(params), device.put(task))
    device.assert_close(found, learner.meta_grad(params, task), 1e-9)


def test_episodes_and_first_weights_are_those_of_numpy(device):
    _, params, _ = drawn("maml")
    episodes = EpisodeSampler(glyphs.load("train", classes=12), 3, 1, 2)
    there, here = OnDevice(episodes, "cupy").batch(5, 2), episodes.batch(5, 2)
    device.assert_close(there, here, 0)
    device.assert_close(device.put(params), params, 0)
    assert tree.map(lambda x: x.tobytes(), backend.asnumpy(device.put(params))) == tree.map(np.ndarray.tobytes, params)


@pytest.mark.parametrize(("name", "hyper"), [("prototypical", {}), ("maml", {"way": 3, "batch_norm": "support+1"})])
def test_learners_keep_their_promises_on_the_device(device, name, hyper):
    learner = learners.make(name, filters=4, **hyper)
    assert check_learner(learner, device="cupy") == check_learner(learner)
