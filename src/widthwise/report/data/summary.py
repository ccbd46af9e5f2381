"""The figures of one run beside those of its full network, as numbers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from widthwise.cost import Latency
from widthwise.methods import RunRecord
from widthwise.methods.record import PARENTS
from widthwise.report.words import METRICS
from widthwise.runs import RunPaths, read_json

__all__ = ["Change", "Summary", "budget_in_words", "summarise"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One figure of the full network and of the small one, in the same unit."""

    before: float
    after: float

    @property
    def dropped(self) -> float:
        """The share that is gone, in (-inf, 1]; 0 where there was nothing."""
        return 1 - self.after / self.before if self.before else 0.0

    @property
    def gain(self) -> float:
        """After minus before."""
        return self.after - self.before

    @property
    def speedup(self) -> float:
        """Before over after."""
        return self.before / self.after


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """One row of the table of runs. What an unfinished run does not know yet is None."""

    name: str
    """Of the folder."""
    method: str
    """The class of the method, with what tells variants apart."""
    model: str
    """The class of the network."""
    data: str
    budget: str
    """In words."""
    finished: bool
    macs: Change | None
    """Multiply-adds, for a batch of one."""
    params: Change | None
    val: Change | None
    """Top-1 on the validation images, in percent."""
    test: Change | None
    """Top-1 on the test images, in percent; None also where the data has none."""
    latency: Mapping[int, Change]
    """Median milliseconds of a forward pass by batch size."""
    seconds: Mapping[str, float]
    """Wall time by phase, in the order in which they began."""
    at_least: bool
    """Whether a process was killed at work, so that the seconds are a lower bound."""
    within: Mapping[str, float] = field(default_factory=dict)
    """Seconds of trainings that are part of the search, by name."""
    reference: str = "the full network"
    """What ``before`` is; some methods train a full network of their own."""
    asked: tuple[int, float] | None = None
    """Images of a batch, and the milliseconds that were asked for, where the budget limits latency."""
    fit_error: float | None = None
    """How far predictions of latency were off in the median, as a share, on networks that the fit had not seen."""

    @property
    def total(self) -> float:
        """Seconds of all phases."""
        return sum(self.seconds.values())

    @property
    def accuracy(self) -> Change | None:
        """On the test images, or else on the validation images."""
        return self.test or self.val


REFERENCES = {
    None: "the full network",
    "supernet": "the full network inside the super-net",
    "coarse": "the target network",
}
"""What the figures before are of, by the training in the search that made it."""


def summarise(run: RunRecord, name: str = "") -> Summary:
    """The row of one run.

    Args:
        run: the run.
        name: to call it by; that of its folder if not given.
    """
    result = run.result or {}
    before, after = result.get("before", {}), result.get("after", {})
    trainings = {training: history for training, history in run.trainings.items() if training in PARENTS}
    latency = {
        int(batch): Change(before=ms, after=after["latency_ms"][batch])
        for batch, ms in sorted(before.get("latency_ms", {}).items(), key=lambda item: int(item[0]))
    }
    return Summary(
        name=name or run.path.resolve().name,
        method=_method(run),
        model=str(run.config["model"]["class"]),
        data=str(run.config["data"]["name"]),
        budget=budget_in_words(run.config.get("budget")),
        finished=run.finished,
        macs=_change(before.get("macs"), after.get("macs")),
        params=_change(before.get("params"), after.get("params")),
        val=_change(before.get("val_accuracy"), after.get("val_accuracy"), 100),
        test=_change(before.get("test_accuracy"), after.get("test_accuracy"), 100),
        latency=latency,
        seconds=run.seconds,
        at_least=run.cut,
        reference=REFERENCES[run.parent],
        within={training: sum(epoch.seconds for epoch in history.epochs) for training, history in trainings.items()},
        asked=_asked(run.config.get("budget") or {}, latency),
        fit_error=_fit_error(run),
    )


def _asked(budget: Mapping[str, Any], latency: Mapping[int, Change]) -> tuple[int, float] | None:
    batch, share, absolute = budget.get("latency_batch", 0), budget.get("latency"), budget.get("latency_ms")
    if batch not in latency or (share is None and absolute is None):
        return None
    full = latency[batch].before
    return batch, min(full * (1 if share is None else share), full if absolute is None else absolute)


def _fit_error(run: RunRecord) -> float | None:
    path = RunPaths(run.path).latency_path
    return Latency.from_json(read_json(path), path).error if path.exists() else None


def _change(before: float | None, after: float | None, scale: float = 1) -> Change | None:
    return None if before is None or after is None else Change(before=scale * before, after=scale * after)


def _method(run: RunRecord) -> str:
    """``FNNP``, ``Baseline (uniform, l1)``, ``Baseline (uniform, random, from scratch)``."""
    settings = run.config.get("method", {})
    if run.method != "Baseline":
        return run.method
    scratch = ["from scratch"] if settings.get("scratch") else []
    return f"{run.method} ({', '.join([settings['widths'], settings['importance'], *scratch])})"


def budget_in_words(budget: Mapping[str, Any] | None) -> str:
    """``50% of the multiply-adds``, ``300,000 parameters``, ``12 ms for a batch of 1``, ``none``."""
    budget = budget or {}
    limits = {name: budget.get(name) for name in ("macs", "params")}
    words = [
        f"{100 * value:g}% of the {METRICS[name]}" if value <= 1 else f"{value:,} {METRICS[name]}"
        for name, value in limits.items()
        if value is not None
    ]
    batch = f"a batch of {budget.get('latency_batch')}"
    if budget.get("latency") is not None:
        words.append(f"{100 * budget['latency']:g}% of the time for {batch}")
    if budget.get("latency_ms") is not None:
        words.append(f"{budget['latency_ms']:g} ms for {batch}")
    return " and ".join(words) or "none"
