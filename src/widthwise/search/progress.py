"""Who watches a search: nobody, or a person at a terminal."""

from types import TracebackType
from typing import Literal, Protocol, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from widthwise.search.loop import Trial

__all__ = ["RichSearchReporter", "ScoreKind", "SearchReporter", "SilentSearchReporter", "bar"]

ScoreKind = Literal["accuracy", "loss"]
"""What a score is: an ``accuracy`` in [0, 1], or minus a ``loss``."""


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


def bar(console: Console, unit: str) -> Progress:
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
    """A bar with the time left; where the output is no terminal, a line at every tenth of the search.

    Args:
        console: to write to; the terminal if not given.
        kind: what the scores are.
    """

    def __init__(self, console: Console | None = None, *, kind: ScoreKind = "accuracy") -> None:
        self._console, self._kind = console or Console(), kind
        self._progress = bar(self._console, "candidates")
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
        self._progress.update(self._task, total=total, advance=1, status=f"best {self._shown()}")
        tenth = max(1, total // 10)
        if not self._console.is_terminal and (trial.index + 1) % tenth == 0:
            best = f"score {self._best:.4f}" if self._kind == "accuracy" else self._shown()
            self._console.print(f"search: {trial.index + 1}/{total} candidates, best {best}", highlight=False)

    def _shown(self) -> str:
        return f"{self._best:.2%}" if self._kind == "accuracy" else f"loss {-self._best:.6g}"
