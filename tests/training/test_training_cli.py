"""The command line in real processes, on tiny nets."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from minimeta import backend, doctor
from minimeta.cli import main
from minimeta.recipe import from_record
from minimeta.recipes import RECIPES, NamedRecipe
from minimeta.sources import DATASETS
from minimeta_kernels import launch, registry, warmup

ROOT = Path(__file__).parents[2]
TINY = ["--way", "5", "--query", "2", "--set", "filters=4", "--set", "test_episodes=20", "--set", "test_query=3",
        "--set", "validation_episodes=4", "--set", "validate_every=4"]  # fmt: skip


def command(*args):
    return [sys.executable, "-m", "minimeta.cli", *map(str, args)]


def environment(**extra):
    paths = [str(ROOT), str(ROOT / "kernels"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **extra}


def minimeta(folder, *args, **extra):
    return subprocess.run(
        command(*args), cwd=folder, env=environment(**extra), capture_output=True, text=True, timeout=120
    )


def refused(capsys, *args):
    """What a request that cannot be met prints: one line, exit code 2."""
    assert main([str(arg) for arg in args]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    line = printed.err.strip().splitlines()[-1]
    assert line.startswith("minimeta: error: ")
    assert "Traceback" not in printed.err
    return line


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder in which a run was made with no --out, and what the command printed."""
    folder = tmp_path_factory.mktemp("cli")
    done = minimeta(folder, "train", "--steps", 6, *TINY)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_help_is_quick(tmp_path):
    began = time.perf_counter()
    done = minimeta(tmp_path, "--help")
    print(f"minimeta --help: {time.perf_counter() - began:.2f} s")
    assert done.returncode == 0
    assert re.search(r"train .*evaluate .*predict .*recipes .*kernels .*doctor ", done.stdout, re.DOTALL)
    loaded = "import sys, minimeta.cli; print(*{'minimeta.training', 'matplotlib', 'tqdm'}.intersection(sys.modules))"
    done = subprocess.run([sys.executable, "-c", loaded], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_train_without_a_learner_is_the_main_job(trained):
    folder, done = trained
    run = folder / "runs/prototypical-glyphs"
    accuracy = r"test 5-way 1-shot, batch norm running: accuracy \d+\.\d+ % ± \d+\.\d+ %"
    assert re.search(rf"{accuracy} \(95 % t-interval, 20 episodes\)", done.stdout)
    assert re.search(r"step 4: validation.* batch norm running: accuracy", done.stderr)
    assert str(Path("runs/prototypical-glyphs")) in done.stdout
    results = json.loads((run / "results.json").read_text())
    expected = {"episodes": 20, "way": 5, "shot": 1, "query": 3, "data": "glyphs", "split": "test", "seed": 0,
                "rotations": "none", "bn_mode": "running", "steps": 6, "interrupted": False}  # fmt: skip
    assert {name: results[name] for name in expected} == expected
    assert 0 <= results["accuracy"] <= 1 < results["seconds"] + 1.0
    assert {"ci95", "git_revision", "backend", "best_step"} <= set(results)
    assert {"python", "numpy", "minimeta", "matplotlib"} <= set(results["versions"])
    assert (run / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_evaluate_repeats_the_test_of_the_run_by_default(trained):
    folder, _ = trained
    done = minimeta(folder, "evaluate", "runs/prototypical-glyphs", "--json")
    assert done.returncode == 0, done.stderr
    [line] = done.stdout.splitlines()
    record = json.loads(line)
    results = json.loads((folder / "runs/prototypical-glyphs/results.json").read_text())
    assert {name: results[name] for name in record} == record


def test_evaluate_takes_other_episodes(trained, capsys):
    folder, _ = trained
    run = str(folder / "runs/prototypical-glyphs")
    options = ["--way", "7", "--shot", "2", "--query", "1", "--episodes", "5", "--seed", "3", "--split", "val"]
    assert main(["evaluate", run, *options, "--rotations", "per_episode", "--batch-norm", "batch", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    for mode in ("support+1", "episode"):
        assert main(["evaluate", run, "--episodes", "2", "--batch-norm", mode]) == 0
        assert f"5-way 1-shot, test, batch norm {mode}: accuracy" in capsys.readouterr().out
    expected = {"way": 7, "shot": 2, "query": 1, "episodes": 5, "seed": 3, "split": "val", "bn_mode": "batch",
                "rotations": "per_episode"}  # fmt: skip
    assert {name: record[name] for name in expected} == expected
    assert main(["evaluate", run, "--episodes", "5"]) == 0
    assert "5-way 1-shot, test, batch norm running: accuracy" in capsys.readouterr().out


def test_a_recipe_is_a_run_by_name_that_other_options_change(trained, tmp_path):
    named, unnamed = tmp_path / "named", trained[0] / "runs/prototypical-glyphs"
    assert main(["train", "--recipe", "prototypical/glyphs", "--out", str(named), "--steps", "6", *TINY]) == 0
    assert (named / "model.safetensors").read_bytes() == (unnamed / "model.safetensors").read_bytes()


def test_a_recipe_resumes_its_own_run_and_no_other(tmp_path, capsys, monkeypatch):
    tiny = replace(RECIPES["prototypical/glyphs"].recipe, way=5, query=2, test_query=3, test_episodes=4)
    fewer = replace(tiny.training, steps=2, validation_episodes=2)
    monkeypatch.setitem(RECIPES, "tiny/a", NamedRecipe(replace(tiny, training=fewer, hyper={"filters": 4}), "tiny"))
    monkeypatch.setitem(RECIPES, "tiny/b", NamedRecipe(replace(tiny, training=fewer, hyper={"filters": 3}), "tinier"))
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--recipe", "tiny/a"]) == 0
    assert main(["train", "--recipe", "tiny/a", "--resume", "--steps", "3"]) == 0
    assert json.loads((tmp_path / "runs/tiny-a/results.json").read_text())["steps"] == 3
    capsys.readouterr()
    assert "hyper.filters is 4 there and 3 here" in refused(
        capsys, "train", "--recipe", "tiny/b", "--resume", "--out", "runs/tiny-a"
    )


def test_recipes_are_listed_with_the_figures_of_the_paper_and_ours(capsys, monkeypatch):
    recipe, paper, ours = RECIPES["prototypical/glyphs"].recipe, {"5w1s": 98.8, "lake": 92.0}, {"5w1s": (98.25, 0.184)}
    monkeypatch.setitem(RECIPES, "x/y", NamedRecipe(recipe, "a test", paper, ours))
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[0] for line in lines if not line.startswith(" ")] == list(RECIPES)
    assert lines[-3:] == ["x/y: a test", "    paper 5w1s 98.8, lake 92", "    ours  5w1s 98.25 ± 0.18"]
    assert main(["recipes", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert list(record) == list(RECIPES)
    assert from_record(record["x/y"].pop("recipe")).training == recipe.training
    assert record["x/y"] == {"about": "a test", "paper": paper, "ours": {"5w1s": [98.25, 0.184]}}


def test_resume_goes_on_with_the_latest_run_and_its_own_settings(trained):
    folder, _ = trained
    straight = minimeta(folder, "train", "--steps", 6, *TINY)
    assert straight.returncode == 0, straight.stderr
    latest = folder / "runs/prototypical-glyphs-2"
    assert latest.is_dir()
    first = folder / "runs/prototypical-glyphs"
    assert (latest / "model.safetensors").read_bytes() == (first / "model.safetensors").read_bytes()
    more = minimeta(folder, "train", "--resume", "--steps", 8)
    assert more.returncode == 0, more.stderr
    assert json.loads((latest / "results.json").read_text())["steps"] == 8
    differently = minimeta(folder, "train", "--resume", "--seed", 4)
    assert differently.returncode == 2
    assert "training.seed is 0 there and 4 here" in differently.stderr


def test_sigkill_and_resume_with_the_real_learner(trained):
    folder, _ = trained
    straight = minimeta(folder, "train", "--steps", 24, "--out", "straight", *TINY)
    assert straight.returncode == 0, straight.stderr
    process = subprocess.Popen(
        command("train", "--steps", 24, "--out", "killed", *TINY),
        cwd=folder, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for(folder / "killed/state.safetensors", process)
    process.kill()
    process.wait()
    again = minimeta(folder, "train", "--out", "killed", "--resume")
    assert again.returncode == 0, again.stderr
    for name in ("model.safetensors", "config.json"):
        assert (folder / "killed" / name).read_bytes() == (folder / "straight" / name).read_bytes()
    results = [json.loads((folder / name / "results.json").read_text()) for name in ("killed", "straight")]
    assert results[0]["accuracy"] == results[1]["accuracy"]


def test_ctrl_c_reports_what_there_is(trained):
    folder, _ = trained
    process = subprocess.Popen(
        command("train", "--steps", 100_000, "--out", "stopped", *TINY),
        cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for(folder / "stopped/state.safetensors", process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "test 5-way 1-shot, batch norm running: accuracy" in out
    assert "go on with: minimeta train --resume --out stopped" in err
    assert "Traceback" not in err
    assert json.loads((folder / "stopped/results.json").read_text())["interrupted"] is True


def wait_for(path, process):
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_without_matplotlib_and_tqdm_a_run_says_so_and_is_whole(tmp_path):
    (tmp_path / "absent").mkdir()
    for name in ("matplotlib", "tqdm"):
        (tmp_path / f"absent/{name}.py").write_text(f"raise ImportError('no {name}')")
    paths = os.pathsep.join([str(tmp_path / "absent"), str(ROOT), str(ROOT / "kernels")])
    done = minimeta(tmp_path, "train", "--steps", 2, *TINY, PYTHONPATH=paths)
    assert done.returncode == 0, done.stderr
    assert "no curve.png: curve.png needs matplotlib: pip install 'minimeta[train]'" in done.stderr
    assert (tmp_path / "runs/prototypical-glyphs/results.json").exists()


def test_doctor(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("MINIMETA_DATA", str(tmp_path))
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["versions"]["numpy"]
    assert report["data"]["MINIMETA_DATA"] == str(tmp_path)
    assert report["machine"]["cores"] >= 1
    assert {"kernels", "gpu", "git_revision", "machine", "threads"} <= set(report)
    assert main(["doctor"]) == 0
    assert "numpy" in capsys.readouterr().out


has_numba = importlib.util.find_spec("numba") is not None


def test_kernels_lists_what_runs(capsys, monkeypatch):
    monkeypatch.delenv(registry.VARIABLE, raising=False)
    runs = {}
    for forced in ("", "reference"):
        monkeypatch.setenv(registry.VARIABLE, forced)
        assert main(["kernels"]) == 0
        head, *rows, means = capsys.readouterr().out.splitlines()
        assert head.split() == ["kernel", "implementations", "runs"]
        assert means == doctor.kernels()
        assert [row.split()[0] for row in rows] == list(registry.table())
        runs[forced] = {row.split()[0]: row.split()[-1] for row in rows}
    assert runs[""]["conv"] == ("numba" if has_numba else "reference")
    assert set(runs["reference"].values()) == {"reference"}


def test_kernels_refuses_an_unknown_implementation(capsys, monkeypatch):
    monkeypatch.setenv(registry.VARIABLE, "fortran")
    assert main(["kernels"]) == 2
    said = capsys.readouterr().err
    assert f"MINIMETA_KERNELS: unknown backend 'fortran'; choose one of {', '.join(registry.BACKENDS)}" in said


@pytest.mark.skipif(not has_numba, reason="Numba is not installed")
@pytest.mark.parametrize("processes", ["1", "2"])
def test_warmup_compiles_every_kernel(processes, capsys, monkeypatch):
    monkeypatch.setenv(registry.VARIABLE, "reference")  # of no matter to what is to be compiled
    monkeypatch.setenv(launch.VARIABLE, processes)
    assert main(["kernels", "warmup", "--dtype", "float32"]) == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(r"all kernels for float32 in \d+ s; compiled code kept in .+\n", out)
    lines = [line for line in err.splitlines() if line.startswith("minimeta: ")]
    compiled = [name for name, backends in registry.table().items() if "numba" in backends]
    assert lines == [f"minimeta: {n}/{len(compiled)} {name}, float32" for n, name in enumerate(compiled, 1)]


def test_warmup_without_numba_names_the_extra(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    assert main(["kernels", "warmup"]) == 0
    out = capsys.readouterr().out
    assert "nothing to compile" in out
    assert "pip install 'minimeta[train]'" in out


def test_warmup_says_that_nothing_is_kept(capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(warmup, "warmup", lambda dtypes, say, processes: 2.0)
    monkeypatch.setattr(warmup, "cache_folder", lambda: None)
    assert main(["kernels", "warmup"]) == 0
    out = capsys.readouterr().out
    assert "all kernels for float32 and float64 in 2 s; compiled code not kept" in out
    assert "NUMBA_CACHE_DIR" in out


@pytest.mark.skipif(not has_numba, reason="Numba is not installed")
def test_doctor_says_how_compiled_kernels_run(monkeypatch):
    monkeypatch.delenv(registry.VARIABLE, raising=False)
    monkeypatch.setenv(launch.VARIABLE, "3")
    expected = r"numba \((AVX-512|AVX2|16-byte vectors), 3 threads\), compiled code kept in .+"
    assert re.fullmatch(expected, doctor.kernels())
    monkeypatch.setenv(launch.VARIABLE, "1")
    assert ", 1 thread)" in doctor.kernels()
    monkeypatch.setattr(warmup, "cache_folder", lambda: None)
    assert doctor.kernels().endswith("compiled code not kept")
    monkeypatch.setitem(sys.modules, "minimeta_kernels.numba_cpu.target", None)
    assert doctor.kernels().startswith("none: numba cannot be imported")


def test_doctor_says_why_the_reference_runs(monkeypatch):
    with registry.use("reference"):
        expected = "asked for by use or MINIMETA_KERNELS" if has_numba else "numba is not installed"
        assert doctor.kernels() == f"reference (NumPy): {expected}"
    monkeypatch.delenv(registry.VARIABLE, raising=False)
    monkeypatch.setattr(registry, "order", lambda: ("reference",))
    monkeypatch.setitem(sys.modules, "numba", None)
    assert doctor.kernels() == "reference (NumPy): numba is not installed"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nobody"], "unknown learner 'nobody'; choose from "),
        (["--data", "mnist"], "unknown data 'mnist'; choose from glyphs, omniglot, sinusoid, copy, "),
        (["--recipe", "best"], "unknown recipe 'best'; choose from prototypical/glyphs, "),
        (["siamese", "--recipe", "prototypical/glyphs"], "says learner and data itself; leave out LEARNER siamese"),
        (["--data", "glyphs", "--recipe", "prototypical/glyphs"], "leave out --data glyphs"),
        (["--data", "sinusoid"], "sinusoid is a regression task and prototypical a classifier"),
        (["--way", 5000], "5000-way needs 5000 classes, split 'train' has 1000"),
        (["--test-way", 150], "150-way needs 150 classes, split 'val' has 100"),
        (["--shot", 30], "30-shot with 5 queries needs 35 drawings per class"),
        (["--split", "vinyals"], "glyphs has no split schemes"),
        (["--split", "nonsense"], "unknown split 'nonsense'"),
        (["--data", "omniglot", "--split", "vinyals/test"], "training takes a scheme"),
        (["--rotations", "often"], "unknown rotations 'often'"),
        (["--steps", 0], "steps=0; need steps >= 1"),
        (["--minutes", -1], "minutes=-1.0; need minutes > 0"),
        (["--tasks", 0], "tasks=0"),
        (["--set", "filters"], "--set filters: need key=value"),
        (["--set", "filters=many"], "--set filters=many: need int"),
        (["--set", "batch_norm=none"], "batch_norm='none'; choose from running, batch, support+1, episode"),
        (["--set", "test_episodes=1"], "test_episodes=1"),
        (["--resume"], "nothing to resume: no such folder"),
    ],
)
def test_training_requests_that_cannot_be_met(capsys, monkeypatch, tmp_path, args, message):
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, "train", *args)
    assert list(tmp_path.iterdir()) == []  # before any work


def test_an_unknown_setting_lists_those_there_are(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    line = refused(capsys, "train", "--set", "colour=red")
    for name in ("colour", "filters", "batch_norm", "lr", "patience", "test_episodes"):
        assert name in line


def test_a_used_folder_is_refused(capsys, trained):
    folder, _ = trained
    line = refused(capsys, "train", "--out", folder / "runs/prototypical-glyphs")
    assert "the folder is not empty; go on with its run by --resume" in line


def has_gpu():
    try:
        backend.module("cupy")
    except RuntimeError:
        return False
    return True


def test_without_a_gpu_cupy_is_refused(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    if has_gpu():
        pytest.skip("there is a GPU")
    assert "'cupy' needs" in refused(capsys, "train", "--backend", "cupy")


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_help_names_all_data(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")  # names broken at their hyphens could not be found
    with pytest.raises(SystemExit):
        main([command, "--help"])
    text = capsys.readouterr().out
    assert all(name in text for name in DATASETS)


def test_evaluation_requests_that_cannot_be_met(capsys, trained, tmp_path):
    folder, _ = trained
    run = folder / "runs/prototypical-glyphs"
    assert "not the folder of a run: it has no config.json" in refused(capsys, "evaluate", tmp_path)
    assert "interval needs at least 2" in refused(capsys, "evaluate", run, "--episodes", 1)
    assert "500-way needs 500 classes" in refused(capsys, "evaluate", run, "--way", 500)
    assert "unknown split 'x'" in refused(capsys, "evaluate", run, "--split", "x")
    assert "batch_norm='x'; choose from running, batch, support+1, episode" in refused(
        capsys, "evaluate", run, "--batch-norm", "x"
    )
    assert "sinusoid is a regression task" in refused(capsys, "evaluate", run, "--data", "sinusoid")
    (tmp_path / "config.json").write_bytes((run / "config.json").read_bytes())
    assert "model.safetensors: cannot be read" in refused(capsys, "evaluate", tmp_path)
    (tmp_path / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes()[:-1])
    assert "model.safetensors: damaged" in refused(capsys, "evaluate", tmp_path)
    config = json.loads((run / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "hyper": {"filters": 5}}))
    (tmp_path / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes())
    assert "has shape" in refused(capsys, "evaluate", tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, "future": 1}))
    assert "config.json: not a configuration this version reads" in refused(capsys, "evaluate", tmp_path)


def test_a_reader_that_leaves_early_ends_the_command_without_a_message():
    command = [sys.executable, "-c", "import sys; from minimeta.cli import main; sys.exit(main())", "doctor"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        process.stdout.close()  # before the first line is written
        assert process.stderr.read() == b""
    assert process.returncode == 141  # not success: a run would have been cut short


def test_running_out_of_memory_is_said_with_a_way_out(capsys, monkeypatch):
    def fail():
        raise MemoryError("8 GB asked for, 2 are free")

    monkeypatch.setattr(doctor, "examine", fail)
    assert main(["doctor"]) == 1
    assert "error: out of memory (8 GB asked for, 2 are free); fewer episodes" in capsys.readouterr().err
