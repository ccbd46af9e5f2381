"""The division of a budget over stages by evolution (SP, Algorithm 2)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from widthwise.search.base import Widths
from widthwise.search.breeding import cross
from widthwise.search.division.breeding import chosen, draw, fit, mutate
from widthwise.search.division.losses import StageLosses
from widthwise.search.division.progress import Generation
from widthwise.search.division.settings import EvolutionSettings
from widthwise.search.division.stage_search import BestGene, StageSearch, best_gene, search_stages
from widthwise.search.widths import same_limits, uniform_widths

__all__ = ["Manager"]


@dataclass(frozen=True, eq=False)
class _Plan:
    """A gene of the manager: the widths of the links, and what each stage may cost."""

    widths: Widths
    """int64 [groups]: the links as planned, all others as narrow as allowed."""
    limits: Int64[Tensor, "stages metrics"]
    """int64 [stages, metrics]: adds up to the limits of the network, exactly."""


@dataclass(frozen=True, eq=False)
class _Scored:
    """A plan with the best gene of each stage."""

    plan: _Plan
    found: tuple[BestGene, ...]
    loss: float

    @property
    def spent(self) -> Int64[Tensor, "stages metrics"]:
        """What the best genes cost; what a stage does not spend is divided anew among its children."""
        return torch.stack([found.cost for found in self.found])


class Manager:
    """Evolves plans; the loss of one is the sum of the smallest losses that Algorithm 3 finds in the stages.

    Equation F = sum F_i holds exactly: each stage gets what its links make it cost at least, and shares of the rest.
    A search within a stage is made once per (stage, links that touch it, limits); the loss of a plan is looked up in
    the whole archive, since whatever was evaluated for another plan may serve.

    Args:
        losses: evaluates, and remembers.
        settings: population, mutation and so on of the plans.
        stage_settings: those of each search within a stage.
        evaluations: genes that each stage may evaluate in all, divided over the generations; ``None`` sets no end.
        generator: the source of chance.
        on_generation: is called after each generation.
    """

    def __init__(
        self,
        losses: StageLosses,
        settings: EvolutionSettings,
        stage_settings: EvolutionSettings,
        evaluations: int | None,
        generator: torch.Generator,
        on_generation: Callable[[Generation], None] = lambda generation: None,
    ) -> None:
        self._problem, self._losses = losses.problem, losses
        self._settings, self._stage_settings = settings, stage_settings
        self._evaluations, self._generator, self._on_generation = evaluations, generator, on_generation
        self._searched: set[tuple[int, ...]] = set()
        self._links = list(losses.problem.links)

    def run(self) -> Widths:
        """The widths of the best network that was found, int64 [groups]."""
        plans = self._first()
        best: list[_Scored] = []
        for index in range(self._settings.iterations):
            self._search(plans, index)
            best = self._top([*plans, *(scored.plan for scored in best)])
            left = self._settings.iterations - index - 1
            facts = {"index": index + 1, "total": self._settings.iterations, "genes": self._losses.total}
            self._on_generation(Generation(best=best[0].loss, **facts))
            plans = self._breed(best) if left else []
        return self._network(best[0])

    def _search(self, plans: Sequence[_Plan], index: int) -> None:
        """Algorithm 3 for every (stage, links, limits) of these plans that was not searched before."""
        searches = []
        for plan in plans:
            for stage, touched in enumerate(self._problem.touched):
                linked = [int(plan.widths[g]) for g in touched if g in self._links]
                key = (stage, *linked, *plan.limits[stage].tolist())
                if key not in self._searched:
                    self._searched.add(key)
                    searches.append(StageSearch(stage, plan.widths, plan.limits[stage]))
        search_stages(self._losses, searches, self._stage_settings, self._generator, self._allowance(index))

    def _allowance(self, index: int) -> list[int] | None:
        if self._evaluations is None:
            return None
        left = self._settings.iterations - index
        return [self._losses.quota(stage, self._evaluations, left) for stage in range(self._problem.stages)]

    def _top(self, plans: Sequence[_Plan]) -> list[_Scored]:
        """The k best different networks of these plans."""
        scored = sorted((s for s in map(self._score, plans) if s is not None), key=lambda s: s.loss)
        different = {tuple(self._network(s).tolist()): s for s in reversed(scored)}
        return list(reversed(different.values()))[: self._settings.parents]

    def _score(self, plan: _Plan) -> _Scored | None:
        found = []
        for stage in range(self._problem.stages):
            best = best_gene(self._losses, StageSearch(stage, plan.widths, plan.limits[stage]))
            if best is None:  # the allowance ended before the first gene of this search
                return None
            found.append(best)
        return _Scored(plan, tuple(found), sum(f.loss for f in found))

    def _network(self, scored: _Scored) -> Widths:
        widths = scored.plan.widths.clone()
        for own, found in zip(self._problem.own, scored.found, strict=True):
            widths[list(own)] = torch.tensor(found.gene, dtype=torch.int64)
        return widths

    def _first(self) -> list[_Plan]:
        """The uniform network's plan, the narrowest, and random ones."""
        allowed, count = self._problem.allowed, self._settings.population - 1
        uniform = uniform_widths(allowed, self._problem.limits)
        rows = self._rows(draw(allowed, self._links, count, self._generator))
        rows[:1, self._links] = allowed.smallest[self._links]
        links = torch.cat([self._rows(uniform[None, self._links]), rows])
        wanted = torch.zeros(len(links), *self._least(links).shape[1:], dtype=torch.int64)
        wanted[0] = self._least(uniform[None])[0] - self._least(links[:1])[0]
        return self._plans(links, wanted)

    def _rows(self, links: Int64[Tensor, "count links"]) -> Int64[Tensor, "count groups"]:
        """Widths with these links, all others narrow; the links are scaled down where that alone is too much."""
        rows = self._problem.allowed.smallest.repeat(len(links), 1)
        rows[:, self._links] = links
        limits = same_limits(self._problem.limits)
        return fit(self._problem.allowed, limits, rows, self._links, 0.0, self._generator)

    def _least(self, widths: Int64[Tensor, "count groups"]) -> Int64[Tensor, "count stages metrics"]:
        """What each stage costs."""
        return torch.stack([self._problem.cost(stage, widths) for stage in range(self._problem.stages)], 1)

    def _plans(
        self, widths: Int64[Tensor, "count groups"], wanted: Int64[Tensor, "count stages metrics"]
    ) -> list[_Plan]:
        """Plans with the links of these rows: for each stage what it costs at least, what it wants above that (scaled
        down where that is too much), and a share of the rest, most of it to few stages."""
        least = self._least(widths)
        free = self._problem.limit - least.sum(1)
        share = (free / wanted.sum(1).clamp(min=1)).clamp(max=1)
        granted = (wanted * share[:, None]).long()  # rounded down, so the sum fits
        weights = torch.rand(*least.shape[:2], 1, generator=self._generator, dtype=torch.float64) ** 4
        tilt = 0.5 * torch.randn(least.shape, generator=self._generator, dtype=torch.float64)
        limits = least + granted + _deal(free - granted.sum(1), weights * tilt.exp())
        return [_Plan(*pair) for pair in zip(widths, limits, strict=True)]

    def _breed(self, best: Sequence[_Scored]) -> list[_Plan]:
        """Half mutated, half crossed; each child keeps what its parents spent, and the rest is dealt anew."""
        half = self._settings.population // 2
        parents = torch.stack([scored.plan.widths for scored in best])
        wanted = torch.stack([scored.spent for scored in best]) - self._least(parents)
        links = parents[:, self._links]
        pairs = torch.randint(len(best), (2, half), generator=self._generator)
        crossed = cross(links[pairs[0]], links[pairs[1]], self._generator)
        from_first = torch.rand(half, wanted.shape[1], 1, generator=self._generator) < 0.5
        crossed_wants = torch.where(from_first, wanted[pairs[0]], wanted[pairs[1]])
        picked = chosen(torch.arange(len(best)), self._settings.population - half, self._generator)
        mutants, wants = self._mutated(links[picked], wanted[picked])
        rows = self._rows(torch.cat([mutants, crossed]))
        return self._plans(rows, torch.cat([wants, crossed_wants]))

    def _mutated(
        self, links: Int64[Tensor, "count links"], wanted: Int64[Tensor, "count stages metrics"]
    ) -> tuple[Int64[Tensor, "count links"], Int64[Tensor, "count stages metrics"]]:
        """A third gets other links, all lose what some stages spent, or some of it."""
        chance, shape = self._settings.mutation, wanted.shape[:2]
        moved = mutate(self._problem.allowed, self._links, links, chance, self._generator)
        move = torch.rand(len(links), 1, generator=self._generator) < 1 / 3
        lose = torch.rand(shape, generator=self._generator) < chance
        lose.scatter_(1, torch.randint(shape[1], (shape[0], 1), generator=self._generator), True)
        kept = torch.rand(shape, generator=self._generator, dtype=torch.float64)
        less: Float64[Tensor, "count stages one"] = torch.where(lose, kept, 1.0)[:, :, None]
        return torch.where(move, moved, links), (wanted * less).long()


def _deal(
    amounts: Int64[Tensor, "count metrics"], weights: Float64[Tensor, "count stages metrics"]
) -> Int64[Tensor, "count stages metrics"]:
    """Divide whole amounts by weights; the parts add up exactly."""
    parts = (amounts[:, None] * weights / weights.sum(1, keepdim=True)).long()
    return parts.scatter_add(1, weights.argmax(1, keepdim=True), (amounts - parts.sum(1))[:, None])
