"""Who watches a training: nobody, or a person at a terminal."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from widthwise.train.history import EpochRecord

__all__ = ["Plan", "Reporter", "RichReporter", "SilentReporter", "StepStatus"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What is about to be trained."""

    epochs: int
    """In all."""
    total_steps: int
    """In all."""
    done_steps: int
    """Already taken, by the process that this one goes on from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepStatus:
    """Where the training stands."""

    epoch: int
    """Counted from 1."""
    step: int
    """Optimiser steps taken since the start of the training."""
    lr: float
    """Learning rate of the last step."""
    loss: float
    """Mean over this epoch so far."""
    accuracy: float
    """On this epoch's training images so far, in [0, 1]."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """What an objective names of its loss, mean over this epoch so far."""


@runtime_checkable
class Reporter(Protocol):
    """Is told how a training goes."""

    def start(self, plan: Plan) -> None:
        """Called once, before the first step."""
        ...

    def step(self, status: StepStatus) -> None:
        """Called after each step on CPU, every 50 steps on an accelerator (reading the loss makes it wait)."""
        ...

    def epoch(self, record: EpochRecord) -> None:
        """Called at the end of each epoch."""
        ...

    def finish(self) -> None:
        """Called once at the end, also after an error."""
        ...


class SilentReporter:
    """Says nothing."""

    def start(self, plan: Plan) -> None:
        """Does nothing."""

    def step(self, status: StepStatus) -> None:
        """Does nothing."""

    def epoch(self, record: EpochRecord) -> None:
        """Does nothing."""

    def finish(self) -> None:
        """Does nothing."""


class RichReporter:
    """A bar with the time left; where the output is no terminal, one line per epoch instead."""

    def __init__(self, title: str = "training", console: Console | None = None) -> None:
        self._title = title
        self._console = console or Console()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps, left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[status]}"),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
        )
        self._task: TaskID | None = None
        self._epochs = 0

    def start(self, plan: Plan) -> None:
        """Shows the bar."""
        self._epochs = plan.epochs
        self._task = self._progress.add_task(self._title, total=plan.total_steps, completed=plan.done_steps, status="")
        self._progress.start()

    def step(self, status: StepStatus) -> None:
        """Moves the bar."""
        if self._task is None:
            return
        self._progress.update(
            self._task,
            completed=status.step,
            status=f"epoch {status.epoch}/{self._epochs}, loss {status.loss:.3f}{_listed(status.parts)}, "
            f"accuracy {status.accuracy:.1%}, lr {status.lr:.2g}",
        )

    def epoch(self, record: EpochRecord) -> None:
        """Prints the epoch's line where there is no bar."""
        if self._console.is_terminal:
            return
        validation = "" if record.val_accuracy is None else f", validation {record.val_accuracy:.2%}"
        self._console.print(
            f"{self._title}: epoch {record.epoch}/{self._epochs}, loss {record.train_loss:.3f}{_listed(record.parts)}, "
            f"training {record.train_accuracy:.2%}{validation}, lr {record.lr:.2g}, {record.seconds:.1f} s",
            soft_wrap=True,
            highlight=False,
        )

    def finish(self) -> None:
        """Takes the bar away."""
        self._progress.stop()


def _listed(parts: Mapping[str, float]) -> str:
    return f" ({', '.join(f'{name} {value:.3f}' for name, value in parts.items())})" if parts else ""
