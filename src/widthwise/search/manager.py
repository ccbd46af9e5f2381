"""The division of a budget over stages by evolution (SP, Algorithm 2)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from widthwise.search.base import Widths
from widthwise.search.breeding import EvolutionSettings, chosen, cross, draw, fit, mutate
from widthwise.search.progress import Generation
from widthwise.search.stage_evolution import Found, StageSearch, best_gene, search_stages
from widthwise.search.stage_losses import StageLosses
from widthwise.search.widths import uniform_widths

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
    found: tuple[Found, ...]
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
        counts = [self._losses.count(stage) for stage in range(self._problem.stages)]
        return [max(0, -(-(self._evaluations - count) // left)) for count in counts]

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
        plans = [self._plan(row, torch.zeros_like(self._least(row))) for row in rows]
        links = self._rows(uniform[None, self._links])[0]
        spent = torch.stack([self._problem.cost(s, uniform[None])[0] for s in range(self._problem.stages)])
        return [self._plan(links, spent - self._least(links)), *plans]

    def _rows(self, links: Int64[Tensor, "count links"]) -> Int64[Tensor, "count groups"]:
        """Widths with these links, all others narrow; the links are scaled down where that alone is too much."""
        rows = self._problem.allowed.smallest.repeat(len(links), 1)
        rows[:, self._links] = links
        limits = self._problem.limits
        return fit(self._problem.allowed, lambda w, _: limits.used(w), rows, self._links, 0.0, self._generator)

    def _least(self, widths: Widths) -> Int64[Tensor, "stages metrics"]:
        """What each stage costs at least with the links of a plan."""
        return torch.stack([self._problem.cost(s, widths[None])[0] for s in range(self._problem.stages)])

    def _plan(self, widths: Widths, wanted: Int64[Tensor, "stages metrics"]) -> _Plan:
        """The least of each stage, what it wants above that (scaled down where it is too much), and shares of the
        rest, most of it to few stages."""
        least = self._least(widths)
        free = self._problem.limit - least.sum(0)
        share = (free / wanted.sum(0).clamp(min=1)).clamp(max=1)
        granted = (wanted * share).long()  # rounded down, so the sum fits
        weights = torch.rand(least.shape[0], 1, generator=self._generator, dtype=torch.float64) ** 4
        tilt = 0.5 * torch.randn(least.shape, generator=self._generator, dtype=torch.float64)
        return _Plan(widths, least + granted + _deal(free - granted.sum(0), weights * tilt.exp()))

    def _breed(self, best: Sequence[_Scored]) -> list[_Plan]:
        """Half mutated, half crossed; each child keeps what its parents spent, and the rest is dealt anew."""
        half = self._settings.population // 2
        wanted = torch.stack([scored.spent - self._least(scored.plan.widths) for scored in best])
        links = torch.stack([scored.plan.widths[self._links] for scored in best])
        pairs = torch.randint(len(best), (2, half), generator=self._generator)
        crossed = cross(links[pairs[0]], links[pairs[1]], self._generator)
        from_first = torch.rand(half, wanted.shape[1], 1, generator=self._generator) < 0.5
        crossed_wants = torch.where(from_first, wanted[pairs[0]], wanted[pairs[1]])
        picked = chosen(torch.arange(len(best)), self._settings.population - half, self._generator)
        mutants, wants = self._mutated(links[picked], wanted[picked])
        rows = self._rows(torch.cat([mutants, crossed]))
        return [self._plan(row, want) for row, want in zip(rows, torch.cat([wants, crossed_wants]), strict=True)]

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


def _deal(amount: Int64[Tensor, "metrics"], weights: Float64[Tensor, "stages metrics"]) -> Int64[Tensor, "_ metrics"]:
    """Divide whole amounts by weights; the parts add up exactly."""
    parts = (amount * weights / weights.sum(0)).long()
    parts.scatter_add_(0, weights.argmax(0, keepdim=True), (amount - parts.sum(0))[None])
    return parts
