"""What works with NumPy and safetensors alone, and what the rest says when its packages are missing.

`MINIMETA_NULL_TIER=1 python -m pytest tests/null` runs this where nothing else is installed.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minimeta
from minimeta import checkpoint, cli, curve, data, inspect, learners, ops, testing
from minimeta.data.lazy import require

ABSENT = ("numba", "scipy", "PIL", "matplotlib", "tqdm", "pooch", "hypothesis", "cupy")
X = np.array([[0.5, -0.3], [0.9, 0.1]])


@pytest.mark.skipif(os.environ.get("MINIMETA_NULL_TIER") != "1", reason="runs in the environment of the core alone")
def test_the_extras_are_really_absent():
    assert [name for name in ABSENT if importlib.util.find_spec(name) is not None] == []


def test_derivatives_of_every_kind():
    x = np.array([1.0, 2.0])

    def cubes(x: Any) -> Any:
        return (x**3).sum()

    assert minimeta.grad(cubes)(x).tolist() == [3.0, 12.0]
    assert minimeta.hvp(cubes, x, x).tolist() == [6.0, 24.0]
    assert minimeta.hessian(cubes)(x).tolist() == [[6.0, 0.0], [0.0, 12.0]]
    assert minimeta.jvp(cubes, (x,), (np.ones(2),))[1] == 15.0


def test_a_page_of_a_graph(tmp_path):
    inspect.page(ops.tanh, 0.5, file=tmp_path / "tanh.html")
    assert "tanh_1" in (tmp_path / "tanh.html").read_text(encoding="utf-8")


FAMILIES = {
    "elementwise": ops.sigmoid,
    "reduce": lambda x: ops.logsumexp(x, axis=0),
    "shape": lambda x: ops.pad(x, ((1, 0), (0, 2))) * 2,
    "linalg": lambda x: ops.inv(x @ x.T + 1),
    "indexing": lambda x: ops.index_add(x, [0, 0], x[1] * x[0]),
    "nn": lambda x: ops.cross_entropy(x, np.array([0, 1])),
    "conv": lambda x: ops.conv2d(x.reshape(1, 2, 2, 1), ops.exp(x).reshape(2, 2, 1, 1)),
    "fused": lambda x: ops.sqeuclidean(x, x * x),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_an_operation_of_each_family_with_its_gradient(family):
    def f(x: Any) -> Any:
        return ops.sum(FAMILIES[family](x))

    v, step = np.array([[1.0, -0.5], [0.3, 2.0]]), 1e-5
    slope = (minimeta.grad(f)(X) * v).sum()
    expected = (f(X + step * v) - f(X - step * v)) / (2 * step)
    assert abs(slope) > 1e-3
    assert slope == pytest.approx(float(expected), rel=1e-6)


RNG = np.random.default_rng(0)
W, SCALE = RNG.normal(size=(3, 3, 2, 3)), RNG.normal(size=3)
KEYS, GATES = RNG.normal(size=(1, 2, 1, 3)), np.full((1, 2, 1), 0.3)
MEMORY = ops.LruaState(RNG.normal(size=(1, 4, 3)), np.full((1, 1, 4), 0.25), np.arange(4.0)[None])

#: What kernels are behind, as functions of an array [2, 3, 6, 6, 2] or of its first numbers.
ON_KERNELS = {
    "convolution": lambda x: ops.conv2d(x, W, stride=2, padding=1),
    "norm, relu": lambda x: ops.batch_norm_relu(ops.conv2d(x, W, stride=2), SCALE, SCALE)[0],
    "norm, relu, pool": lambda x: ops.batch_norm_relu_max_pool2d(ops.conv2d(x, W), SCALE, SCALE)[0],
    "conv block": lambda x: ops.conv_block(np.ones((1, 2, 4, 4, 2)) * W[0, 0, 0, 0], W, x[0, 0, 0, :3, 0], SCALE)[0],
    "matmul": lambda x: x[0, 0, :, :, 0] @ x[0, 1, :, :, 0],
    "l1": lambda x: ops.l1(x[0, 0, 0], x[1, 1, 1]),
    "sqeuclidean": lambda x: ops.sqeuclidean(x[0, 0, 0], x[1, 1, 1]),
    "euclidean": lambda x: ops.euclidean(x[0, 0, 0], x[1, 1, 1]),
    "cosine": lambda x: ops.cosine(x[0, 0, 0], x[1, 1, 1]),
    "attention": lambda x: ops.attention(x[0, 0, 0], x[0, 1, 0], x[0, 2, 0]),
    "cosine attention": lambda x: ops.cosine_attention(x[0, 0, 0], x[0, 1, 0], x[0, 2, 0]),
    "lrua": lambda x: ops.lrua(MEMORY, KEYS * x[0, 0, 0, :3, 0], KEYS * x[0, 0, 1, :3, 0], GATES)[0],
    "lstm": lambda x: ops.lstm_gates(x[0, 0, :, :4, 0], x[0, 0, :, 0, 1:])[0],
}


@pytest.mark.parametrize("name", ON_KERNELS)
def test_what_has_kernels_runs_without_a_compiler_to_second_order(name):
    def f(x: Any) -> Any:
        return ops.sum(ops.square(ON_KERNELS[name](x)))

    rng, step = np.random.default_rng(1), 1e-5
    x, v = rng.normal(size=(2, 2, 3, 6, 6, 2))
    for g in (f, lambda x: (minimeta.grad(f)(x) * v).sum()):
        slope = (minimeta.grad(g)(x) * v).sum()
        expected = (g(x + step * v) - g(x - step * v)) / (2 * step)
        assert abs(slope) > 1e-3
        assert slope == pytest.approx(float(expected), rel=1e-4)


@pytest.fixture(scope="module")
def episode() -> Any:
    sampler = data.EpisodeSampler(data.load("glyphs", "test"), way=5, shot=1, query=2)
    return sampler.batch(first=0, tasks=2)


@pytest.fixture(scope="module")
def learner() -> Any:
    return learners.make("prototypical", filters=8)


def test_a_learner_learns_and_predicts(learner, episode):
    params = learner.init(np.random.default_rng(0))
    loss, _aux, grads = learner.meta_grad(params, episode)
    assert np.isfinite(loss)
    assert minimeta.tree.map(np.shape, grads["net"]) == minimeta.tree.map(np.shape, params["net"])
    state = learner.adapt(params, episode.xs, episode.ys, episode.n_way)
    logits = learner.predict(params, state, episode.xs)
    assert logits.shape == (2, 5, 5)
    assert (logits.argmax(axis=-1) == episode.ys).all()  # one shot: every support image is its own prototype


def test_a_saved_model_predicts_the_same(learner, episode, tmp_path):
    params = learner.init(np.random.default_rng(0))
    checkpoint.save(tmp_path / "model.safetensors", params, {"learner": "prototypical"})
    loaded, metadata = checkpoint.load(tmp_path / "model.safetensors", like=params)
    assert metadata == {"learner": "prototypical"}

    def predicted(params: Any) -> Any:
        return learner.predict(params, learner.adapt(params, episode.xs, episode.ys, episode.n_way), episode.xq)

    np.testing.assert_array_equal(predicted(loaded), predicted(params))


@pytest.mark.parametrize("name", learners.names())
def test_every_learner_works(name, episode):
    small = {"filters": 4, "hidden": 8, "size": episode.xs.shape[2]}
    known = learners.hyper_parameters(name)
    learner = learners.make(name, **{setting: value for setting, value in small.items() if setting in known})
    params = learner.init(np.random.default_rng(0))
    loss, aux, _ = learner.meta_grad(params, episode)
    assert np.isfinite(loss)
    assert 0 <= aux["accuracy"] <= 1
    state = learner.adapt(params, episode.xs, episode.ys, episode.n_way)
    assert np.isfinite(learner.predict(params, state, episode.xq)).all()


def test_a_classifier_learns_new_characters_from_one_drawing_each():
    model = Path(__file__).parents[2] / "bench/results/prototypical-glyphs"  # the README's
    drawings = data.load("glyphs", "test").images[:5, :16]
    classifier = minimeta.FewShotClassifier.load(model).fit(drawings[:, 0], list("abcde"))
    queries = drawings[:, 1:].reshape(75, 28, 28, 1)
    assert classifier.score(queries, np.repeat(list("abcde"), 15)) > 0.95


def minimeta_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; from minimeta.cli import main; sys.exit(main(sys.argv[1:]))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)


def test_the_command_line_answers():
    done = minimeta_command("--help")
    assert done.returncode == 0
    assert all(command in done.stdout for command in ("train", "evaluate", "kernels", "learn", "doctor"))


@pytest.mark.skipif(importlib.util.find_spec("numba") is not None, reason="Numba is installed")
def test_the_command_line_names_what_compiles_kernels(capsys):
    assert cli.main(["kernels", "warmup"]) == 0
    assert "pip install 'minimeta[train]'" in capsys.readouterr().out
    assert cli.main(["kernels"]) == 0
    assert "reference (NumPy): numba is not installed" in capsys.readouterr().out


@pytest.mark.parametrize("number", range(1, 8))
def test_every_lesson_runs(number, capsys):
    assert cli.main(["learn", str(number)]) == 0
    assert capsys.readouterr().out.startswith(f"Lesson {number}. ")


def hidden(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Make packages look absent where they are installed."""
    for name in names:
        for module in [m for m in sys.modules if m == name or m.startswith(name + ".")]:
            monkeypatch.delitem(sys.modules, module)
        monkeypatch.setitem(sys.modules, name, None)


def test_a_curve_without_matplotlib_names_the_extra(monkeypatch, tmp_path):
    hidden(monkeypatch, "matplotlib")
    with pytest.raises(ImportError, match=r"curve.png needs matplotlib: pip install 'minimeta\[train\]'"):
        curve.draw([], tmp_path / "curve.png")


@pytest.mark.parametrize(("module", "package"), [("PIL.Image", "Pillow"), ("pooch", "pooch")])
def test_data_helpers_without_their_packages_name_the_extra(module, package, monkeypatch):
    hidden(monkeypatch, module.partition(".")[0])
    with pytest.raises(ImportError, match=rf"this needs {package}: pip install 'minimeta\[train\]'"):
        require(module, package, "this")


def test_property_tests_without_hypothesis_name_the_extra(monkeypatch):
    hidden(monkeypatch, "hypothesis")
    with pytest.raises(ImportError, match=r"needs Hypothesis; pip install 'minimeta\[test\]'"):
        testing.HypothesisDraw(None)


def test_a_gpu_asked_for_without_cupy_is_an_error(monkeypatch):
    hidden(monkeypatch, "cupy")
    with pytest.raises(RuntimeError, match="'cupy' needs CuPy"):
        minimeta.backend.to_device(X, "cupy")
