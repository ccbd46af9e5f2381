"""What the finished runs of a comparison say, as a table."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from widthwise.experiments.rows import every_method
from widthwise.experiments.table import Cell, Spread, Table
from widthwise.methods import RunRecord
from widthwise.train import TrainConfig

__all__ = ["Arm", "Comparison", "compared", "final_accuracy", "runs_with"]

_SEED = re.compile(r"seed-(0|-?[1-9]\d*)")
"""The name of a run's folder."""


@dataclass(frozen=True)
class Arm:
    """One method, with a finished run for each seed that is done."""

    name: str
    runs: tuple[RunRecord, ...]

    def spread(self, value: Callable[[RunRecord], float | None], digits: int = 2, *, time: bool = False) -> Spread:
        """A figure of every run; runs without it are left out."""
        values = [number for run in self.runs if (number := value(run)) is not None]
        return Spread(tuple(values), digits, time and any(run.cut for run in self.runs))


@dataclass(frozen=True)
class Comparison:
    """What :func:`compare` found so far."""

    arms: tuple[Arm, ...]
    full_accuracy: float | None = None
    """Of the trained full network, in [0, 1]; None where no method has looked at it."""
    full_seconds: float | None = None
    """Of training it once, for all methods that judge by its weights; None if it came trained."""

    def table(self) -> Table:
        """Mean and standard deviation over the seeds: sizes, shares dropped, accuracy and drop in points, seconds."""
        title = "Accuracy on the test images (validation images where there are none), mean and standard deviation."
        if self.full_accuracy is not None:
            title += f" The full network: {100 * self.full_accuracy:.2f} %."
        if self.full_seconds is not None:
            title += f" Training it, which is not in the totals, took {self.full_seconds:,.0f} s."
        title += "".join(f" {arm.name} {note}." for arm in self.arms for note in _exceptions(arm.runs[0].config))
        return Table(title, COLUMNS, tuple(_row(arm, self.full_accuracy) for arm in self.arms), optional=OPTIONAL)


def _exceptions(config: Mapping[str, Any]) -> Iterator[str]:
    """Where a method does not train as the others do."""
    settings = config["method"]
    if "all" in (settings.get("coarse_images"), settings.get("finetune_images")):
        yield "learns from the validation images too"
    if config.get("reconstruct"):
        yield "has reconstructed weights"
    if settings.get("scratch"):
        yield "is trained from fresh weights"
    if settings["class"] == "Stagewise" and settings["weights"] == "fresh":
        yield "is trained from fresh weights by a schedule of its own"


COLUMNS = (
    *("method", "runs", "MACs (M)", "MACs dropped (%)", "parameters (k)", "parameters dropped (%)"),
    *("accuracy (%)", "drop (points)", "search (s)", "fine-tuning (s)", "total (s)"),
)

OPTIONAL = (
    *("runs", "parameters (k)", "fine-tuning (s)", "search (s)", "parameters dropped (%)", "MACs (M)"),
    *("drop (points)",),
)
"""Columns in the order in which a narrow terminal gives them up."""


def _row(arm: Arm, full: float | None) -> tuple[Cell, ...]:
    def drop(run: RunRecord) -> float | None:  # of one network for all rows, and not of one that a method trained
        return None if full is None else 100 * (full - final_accuracy(run))

    def share(metric: str) -> Callable[[RunRecord], float]:
        return lambda run: 100 - 100 * _figure(run, "after", metric) / _figure(run, "before", metric)

    return (
        arm.name,
        len(arm.runs),
        arm.spread(lambda run: _figure(run, "after", "macs") / 1e6),
        arm.spread(share("macs"), 1),
        arm.spread(lambda run: _figure(run, "after", "params") / 1e3, 1),
        arm.spread(share("params"), 1),
        arm.spread(lambda run: 100 * final_accuracy(run)),
        arm.spread(drop),
        arm.spread(lambda run: run.seconds.get("search"), 1, time=True),
        arm.spread(lambda run: run.seconds.get("finetune"), 1, time=True),
        arm.spread(lambda run: sum(s for name, s in run.seconds.items() if name != "measure"), 1, time=True),
    )


def _figure(run: RunRecord, part: str, metric: str) -> float:
    assert run.result is not None, "a finished run"
    return float(run.result[part][metric])


def final_accuracy(run: RunRecord) -> float:
    """Of the small network of a finished run, in [0, 1]: on the test images, or the validation images."""
    return _accuracy(run, "after")


def _from_scratch(run: RunRecord) -> bool:
    """Whether the weights of the full network mean nothing to a run: perhaps it has never been trained."""
    return bool(run.config["method"].get("scratch"))


def _accuracy(run: RunRecord, part: str) -> float:
    assert run.result is not None, "a finished run"
    test = run.result[part]["test_accuracy"]
    return float(run.result[part]["val_accuracy"] if test is None else test)


def compared(folder: Path, full_seconds: float | None = None) -> Comparison:
    """What the finished runs in the folder of :func:`compare` say, the published methods first.

    Args:
        folder: holds ``NAME/seed-N``.
        full_seconds: see :class:`Comparison`.
    """
    runs = [run for run in map(RunRecord.read, runs_with("result.json", folder)) if run.finished]
    names = sorted({run.path.parent.name for run in runs}, key=_place)
    arms = tuple(Arm(name, tuple(run for run in runs if run.path.parent.name == name)) for name in names)
    given = (run for arm in arms for run in arm.runs if run.parent is None)
    full = [_accuracy(run, "before") for run in given if full_seconds is not None or not _from_scratch(run)]
    return Comparison(arms, full[0] if full else None, full_seconds)


def _place(name: str) -> tuple[int, str]:
    known = list(every_method(TrainConfig()))
    return (known.index(name) if name in known else len(known), name)


def runs_with(file: str, folder: Path) -> dict[Path, int]:
    """The runs of a comparison that have this file, with their seeds, in the order of these; copies are no runs.

    Args:
        file: name of a file of a run.
        folder: of the comparison.
    """
    runs = (path.parent for path in folder.glob(f"*/seed-*/{file}"))
    seeds = {run: int(found[1]) for run in runs if (found := _SEED.fullmatch(run.name))}
    return dict(sorted(seeds.items(), key=lambda pair: pair[1]))
