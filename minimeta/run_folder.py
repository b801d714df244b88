"""The folder of one training run, whose files survive the process being killed at any moment.

    config.json                 what is trained and how; a resumed run must agree with it
    log.jsonl                   one JSON object per logged step, and one per validation
    model.safetensors           the parameters that did best on the validation episodes
    state.safetensors           parameters, optimizer and counters: all a run needs to go on
    state.previous.safetensors  the state before that one
    results.json, curve.png     accuracy on the test episodes; loss and validation over the steps
    adapted.png                 of a run on sinusoids: what a few steps of adaptation make of some tasks
    memory.png                  of a learner with a memory: where its heads read and wrote over a sequence
"""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

from minimeta import checkpoint
from minimeta.checkpoint import CheckpointError


class RunError(ValueError):
    """A run folder that cannot be used as asked; the message names it."""


class RunFolder:
    """The files of a run; every one but the log is replaced as a whole or not at all."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.config = self.path / "config.json"
        self.log = self.path / "log.jsonl"
        self.model = self.path / "model.safetensors"
        self.state = self.path / "state.safetensors"
        self.previous = self.path / "state.previous.safetensors"
        self.results = self.path / "results.json"
        self.curve = self.path / "curve.png"
        self.adapted = self.path / "adapted.png"
        self.memory = self.path / "memory.png"

    def enter(self, config: dict[str, Any], resume: bool) -> None:
        """Make the folder, or with `resume` make sure that it holds this very run, and write config.json.

        Raises RunError where it holds something else, or a run of another configuration.
        """
        config = json.loads(json.dumps(config))  # as it will be read back
        if resume and not self.path.exists():
            raise RunError(f"{self.path}: nothing to resume: no such folder")
        if self._used() and not resume:
            raise RunError(f"{self.path}: the folder is not empty; go on with its run by --resume, or choose another")
        if self._used():
            differences = _differences(_comparable(self.read_config()), _comparable(config))
            if differences:
                raise RunError(f"{self.path}: its run was configured differently: {'; '.join(differences)}")
        self.path.mkdir(parents=True, exist_ok=True)
        checkpoint.write_json(self.config, config)

    def _used(self) -> bool:
        """Whether there is anything; a kill may have left half a file, hidden, and nothing else."""
        return self.path.exists() and any(not file.name.endswith(".writing") for file in self.path.iterdir())

    def read_config(self) -> dict[str, Any]:
        """config.json. Raises RunError where there is none, CheckpointError where it is damaged."""
        if not self.config.exists():
            raise RunError(f"{self.path}: not the folder of a run: it has no {self.config.name}")
        config = checkpoint.read_json(self.config)
        if not isinstance(config, dict) or not isinstance(config.get("training"), dict):
            raise CheckpointError(f"{self.config}: not the configuration of a run")
        return config

    def append(self, record: dict[str, Any]) -> None:
        """Add a line to the log; it is on the disk before the state that follows it."""
        with self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def records(self) -> list[dict[str, Any]]:
        """All whole lines of the log; a kill may have cut the last one short. Raises CheckpointError for others."""
        lines = self.log.read_bytes().splitlines(keepends=True) if self.log.exists() else []
        try:
            return [json.loads(line) for line in lines if line.endswith(b"\n")]
        except ValueError as error:
            raise CheckpointError(f"{self.log}: damaged: {error}") from error

    def trim_log(self, step: int) -> None:
        """Drop what was logged after `step`, where a run goes on from."""
        kept = [record for record in self.records() if record["step"] <= step]
        checkpoint.write_bytes(self.log, "".join(json.dumps(record) + "\n" for record in kept).encode())

    def save_state(self, values: Any, counters: dict[str, Any]) -> None:
        """Write the state, after a copy of the one before."""
        if self.state.exists():
            checkpoint.write_bytes(self.previous, self.state.read_bytes())
        checkpoint.save(self.state, values, counters)

    def load_state(self, like: Any) -> tuple[Any, dict[str, Any]] | None:
        """What `save_state` wrote, or None before the first time. Raises CheckpointError where it is damaged."""
        if not self.state.exists():
            return None
        try:
            return checkpoint.load(self.state, like=like)
        except CheckpointError as error:
            hint = f"; the state before it is {self.previous}: rename it to {self.state.name} to go on from there"
            raise CheckpointError(f"{error}{hint if self.previous.exists() else ''}") from error


def numbered(base: Path) -> tuple[Path, Path]:
    """Of `base`, `base`-2, `base`-3, ... the last that is taken and the first that is free; `base` if none is taken.

    >>> [str(folder) for folder in numbered(Path("no such folder"))]
    ['no such folder', 'no such folder']
    """
    taken = folder = base
    for number in itertools.count(2):
        if not folder.exists():
            break
        taken, folder = folder, base.with_name(f"{base.name}-{number}")
    return taken, folder


def _comparable(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration without what a resumed run may change: the budget, and whether steps are recorded."""
    training = {name: value for name, value in config["training"].items() if name not in ("steps", "minutes")}
    return {**{name: value for name, value in config.items() if name != "graph"}, "training": training}


def _differences(there: Any, here: Any, name: str = "") -> list[str]:
    if isinstance(there, dict) and isinstance(here, dict):
        return [
            line
            for key in {**there, **here}
            for line in _differences(there.get(key), here.get(key), f"{name}.{key}" if name else key)
        ]
    return [] if there == here else [f"{name} is {there!r} there and {here!r} here"]
