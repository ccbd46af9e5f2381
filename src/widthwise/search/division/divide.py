"""The widths of a whole network from the losses of its stages: the search of stage-wise pruning (SP, section 3.3)."""

from dataclasses import dataclass

import torch

from widthwise.search.base import Widths
from widthwise.search.division.fronts import Explorer
from widthwise.search.division.knapsack import solve_knapsack
from widthwise.search.division.losses import StageLosses
from widthwise.search.division.manager import Manager
from widthwise.search.division.progress import DivisionReporter, SilentDivisionReporter
from widthwise.search.division.settings import DivisionSettings

__all__ = ["Division", "divide"]


@dataclass(frozen=True, eq=False)
class Division:
    """The best network that was found."""

    widths: Widths
    """int64 [groups]: meets the limits; groups that no stage owns are whole."""
    losses: tuple[float, ...]
    """Of each stage."""
    gap: float | None
    """No combination of the genes that were looked at is better by more than this, 0 if none is; none if unknown."""
    genes: int
    """How many genes were looked at, all stages together."""

    @property
    def loss(self) -> float:
        """The sum over the stages."""
        return sum(self.losses)


def divide(
    losses: StageLosses, settings: DivisionSettings | None = None, *, reporter: DivisionReporter | None = None
) -> Division:
    """The widths with the smallest sum of stage losses within the limits.

    Deterministic in the seed and the losses, whatever order they come in: a search that is run again over the same
    log evaluates only what is missing there, and ends with the same result.

    Args:
        losses: evaluates the genes of a problem, and remembers; ``on_loss=reporter.loss`` shows each of them.
        settings: how to search.
        reporter: is told of each generation.
    """
    settings = settings or DivisionSettings()
    generator = torch.Generator().manual_seed(settings.seed)
    with reporter or SilentDivisionReporter() as watching:
        run = _by_knapsack if settings.how == "knapsack" else _by_evolution
        return run(losses, settings, generator, watching)


def _by_knapsack(
    losses: StageLosses, settings: DivisionSettings, generator: torch.Generator, reporter: DivisionReporter
) -> Division:
    limits = (settings.evaluations, settings.exhaustive)
    Explorer(losses, settings.fronts, *limits, generator, reporter.generation).run()
    choice = solve_knapsack(losses.problem, losses.archives, max_labels=settings.max_labels)
    return Division(choice.widths, choice.losses, choice.gap, losses.total)


def _by_evolution(
    losses: StageLosses, settings: DivisionSettings, generator: torch.Generator, reporter: DivisionReporter
) -> Division:
    manager = Manager(losses, settings.manager, settings.stage, settings.evaluations, generator, reporter.generation)
    widths = manager.run()
    found = Division(widths, losses.of(widths), None, losses.total)
    if not settings.recombine:
        return found
    choice = solve_knapsack(losses.problem, losses.archives, max_labels=settings.max_labels)
    better = Division(choice.widths, choice.losses, choice.gap, losses.total)
    return better if better.loss < found.loss else found
