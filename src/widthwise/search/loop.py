"""The one loop that drives every searcher: ask, score, write down, tell."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol, runtime_checkable

from widthwise.errors import CorruptRun
from widthwise.search.base import Searcher, Widths

__all__ = ["Log", "Trial", "best_first", "run_search"]


@runtime_checkable
class Log(Protocol):
    """Where trials are written down, such as :class:`widthwise.runs.Journal`."""

    @property
    def events(self) -> tuple[dict[str, Any], ...]:
        """What was written so far."""
        ...

    def append(self, event: Mapping[str, Any]) -> None:
        """Write one event down for good."""
        ...


@dataclass(frozen=True, eq=False)
class Trial:
    """One scored strategy."""

    index: int
    widths: Widths
    """int64 [groups]."""
    score: float
    """Higher is better."""
    seconds: float
    """Wall time of the evaluation."""


def run_search(
    searcher: Searcher,
    evaluate: Callable[[Widths], float],
    count: int,
    log: Log,
    *,
    on_trial: Callable[[Trial], None] = lambda trial: None,
) -> list[Trial]:
    """Score ``count`` strategies; those that the log holds already are replayed, not scored again.

    Args:
        searcher: chooses the strategies.
        evaluate: scores one; higher is better.
        count: how many in all.
        log: receives each trial as soon as it is scored.
        on_trial: is called after each trial, also a replayed one.

    Raises:
        CorruptRun: the log holds other strategies than the searcher asks for.
    """
    done = [event for event in log.events if event.get("event") == "trial"]
    trials: list[Trial] = []
    for index in range(count):
        widths = searcher.ask()
        if index < len(done):
            trial = _replayed(index, widths, done[index])
        else:
            start = perf_counter()
            score = evaluate(widths)
            trial = Trial(index, widths, score, perf_counter() - start)
            facts = {"index": index, "widths": widths.tolist(), "score": score, "seconds": round(trial.seconds, 4)}
            log.append({"event": "trial", **facts})
        searcher.tell(widths, trial.score)
        trials.append(trial)
        on_trial(trial)
    return trials


def _replayed(index: int, widths: Widths, event: Mapping[str, Any]) -> Trial:
    if event["index"] != index or event["widths"] != widths.tolist():
        raise CorruptRun(
            f"A search that is resumed asks for the same strategies again, but strategy {index} of the journal "
            "is another one. The run was made by another version of Widthwise or on other hardware; start a new folder."
        )
    return Trial(index, widths, float(event["score"]), float(event["seconds"]))


def best_first(trials: list[Trial]) -> list[Trial]:
    """Sorted by score, the earlier trial first at a tie."""
    return sorted(trials, key=lambda trial: (-trial.score, trial.index))
