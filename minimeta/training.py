"""The training loop: meta-gradients, an optimizer, validation, the best parameters kept, every state saved.

Episodes are numbered and drawn statelessly, so the "random state" is a seed and the number of steps taken. A run
limited by steps that is killed at any moment and resumed ends bit-identical to one that was never interrupted: it goes
on from the last saved state, and log lines after that state are dropped.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from types import FrameType, TracebackType
from typing import Any, NamedTuple, Self

import numpy as np

from minimeta import backend, checkpoint, optim, replay
from minimeta.checkpoint import CheckpointError
from minimeta.evaluation import Episodes, OnDevice, evaluate
from minimeta.learners.base import Learner, Params, chunked_meta_grad, trainable
from minimeta.progress import Progress
from minimeta.run_folder import RunFolder


class DivergedError(ArithmeticError):
    """The loss is no longer a number; the message names the step."""


@dataclass(frozen=True)
class Settings:
    """How to train. Exactly one of `steps` and `minutes` (of wall clock, validation included) limits a run.

    A step is one update from a meta-batch of `tasks` episodes, of which `chunk` are computed at a time. Validation
    comes every `validate_every` steps; `patience` validations in a row without a new best end the run. `clip_norm`
    bounds the global norm of the gradient. Raises ValueError naming the setting that is out of range.

    >>> Settings(steps=0)
    Traceback (most recent call last):
    ValueError: steps=0; need steps >= 1
    """

    steps: int | None = 1000
    minutes: float | None = None
    tasks: int = 1
    chunk: int | None = None
    optimizer: str = "adam"
    lr: float = 1e-3
    schedule: str = "constant"
    clip_norm: float | None = None
    validate_every: int = 100
    validation_episodes: int = 100
    patience: int | None = None
    log_every: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise ValueError(f"steps={self.steps}, minutes={self.minutes}; need one of them, and only one")
        counts = dict.fromkeys(("steps", "tasks", "chunk", "validate_every", "patience", "log_every"), 1)
        for name, least in {**counts, "validation_episodes": 2, "seed": 0}.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name}={value}; need {name} >= {least}")
        for name in ("minutes", "lr", "clip_norm"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name}={value}; need {name} > 0")
        for name, known in (("optimizer", optim.OPTIMIZERS), ("schedule", optim.SCHEDULES)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r}; choose from {', '.join(known)}")

    def progress(self, step: int, seconds: float) -> float:
        """The share of the run that lies behind, 0..1; by steps it is the same in every run.

        >>> Settings(steps=200).progress(step=50, seconds=7.0)
        0.25
        """
        done = step / self.steps if self.steps is not None else seconds / (60 * (self.minutes or math.nan))
        return min(done, 1.0)


@dataclass(frozen=True)
class State:
    """Where a run is. `window` sums up what the next log line will average."""

    params: Params
    optimizer: Any
    step: int = 0
    seconds: float = 0.0
    best: float | None = None
    best_step: int = 0
    window: dict[str, float] = field(default_factory=dict)


class Measured(NamedTuple):
    """What a step left to be read: its number, its rate, and numbers by name that may be on a device."""

    step: int
    lr: float
    values: dict[str, Any]


class Outcome(NamedTuple):
    """The end of a run: the parameters in model.safetensors (NumPy arrays), and how it came to them."""

    params: Params
    step: int
    seconds: float
    best: float | None
    best_step: int
    interrupted: bool


def train(
    learner: Learner,
    train_episodes: Episodes,
    val_episodes: Episodes,
    settings: Settings,
    out_dir: str | os.PathLike[str],
    *,
    config: dict[str, Any] | None = None,
    resume: bool = False,
    device: str = "numpy",
    graph: bool = False,
) -> Outcome:
    """Meta-train `learner` and keep the parameters that do best on the first episodes of `val_episodes`.

    `config` (JSON-able) goes into config.json beside the settings. `resume` goes on with the run in `out_dir`; only
    `steps`, `minutes` and `graph` may differ then. Ctrl-C ends the run after the current step with everything saved.
    `graph` records steps as CUDA graphs (`minimeta.replay`), on device "cupy"; results are the same up to rounding.

    Raises RunError for a folder that holds something else or a run that was configured differently, CheckpointError
    for a damaged state, DivergedError when the loss becomes NaN or infinite; with `graph`, ValueError for another
    device or a learner that counts steps on the host, RecordingError for a step that cannot be recorded.
    """
    folder = RunFolder(out_dir)
    loop = _Loop(learner, train_episodes, val_episodes, settings, folder, device, graph)
    state = loop.begin()
    folder.enter({**(config or {}), "training": asdict(settings)}, resume)
    state = loop.restore(state)
    folder.trim_log(state.step)
    state, interrupted = loop.run(state)
    params, _ = checkpoint.load(folder.model, like=backend.asnumpy(state.params))
    return Outcome(params, state.step, state.seconds, state.best, state.best_step, interrupted)


class _Loop:
    """What stays the same while a run goes from state to state."""

    def __init__(
        self, learner: Learner, train_episodes: Episodes, val_episodes: Episodes, settings: Settings,
        folder: RunFolder, device: str, graph: bool,
    ) -> None:  # fmt: skip
        self.learner = learner
        self.train_episodes = OnDevice(train_episodes, device)
        self.val_episodes = OnDevice(val_episodes, device)
        self.device = device
        self.settings = settings
        self.folder = folder
        self.schedule = optim.SCHEDULES[settings.schedule](settings.lr)
        self.optimizer = optim.OPTIMIZERS[settings.optimizer](self.schedule)
        update = partial(_update, learner, self.optimizer, settings)
        self.update = replay.Replay(update, device) if graph else update
        self.graph = graph
        self.started = math.nan  # when the clock of this run stood at 0
        self.unread: list[Measured] = []
        self.measured: dict[str, float] = {}  # of the last step that was read

    def begin(self) -> State:
        """The fresh state that the seed draws."""
        params = backend.to_device(self.learner.init(np.random.default_rng(self.settings.seed)), self.device)
        if self.graph:
            replay.check(type(self.learner).__name__, params)
        return State(params, self.optimizer.init(trainable(params)))

    def restore(self, fresh: State) -> State:
        """The state saved in the folder, or the fresh one, which also says which tensors a saved one must have."""
        saved = self.folder.load_state(backend.asnumpy({"params": fresh.params, "optimizer": fresh.optimizer}))
        if saved is None:
            return fresh
        values, counters = saved
        seed = counters.pop("seed")
        if seed != self.settings.seed:
            raise CheckpointError(f"{self.folder.state}: a state of seed {seed}; need seed {self.settings.seed}")
        return State(**backend.to_device(values, self.device), **counters)

    def save(self, state: State) -> None:
        counters = {name: getattr(state, name) for name in ("step", "seconds", "best", "best_step", "window")}
        values = {"params": state.params, "optimizer": state.optimizer}
        self.folder.save_state(values, {**counters, "seed": self.settings.seed})

    def run(self, state: State) -> tuple[State, bool]:
        """Train until the budget or patience is used up, or Ctrl-C; the last state, and whether it was Ctrl-C."""
        self.started = time.monotonic() - state.seconds
        meter = _Meter(self.settings, state)
        # a GPU works on while the host goes ahead, unless it has to hand over what it measured
        read_every = 1 if self.device == "numpy" else self.settings.log_every
        with Interrupt() as interrupt, meter.progress as progress:
            while not (interrupt.requested or self.finished(state)):
                state = self.step(state)
                if state.step % read_every == 0:
                    state = self.read(state)
                if state.step % self.settings.validate_every == 0 or self.progress(state) >= 1:
                    state = self.validate(self.read(state), progress)
                meter.show(state, self.measured)
            if interrupt.requested:
                state = self.read(state)
                self.save(state)
                progress.note(f"interrupted after step {state.step}, state saved")
        if state.best is None:  # too early for any validation, so what there is
            checkpoint.save(self.folder.model, state.params, {"step": state.step})
        return state, interrupt.requested

    def progress(self, state: State) -> float:
        return self.settings.progress(state.step, state.seconds)

    def finished(self, state: State) -> bool:
        patience = self.settings.patience
        waited = (state.step - state.best_step) // self.settings.validate_every
        return self.progress(state) >= 1 or (patience is not None and waited >= patience)

    def step(self, state: State) -> State:
        """One update of the parameters; what was measured on the way is left in `unread`.

        With graphs, the arrays of the state before are overwritten.
        """
        tasks, progress, step = self.settings.tasks, self.progress(state), state.step + 1
        episode = self.train_episodes.batch(state.step * tasks, tasks)
        numbers, optimizer = self.optimizer.advance(state.optimizer, progress)
        (params, optimizer), measured = self.update((state.params, optimizer), episode, numbers)
        self.unread.append(Measured(step, self.schedule(progress), measured))
        seconds = time.monotonic() - self.started
        return replace(state, params=params, optimizer=optimizer, step=step, seconds=seconds)

    def read(self, state: State) -> State:
        """Sum up what has not been read yet, in one copy from a device, and log the averages where they are due."""
        window, unread, self.unread = state.window, self.unread, []
        for (step, lr, _), values in zip(unread, backend.floats([m.values for m in unread]), strict=True):
            self.measured = values
            if not math.isfinite(values["loss"]):
                advice = "a lower learning rate (lr) or a bound on the gradient (clip_norm) may help"
                raise DivergedError(f"step {step}: the loss is {values['loss']}; {advice}")
            window = {name: window.get(name, 0.0) + value for name, value in {"steps": 1.0, **values}.items()}
            if step % self.settings.log_every == 0:
                averages = {name: total / window["steps"] for name, total in window.items() if name != "steps"}
                self.folder.append({"step": step, **averages, "lr": lr, "seconds": state.seconds})
                window = {}
        return replace(state, window=window)

    def validate(self, state: State, progress: Progress) -> State:
        """Measure on the validation episodes, keep the parameters if they are the best so far, log, save."""
        result = evaluate(self.learner, state.params, self.val_episodes, self.settings.validation_episodes)
        score = {"step": state.step, f"val_{result.metric}": result.mean, "val_ci95": result.ci95}
        if result.improves_on(state.best):
            checkpoint.save(self.folder.model, state.params, score)
            state = replace(state, best=result.mean, best_step=state.step)
        state = replace(state, seconds=time.monotonic() - self.started)
        self.folder.append({**score, "best_step": state.best_step, "seconds": state.seconds})
        self.save(state)
        progress.note(f"step {state.step}: validation, {result}{', the best' if state.best_step == state.step else ''}")
        return state


def _update(
    learner: Learner, optimizer: optim.Optimizer, settings: Settings,
    carried: tuple[Params, Any], episode: Any, numbers: optim.Numbers,
) -> tuple[tuple[Params, Any], dict[str, Any]]:  # fmt: skip
    """The work of a step: from parameters and the optimizer's state to new ones, and what was measured on the way."""
    params, state = carried
    loss, aux, grads = chunked_meta_grad(learner, params, episode, settings.chunk)
    measured = {"loss": loss, **{name: x for name, x in aux.items() if name != "running"}}
    if settings.clip_norm is not None:
        grads = optim.clip_global_norm(grads, settings.clip_norm)
    weights, state = optimizer.move(grads, state, trainable(params), *numbers)
    running = {"running": aux["running"]} if "running" in aux else {}
    return ({**params, **weights, **running}, state), measured


class Interrupt:
    """A context in which the first Ctrl-C sets `requested` and a second one interrupts as usual.

    Outside the main thread, and where the program handles Ctrl-C in a way of its own, it changes nothing.
    """

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> Self:
        in_main = threading.current_thread() is threading.main_thread()
        self.ours = in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self.ours:
            signal.signal(signal.SIGINT, self._request)
        return self

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


class _Meter:
    """The progress display of a run: live measurements, the best validation, tasks per second."""

    def __init__(self, settings: Settings, state: State) -> None:
        self.settings = settings
        if settings.steps is not None:
            self.progress = Progress(settings.steps, "steps", state.step)
        else:
            self.progress = Progress(60 * (settings.minutes or 0), "s", state.seconds)
        self.since = time.monotonic()
        self.steps = 0
        self.speed = "-"

    def show(self, state: State, measured: dict[str, float]) -> None:
        self.steps += 1
        elapsed = time.monotonic() - self.since
        if elapsed >= 2:
            self.speed = f"{self.steps * self.settings.tasks / elapsed:.1f}"
            self.since, self.steps = time.monotonic(), 0
        fields = {name: f"{value:.3f}" for name, value in measured.items()}
        fields["best_val"] = "-" if state.best is None else f"{state.best:.4f}"
        fields["tasks/s"] = self.speed
        if self.settings.steps is not None:
            self.progress.show(state.step, **fields)
        else:
            self.progress.show(state.seconds, step=str(state.step), **fields)
