"""The widths of a whole network from the losses of its stages: the search of stage-wise pruning (SP, section 3.3)."""

from dataclasses import dataclass, field
from typing import Literal, get_args

import torch

from widthwise.errors import ConfigError
from widthwise.search.base import Widths
from widthwise.search.breeding import EvolutionSettings
from widthwise.search.fronts import Explorer
from widthwise.search.knapsack import solve_knapsack
from widthwise.search.manager import Manager
from widthwise.search.progress import DivisionReporter, SilentDivisionReporter
from widthwise.search.stage_losses import StageLosses

__all__ = ["Division", "DivisionSettings", "How", "divide"]

How = Literal["knapsack", "evolution"]
"""``knapsack``: evaluate genes all over the front of each stage, then choose exactly (ours). ``evolution``: the
paper's manager (Algorithm 2) over searches within the stages (Algorithm 3)."""


@dataclass(frozen=True, kw_only=True)
class DivisionSettings:
    """How the budget is divided over the stages."""

    how: How = "knapsack"
    """See :data:`How`."""
    manager: EvolutionSettings = field(default_factory=EvolutionSettings)
    """The evolution of the division."""
    stage: EvolutionSettings = field(default_factory=EvolutionSettings)
    """Each search within a stage, for the ``evolution``."""
    fronts: EvolutionSettings = field(default_factory=lambda: EvolutionSettings(iterations=20, parents=16))
    """The rounds that fill the fronts of the stages before the knapsack; their size follows from ``evaluations``
    (``population`` without)."""
    evaluations: int | None = 2000
    """Genes of each stage that are evaluated at most; ``None`` leaves the paper's evolution its full length (up to
    128 x 10 searches of 128 x 10 genes for each stage), and the knapsack a population per round."""
    exhaustive: int = 4096
    """The knapsack looks at all genes of a stage that has no more than this."""
    max_labels: int = 200_000
    """Partial networks that the knapsack keeps per stage; where it needs more, the result states its gap."""
    seed: int = 0
    """Of everything random."""

    def __post_init__(self) -> None:
        if self.how not in get_args(How):
            raise ConfigError(f"The division is one of {', '.join(get_args(How))}, but got {self.how!r}.")
        if (self.evaluations is not None and self.evaluations < 1) or self.exhaustive < 0 or self.max_labels < 1:
            raise ConfigError(
                "evaluations and max_labels are at least 1, exhaustive at least 0, but got "
                f"evaluations={self.evaluations}, max_labels={self.max_labels}, exhaustive={self.exhaustive}."
            )


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
    found = tuple(losses.loss(s, tuple(widths[list(own)].tolist())) for s, own in enumerate(losses.problem.own))
    return Division(widths, found, None, losses.total)
