"""Which genes to evaluate before the knapsack chooses: all of a small stage, a spread over the front of a large one."""

import functools
from collections import Counter
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from widthwise.errors import InfeasibleBudget
from widthwise.search.division.breeding import (
    breed,
    chosen,
    draw,
    enough,
    every_gene,
    fit,
    keys,
    mutate,
    number_of_genes,
)
from widthwise.search.division.knapsack import Choice, regrets, solve_knapsack
from widthwise.search.division.losses import StageLosses
from widthwise.search.division.pareto import undominated
from widthwise.search.division.problem import Gene
from widthwise.search.division.progress import Generation
from widthwise.search.division.settings import EvolutionSettings
from widthwise.search.widths import same_limits, uniform_widths

__all__ = ["Explorer"]

LADDER = 16
"""Sizes of the uniform network that each stage starts from."""

SCALING = 0.25
"""Standard deviation of the logarithm of the factor by which genes are scaled."""

FOCUS = 0.75
"""Share of the genes that descend from those of least regret."""

MEETINGS = 4
"""Widths of shared groups per round at which stages meet."""

LABELS = 2000
"""Labels of the knapsack between two rounds, which only has to be good."""


class Explorer:
    """Fills the archives of the stages, in rounds; each round is one batch over all stages.

    The first round has the uniform network at many sizes, and random genes. Later ones breed a quarter of their genes
    from the front of each stage (no other gene of the same links is both cheaper and better), which keeps all sizes
    and links in play, and the others from the genes of least regret under the best prices of the limits, which is
    where the optimum of the whole network is looked for. Where several stages own a group, half of all genes get one
    of a few widths of it, the same in each stage. Each gene is part of some network within the limits.

    Args:
        losses: evaluates, and remembers.
        settings: rounds, mutation and so on; ``parents`` are those of least regret.
        evaluations: genes per stage; ``None`` means a population per round.
        exhaustive: a stage that has no more genes than this is looked at whole.
        generator: the source of chance.
        on_generation: is called after each round.
    """

    def __init__(
        self,
        losses: StageLosses,
        settings: EvolutionSettings,
        evaluations: int | None,
        exhaustive: int,
        generator: torch.Generator,
        on_generation: Callable[[Generation], None] = lambda generation: None,
    ) -> None:
        self._problem, self._losses, self._settings = losses.problem, losses, settings
        self._evaluations = settings.population * settings.iterations if evaluations is None else evaluations
        self._generator, self._on_generation = generator, on_generation
        sizes = [number_of_genes(self._problem.allowed, own) for own in self._problem.own]
        self._small = [stage for stage, size in enumerate(sizes) if size <= exhaustive]
        self._large = [stage for stage, size in enumerate(sizes) if size > exhaustive]
        owners = Counter(group for own in self._problem.own for group in own)
        self._shared = sorted(group for group, count in owners.items() if count > 1)

    def run(self) -> None:
        """Fill the archives."""
        batch = [(stage, gene) for stage in self._small for gene in self._every(stage)]
        batch += [(stage, gene) for stage in self._large for gene in self._start(stage)]
        rounds = self._settings.iterations if self._large else 1
        for index in range(rounds):
            self._losses.ask(batch)
            best = self._best()
            facts = {"index": index + 1, "total": rounds, "genes": self._losses.total}
            self._on_generation(Generation(best=None if best is None else best.loss, **facts))
            batch = self._next(rounds - index - 1, best)

    def _next(self, left: int, best: Choice | None) -> list[tuple[int, Gene]]:
        """The genes of the next of ``left`` rounds."""
        if not left:
            return []
        regret, meetings = regrets(self._problem, self._losses.archives), self._meetings(best)
        batch: list[tuple[int, Gene]] = []
        for stage in self._large:
            bred = functools.partial(self._bred, stage, regret[stage], meetings)
            quota = self._losses.quota(stage, self._evaluations, left)
            batch += [(stage, gene) for gene in self._new(stage, quota, bred)]
        return batch

    def _meetings(self, best: Choice | None) -> Int64[Tensor, "meetings shared"]:
        """Widths of the groups that several stages own, for these stages to meet at in this round: near the best."""
        problem, count = self._problem, MEETINGS if best is not None and self._shared else 0
        near = problem.allowed.smallest if best is None else best.widths
        rows = near[self._shared].repeat(count, 1)
        moved = mutate(problem.allowed, self._shared, rows, self._settings.mutation, self._generator)
        return torch.cat([rows[:1], moved[1:]])

    def _start(self, stage: int) -> list[Gene]:
        """Uniform genes of many sizes, and random ones."""
        share = self._losses.quota(stage, self._evaluations, self._settings.iterations)
        quota = max(share, min(self._evaluations // 4, LADDER + 2))
        seeds = list(dict.fromkeys(keys(self._fitted(stage, self._seeds(stage)))))[:quota]
        random = functools.partial(draw, self._problem.allowed, self._problem.own[stage], generator=self._generator)
        others = self._new(stage, quota, lambda count: random(count=count))
        return list(dict.fromkeys([*seeds, *others]))[:quota]

    def _best(self) -> Choice | None:
        try:
            return solve_knapsack(self._problem, self._losses.archives, max_labels=LABELS)
        except InfeasibleBudget:  # no combination yet
            return None

    def _every(self, stage: int) -> list[Gene]:
        genes = every_gene(self._problem.allowed, self._problem.own[stage])
        return list(keys(genes[self._problem.possible(stage, genes)]))

    def _seeds(self, stage: int) -> Int64[Tensor, "sizes own"]:
        """The narrowest gene, the uniform network within the limits, and uniform genes of many sizes."""
        own, allowed = list(self._problem.own[stage]), self._problem.allowed
        ratios = torch.linspace(0, 1, LADDER, dtype=torch.float64)[:, None] * allowed.full
        uniform = uniform_widths(allowed, self._problem.limits)
        return torch.cat([allowed.smallest[None], uniform[None], allowed.snap(ratios)])[:, own]

    def _new(self, stage: int, count: int, bred: Callable[[int], Tensor]) -> list[Gene]:
        """Up to ``count`` genes that were not asked for yet."""
        asked = self._losses.asked(stage)
        return enough(count, lambda: (g for g in keys(self._fitted(stage, bred(count))) if g not in asked))

    def _fitted(self, stage: int, genes: Int64[Tensor, "count own"]) -> Int64[Tensor, "count own"]:
        """Scaled down to where the rest of the network still fits, as narrow as it may be."""
        problem, own = self._problem, list(self._problem.own[stage])
        rows = problem.rows(stage, genes, problem.allowed.smallest)
        return fit(problem.allowed, same_limits(problem.limits), rows, own, 0.0, self._generator)[:, own]

    def _bred(
        self, stage: int, regret: Float64[np.ndarray, "_"], meetings: Int64[Tensor, "meetings shared"], count: int
    ) -> Int64[Tensor, "count own"]:
        """Some from the front, most from the genes of least regret, and half of both at a meeting."""
        archive = self._losses.archive(stage)
        order = np.argsort(regret, kind="stable")[: self._settings.parents]
        best = archive.genes[torch.from_numpy(order[np.isfinite(regret[order])])]
        front = archive.genes[torch.from_numpy(self._front(stage))]
        focused = int(count * FOCUS) if len(best) else 0
        genes = self._children(stage, front, count - focused)
        if focused:
            genes = torch.cat([genes, self._children(stage, best, focused)])
        own = self._problem.own[stage]
        columns = [place for place, group in enumerate(self._shared) if group in own]
        if columns and len(meetings):
            agree = torch.rand(count, 1, generator=self._generator) < 0.5
            mine = [own.index(self._shared[place]) for place in columns]
            genes[:, mine] = torch.where(agree, chosen(meetings, count, self._generator)[:, columns], genes[:, mine])
        return genes

    def _front(self, stage: int) -> Int64[np.ndarray, "front"]:
        """The archived genes that no other of the same links equals or beats in loss and cost."""
        problem, archive = self._problem, self._losses.archive(stage)
        linked = [place for place, group in enumerate(problem.own[stage]) if group in problem.links]
        label = np.unique(archive.genes[:, linked].numpy(), axis=0, return_inverse=True)[1].reshape(-1)
        cost = problem.cost(stage, problem.rows(stage, archive.genes, problem.allowed.smallest))
        return undominated(label, archive.losses.numpy(), cost.numpy())

    def _children(self, stage: int, parents: Int64[Tensor, "parents own"], count: int) -> Int64[Tensor, "count own"]:
        """Half mutated, half crossed; a third of both scaled as well."""
        allowed, own, chance = self._problem.allowed, self._problem.own[stage], self._settings.mutation
        children = breed(allowed, own, parents, count, chance, self._generator)
        rows = self._problem.rows(stage, children, allowed.smallest)
        factor = (SCALING * torch.randn(len(rows), 1, generator=self._generator, dtype=torch.float64)).exp()
        scaled = torch.rand(len(rows), 1, generator=self._generator) < 1 / 3
        return torch.where(scaled, allowed.snap(rows * factor), rows)[:, list(own)]
