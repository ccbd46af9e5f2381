"""A running search in TensorBoard, beside its trainings: ``tensorboard --logdir RUN/tensorboard``."""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean
from types import TracebackType
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from widthwise.search import Log

__all__ = ["LiveLog"]

Event = Mapping[str, Any]
Scalars = Mapping[str, float | None]

FILES = "events.out.tfevents.*"
"""What TensorBoard's files are called."""


def _trial(event: Event) -> Scalars:
    return {"trial/score": event["score"], "trial/seconds": event["seconds"]}


def _round(event: Event) -> Scalars:
    return {f"round/{name}": event[name] for name in ("accuracy", "macs", "params", "reward", "entropy", "seconds")}


def _stage_loss(event: Event) -> Scalars:
    return {f"stage_loss/{event['stage']}": event["loss"]}


def _samples(event: Event) -> Scalars:
    return {"samples/loss": fmean(event["losses"]), "samples/accuracy": fmean(event["accuracies"])}


def _probabilities(event: Event) -> Scalars:
    """``used`` is the expected cost as a share of the budget."""
    record = event["record"]
    return {f"probabilities/{name}": record.get(name) for name in ("used", "undecided", "effective")}


SHOWN: dict[str, Callable[[Event], Scalars]] = {
    "trial": _trial,
    "round": _round,
    "stage_loss": _stage_loss,
    "widths": lambda event: {"start/smallest loss": min(event["losses"])},
    "samples": _samples,
    "probabilities": _probabilities,
}
"""What is shown of each kind of event; of all others nothing."""

BEST = {"trial/score": "trial/best", "round/accuracy": "round/best"}
"""Scalars of which the best so far is shown too."""


class LiveLog:
    """A log that shows in TensorBoard what is written to it, as it is written.

    The log is the truth: a search that goes on starts its files anew from what the log holds, so that no point is
    there twice and none is missing, whenever the process before was killed.

    Args:
        log: keeps the events.
        folder: for TensorBoard's files; it is made for the first point.
    """

    def __init__(self, log: Log, folder: Path) -> None:
        self._log, self._folder = log, folder
        self._writer: SummaryWriter | None = None
        self._counts: Counter[str] = Counter()
        self._best: dict[str, float] = {}

    def __enter__(self) -> "LiveLog":
        for stale in sorted(self._folder.glob(FILES)):
            stale.unlink()
        for event in self._log.events:
            self._show(event)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    @property
    def events(self) -> tuple[dict[str, Any], ...]:
        """Everything that was written, also by earlier processes."""
        return self._log.events

    def append(self, event: Event) -> None:
        """Write one event down for good, then show it."""
        self._log.append(event)
        self._show(event)

    def _show(self, event: Event) -> None:
        if event.get("event") not in SHOWN:
            return
        for name, value in SHOWN[event["event"]](event).items():
            if value is None:
                continue
            step = self._counts[name]
            self._counts[name] += 1
            self._add(name, value, step)
            if name in BEST:
                self._best[name] = max(value, self._best.get(name, value))
                self._add(BEST[name], self._best[name], step)

    def _add(self, name: str, value: float, step: int) -> None:
        if self._writer is None:
            self._writer = SummaryWriter(self._folder, flush_secs=10)
        self._writer.add_scalar(name, value, step)
