"""How long each phase of a run took, over all the processes that worked on it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any

from widthwise.runs.journal import Journal

__all__ = ["Phases", "is_finished", "phase_seconds", "was_cut"]


class Phases:
    """Writes into a journal when phases begin and end, until the run is finished.

    A phase that is cut and gone on with has several stretches. What a killed process did in its last one is not
    known: :func:`was_cut` tells.

    Args:
        journal: of the run.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._over = is_finished(journal.events)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time what runs inside."""
        self._note({"event": "phase", "phase": name, "at": "start"})
        start = perf_counter()
        try:
            yield
        finally:
            self._note({"event": "phase", "phase": name, "at": "end", "seconds": round(perf_counter() - start, 3)})

    def finish(self) -> None:
        """The run is done; whoever opens it again only looks, and that time does not count."""
        self._note({"event": "finished"})
        self._over = True

    def _note(self, event: Mapping[str, Any]) -> None:
        if not self._over:
            self._journal.append(event)


Events = Sequence[Mapping[str, Any]]


def is_finished(events: Events) -> bool:
    """Whether a run came to its end."""
    return any(event.get("event") == "finished" for event in events)


def phase_seconds(events: Events) -> dict[str, float]:
    """Seconds by phase, in the order in which they began."""
    found: dict[str, float] = {}
    for event in events:
        if event.get("event") == "phase":
            found[event["phase"]] = found.get(event["phase"], 0.0) + event.get("seconds", 0.0)
    return found


def was_cut(events: Events) -> bool:
    """Whether a process was killed at work, so that the seconds are a lower bound."""
    ends = [event["at"] for event in events if event.get("event") == "phase"]
    return ends.count("start") > ends.count("end")
