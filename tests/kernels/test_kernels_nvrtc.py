"""Every CUDA kernel compiles for every architecture, within the registers and spills of cuda_budget.json."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from tests.kernels import nvrtc

try:
    nvrtc.library()
except ModuleNotFoundError as missing:
    pytest.skip(str(missing), allow_module_level=True)

BUDGET = json.loads(nvrtc.BUDGET.read_text())
#: For the oldest all numbers, for the others float alone, of which most is made: compiling takes its time.
WHOLE = (75,)


def stay_within_budget(name: str, architecture: int, instances: Sequence[str]) -> None:
    found = nvrtc.usage(nvrtc.SOURCES[name], architecture, instances)
    over = {
        instance: (key, value, BUDGET[name][instance][key])
        for instance, figures in found.items() for key, value in figures.items() if value > BUDGET[name][instance][key]
    }  # fmt: skip
    assert not over, f"what takes more than its budget: {over}"


@pytest.mark.parametrize("name", nvrtc.SOURCES)
@pytest.mark.parametrize("architecture", WHOLE)
def test_all_instances(architecture: int, name: str) -> None:
    stay_within_budget(name, architecture, nvrtc.SOURCES[name].instances)


@pytest.mark.parametrize("name", nvrtc.SOURCES)
@pytest.mark.parametrize("architecture", [a for a in nvrtc.ARCHITECTURES if a not in WHOLE])
def test_instances_of_float(architecture: int, name: str) -> None:
    instances = [i for i in nvrtc.SOURCES[name].instances if "Dual" not in i and "double" not in i]
    stay_within_budget(name, architecture, instances)


@pytest.mark.long
@pytest.mark.parametrize("name", nvrtc.SOURCES)
@pytest.mark.parametrize("architecture", [a for a in nvrtc.ARCHITECTURES if a not in WHOLE])
def test_all_instances_for_the_other_architectures(architecture: int, name: str) -> None:
    stay_within_budget(name, architecture, nvrtc.SOURCES[name].instances)


def test_the_table_is_of_all_instances() -> None:
    instances = {name: set(source.instances) for name, source in nvrtc.SOURCES.items()}
    assert {name: set(by_instance) for name, by_instance in BUDGET.items()} == instances


def test_what_takes_more_than_its_budget_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    tight = {"lstm": {"lstm_cell<float>": {"registers": 1, "spilled": 0, "shared": 0}}}
    monkeypatch.setitem(globals(), "BUDGET", tight)
    with pytest.raises(AssertionError, match=r"lstm_cell<float>': \('registers', \d+, 1\)"):
        stay_within_budget("lstm", 75, ["lstm_cell<float>"])


def test_what_does_not_compile_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    source = nvrtc.SOURCES["lstm"]
    monkeypatch.setattr(source, "text", "not C++")
    with pytest.raises(AssertionError, match=r"lstm.cu for sm_75:\n.*error"):
        nvrtc.usage(source, 75, ["lstm_cell<float>"])
