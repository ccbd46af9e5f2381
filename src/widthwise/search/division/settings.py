"""How the budget is divided over the stages: every setting of the search."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from widthwise.errors import ConfigError

__all__ = ["DivisionSettings", "EvolutionSettings", "How"]

How = Literal["knapsack", "evolution"]
"""``knapsack``: evaluate genes all over the front of each stage, then choose exactly (ours). ``evolution``: the
paper's manager (Algorithm 2) over searches within the stages (Algorithm 3)."""


@dataclass(frozen=True, kw_only=True)
class EvolutionSettings:
    """An evolution as in SP, section 4.1; its defaults are the paper's, where it gives any."""

    population: int = 128
    """Genes per iteration: one half mutated, the other crossed."""
    iterations: int = 10
    """Populations, the random one included."""
    mutation: float = 0.1
    """Chance that a mutation changes an element of a gene; it changes at least one."""
    parents: int = 32
    """k: how many of the best have children (the paper does not say; a quarter of the population)."""
    fill: float = 0.5
    """Share of the genes that are widened until nothing more fits (ours: the narrower of two networks is seldom the
    better one, but may be)."""

    def __post_init__(self) -> None:
        if self.population < 1 or self.iterations < 1 or self.parents < 1:
            raise ConfigError(
                "population, iterations and parents are at least 1, but got "
                f"population={self.population}, iterations={self.iterations}, parents={self.parents}."
            )
        if not 0 <= self.mutation <= 1 or not 0 <= self.fill <= 1:
            raise ConfigError(f"mutation and fill lie in [0, 1], but got mutation={self.mutation}, fill={self.fill}.")


@dataclass(frozen=True, kw_only=True)
class DivisionSettings:
    """How the budget is divided over the stages."""

    how: How = "knapsack"
    """``knapsack`` evaluates genes all over the front of each stage, then chooses exactly (ours); ``evolution`` is the
    paper's (Algorithms 2 and 3)."""
    manager: EvolutionSettings = field(default_factory=EvolutionSettings)
    """The evolution of the division."""
    stage: EvolutionSettings = field(default_factory=EvolutionSettings)
    """Each search within a stage, for the ``evolution``."""
    fronts: EvolutionSettings = field(default_factory=lambda: EvolutionSettings(iterations=20, parents=16))
    """The rounds that fill the fronts of the stages before the knapsack; their size follows from ``evaluations``
    (``population`` without)."""
    evaluations: int | None = 2000
    """Genes of each stage that are evaluated at most, but for small ones (``exhaustive``). ``None`` leaves the paper's
    evolution its full length (up to 128 x 10 searches of 128 x 10 genes for each stage), and the knapsack a population
    per round. With a number, the evolution's many searches get a few genes each."""
    exhaustive: int = 4096
    """The knapsack looks at all genes of a stage that has no more than this, whatever ``evaluations`` says."""
    recombine: bool = True
    """The evolution ends with the best combination of all genes that it looked at, found by the knapsack; otherwise,
    as in the paper, with its best network."""
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
