"""Killed at any moment and resumed, a run ends bit-identical to one that was left in peace. Real processes and signals.

`KILL_AT` places the kill on each side of every system call that makes a save: before the content is flushed ("fsync",
which also ends each line of the log) and before it is renamed into place ("replace"). Other kills come at random.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minimeta import checkpoint
from minimeta.training import Interrupt

PROGRAM = [sys.executable, str(Path(__file__).with_name("linear_run.py"))]
ROOT = Path(__file__).parents[2]
STEPS = 40


def environment(**extra):
    paths = [str(ROOT), str(ROOT / "kernels"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OPENBLAS_NUM_THREADS": "1", **extra}


def start(folder, resume, steps=STEPS, **extra):
    command = [*PROGRAM, str(folder), str(steps), "resume" if resume else "new"]
    return subprocess.Popen(
        command, env=environment(**extra), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode in (0, -signal.SIGKILL), err
    return process.returncode == 0, out


def fingerprint(folder):
    """Everything that must not depend on interruptions: all but times."""
    values, counters = checkpoint.load(folder / "state.safetensors")
    checkpoint.save(folder / "compare", values)
    del counters["seconds"]
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    for line in log:
        del line["seconds"]
    return {
        "model": (folder / "model.safetensors").read_bytes(),
        "state": (folder / "compare").read_bytes(),
        "counters": counters,
        "log": log,
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    began = time.monotonic()
    done, _ = finish(start(folder, resume=False))
    assert done
    return fingerprint(folder), time.monotonic() - began


@pytest.mark.parametrize("kill", ["fsync:1", "replace:1", "fsync:5", "replace:3", "fsync:23", "replace:8"])
def test_killed_in_the_middle_of_a_save(tmp_path, undisturbed, kill):
    done, _ = finish(start(tmp_path / "run", resume=False, KILL_AT=kill))
    assert not done
    done, _ = finish(start(tmp_path / "run", resume=True))
    assert done
    assert fingerprint(tmp_path / "run") == undisturbed[0]


def test_killed_again_and_again_wherever_it_is(tmp_path, undisturbed):
    rng, folder, kills, done = random.Random(0), tmp_path / "run", 0, False
    while not done:
        extra = {"KILL_AT": f"{rng.choice(['fsync', 'replace'])}:{rng.randint(1, 12)}"} if kills < 6 else {}
        done, _ = finish(start(folder, resume=folder.exists(), **extra))
        kills += not done
    assert kills == 6
    assert fingerprint(folder) == undisturbed[0]


def test_killed_at_random_times(tmp_path, undisturbed):
    expected, duration = undisturbed
    rng, folder, kills, done = random.Random(1), tmp_path / "run", 0, False
    while not done:
        process = start(folder, resume=folder.exists())
        if kills < 5:
            time.sleep(rng.uniform(0.3, 1.0) * duration)
            process.kill()
        done, _ = finish(process)
        kills += not done
        if kills == 0 and done:  # too late: it was through
            break
    assert fingerprint(folder) == expected


def test_ctrl_c_saves_what_there_is_and_leaves_no_trace_in_a_resumed_run(tmp_path):
    # before any validation, so that neither a state nor a model has been saved yet
    straight, stopped, late = tmp_path / "straight", tmp_path / "stopped", {"VALIDATE_EVERY": "450"}
    process = start(stopped, resume=False, steps=600, **late)
    wait_for(stopped / "log.jsonl", process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out.strip()) == (0, "interrupted"), err
    state, counters = checkpoint.load(stopped / "state.safetensors")
    assert f"interrupted after step {counters['step']}, state saved" in err
    assert counters["step"] < 450
    model, _ = checkpoint.load(stopped / "model.safetensors")
    assert (model["net"]["w"] == state["params"]["net"]["w"]).all()
    for folder, resume in ((stopped, True), (straight, False)):
        done, out = finish(start(folder, resume, steps=600, **late))
        assert (done, out.strip()) == (True, "finished")
    assert fingerprint(stopped) == fingerprint(straight)


def test_a_second_ctrl_c_ends_at_once():
    with Interrupt() as interrupt:
        signal.raise_signal(signal.SIGINT)
        assert interrupt.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def wait_for(path, process):
    deadline = time.monotonic() + 60
    while not (path.exists() and path.stat().st_size):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
