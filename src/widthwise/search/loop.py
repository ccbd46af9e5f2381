"""The one loop that drives every searcher: ask, score, write down, tell."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
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
    """Wall time of the evaluation; of those side by side, since the one before."""


def run_search(
    searcher: Searcher,
    evaluate: Callable[[Sequence[Widths]], Iterable[float]],
    count: int,
    log: Log,
    *,
    at_once: int = 1,
    on_trial: Callable[[Trial], None] = lambda trial: None,
) -> list[Trial]:
    """Score ``count`` strategies; those that the log holds already are replayed, not scored again.

    Args:
        searcher: chooses the strategies.
        evaluate: scores some, in their order; higher is better. ``partial(map, score)`` scores them one by one.
        count: how many in all.
        log: receives each trial as soon as it is scored.
        at_once: how many are asked for before the first of them is told, so that they can be scored side by side.
        on_trial: is called after each trial, also a replayed one.

    Raises:
        CorruptRun: the log holds other strategies than the searcher asks for.
    """
    done = [event for event in log.events if event.get("event") == "trial"]
    trials: list[Trial] = []
    for first in range(0, count, at_once):
        asked = [(index, searcher.ask()) for index in range(first, min(first + at_once, count))]
        known = [_replayed(index, widths, done[index]) for index, widths in asked if index < len(done)]
        for trial in chain(known, _scored(asked[len(known) :], evaluate, log)):
            trials.append(trial)
            on_trial(trial)
        for trial in trials[first:]:
            searcher.tell(trial.widths, trial.score)
    return trials


def _scored(
    asked: Sequence[tuple[int, Widths]], evaluate: Callable[[Sequence[Widths]], Iterable[float]], log: Log
) -> Iterator[Trial]:
    """Seconds since the trial before, so that their sum is the time of the search, however many work on it."""
    start = perf_counter()
    for (index, widths), score in zip(asked, evaluate([widths for _, widths in asked]), strict=True):
        now = perf_counter()
        facts = {"index": index, "widths": widths.tolist(), "score": score, "seconds": round(now - start, 4)}
        log.append({"event": "trial", **facts})
        yield Trial(index, widths, score, now - start)
        start = now


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
