"""Who watches a division of the budget over stages: nobody, or a person at a terminal."""

from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, runtime_checkable

from rich.console import Console

from widthwise.search.progress import bar

__all__ = ["DivisionReporter", "Generation", "RichDivisionReporter", "SilentDivisionReporter"]


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
        self._progress = bar(self._console, "genes")
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
