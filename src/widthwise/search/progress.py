"""Who watches a search: nobody, or a person at a terminal."""

from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from widthwise.search.loop import Trial

__all__ = [
    "DivisionReporter",
    "Generation",
    "RichDivisionReporter",
    "RichSearchReporter",
    "SearchReporter",
    "SilentDivisionReporter",
    "SilentSearchReporter",
]


@runtime_checkable
class SearchReporter(Protocol):
    """Is told how a search goes."""

    def __enter__(self) -> "SearchReporter":
        """The search begins."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """It is over, also after an error."""
        ...

    def trial(self, trial: Trial, total: int) -> None:
        """One of ``total`` strategies has its score."""
        ...


def _bar(console: Console, unit: str) -> Progress:
    """A bar with the number of units and the time left; nothing where the output is no terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(f"{unit}, left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}"),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )


class SilentSearchReporter:
    """Says nothing."""

    def __enter__(self) -> "SilentSearchReporter":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def trial(self, trial: Trial, total: int) -> None:
        """Does nothing."""


class RichSearchReporter:
    """A bar with the time left; where the output is no terminal, a line at every tenth of the search."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()
        self._progress = _bar(self._console, "candidates")
        self._task = self._progress.add_task("search", total=None, status="")
        self._best = float("-inf")

    def __enter__(self) -> "RichSearchReporter":
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def trial(self, trial: Trial, total: int) -> None:
        """Moves the bar."""
        self._best = max(self._best, trial.score)
        self._progress.update(self._task, total=total, advance=1, status=f"best {self._best:.2%}")
        tenth = max(1, total // 10)
        if not self._console.is_terminal and (trial.index + 1) % tenth == 0:
            self._console.print(
                f"search: {trial.index + 1}/{total} candidates, best score {self._best:.4f}", highlight=False
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Generation:
    """How a division of the budget over stages stands."""

    index: int
    """Generations that are over."""
    total: int
    best: float | None
    """The smallest sum of stage losses within the limits so far; none where there is none yet."""
    genes: int
    """Genes that were asked for so far, all stages together."""


@runtime_checkable
class DivisionReporter(Protocol):
    """Is told how a division of the budget over stages goes."""

    def __enter__(self) -> "DivisionReporter":
        """The search begins."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """It is over, also after an error."""
        ...

    def loss(self, done: int, total: int) -> None:
        """Of a batch of ``total`` genes ``done`` have their loss."""
        ...

    def generation(self, generation: Generation) -> None:
        """A generation is over."""
        ...


class SilentDivisionReporter:
    """Says nothing."""

    def __enter__(self) -> "SilentDivisionReporter":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def loss(self, done: int, total: int) -> None:
        """Does nothing."""

    def generation(self, generation: Generation) -> None:
        """Does nothing."""


class RichDivisionReporter:
    """A bar per batch of genes; where the output is no terminal, a line per generation."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()
        self._progress = _bar(self._console, "genes")
        self._task = self._progress.add_task("stages", total=None, status="")

    def __enter__(self) -> "RichDivisionReporter":
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def loss(self, done: int, total: int) -> None:
        """Moves the bar."""
        self._progress.update(self._task, total=total, completed=done)

    def generation(self, generation: Generation) -> None:
        """Says how it stands."""
        best = "none yet" if generation.best is None else f"{generation.best:.6g}"
        line = f"generation {generation.index}/{generation.total}, {generation.genes} genes, best loss {best}"
        self._progress.update(self._task, status=line)
        if not self._console.is_terminal:
            self._console.print(f"stages: {line}", highlight=False)
