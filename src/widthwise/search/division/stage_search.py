"""Searches within stages, many side by side: the smallest loss under limits of the stage (SP, Algorithm 3)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from widthwise.search.base import Widths
from widthwise.search.division.breeding import breed, draw, enough, every_gene, fit, keys, number_of_genes
from widthwise.search.division.losses import Linked, StageLosses
from widthwise.search.division.problem import Gene, StageProblem
from widthwise.search.division.settings import EvolutionSettings

__all__ = ["BestGene", "StageSearch", "best_gene", "search_stages"]


@dataclass(frozen=True, eq=False)
class StageSearch:
    """One search: the widths of the links are given, those of the stage's inner groups are wanted."""

    stage: int
    widths: Widths
    """int64 [groups]: the links as they are given, all others as narrow as allowed."""
    limits: Int64[Tensor, "metrics"]
    """int64 [metrics]: what the stage may cost."""


@dataclass(frozen=True, eq=False)
class BestGene:
    """The gene of the smallest loss that a search has come to know."""

    gene: Gene
    loss: float
    cost: Int64[Tensor, "metrics"]


def best_gene(losses: StageLosses, search: StageSearch) -> BestGene | None:
    """The gene of the smallest loss in the whole archive that has the links and meets the limits; none without one."""
    found = _at_hand(losses, search)
    if not len(found.genes):
        return None
    first = int(found.losses.argmin())
    return BestGene(tuple(found.genes[first].tolist()), float(found.losses[first]), found.costs[first])


def search_stages(
    losses: StageLosses,
    searches: Sequence[StageSearch],
    settings: EvolutionSettings,
    generator: torch.Generator,
    allowance: Sequence[int] | None = None,
) -> None:
    """Advance all searches together, so that each iteration is one batch over all stages and genes (Algorithm 3).

    The results are in the archive: :func:`best_gene`. Each gene that is asked for meets the limits of its search.

    Args:
        losses: evaluates, and remembers.
        searches: what is wanted.
        settings: population, iterations and so on of each search.
        generator: the source of chance.
        allowance: for each stage how many new genes all its searches may ask for together; without it only the
            settings limit them.
    """
    ends = None if allowance is None else [losses.count(s) + n for s, n in enumerate(allowance)]
    for iteration in range(settings.iterations):
        batch: list[tuple[int, Gene]] = []
        for search, quota in zip(searches, _quotas(losses, searches, settings, iteration, ends), strict=True):
            genes = _breed(losses, search, quota, settings, iteration, generator)
            batch.extend((search.stage, gene) for gene in genes)
        if not batch:
            break
        losses.ask(batch)


def _quotas(
    losses: StageLosses,
    searches: Sequence[StageSearch],
    settings: EvolutionSettings,
    iteration: int,
    ends: Sequence[int] | None,
) -> list[int]:
    """How many genes each search may ask for now: what is left of its stage, divided evenly."""
    if ends is None:
        return [settings.population] * len(searches)
    sharing, turn, quotas = Counter(s.stage for s in searches), Counter[int](), []
    for search in searches:
        quota = losses.quota(search.stage, ends[search.stage], settings.iterations - iteration)
        each, more = divmod(quota, sharing[search.stage])
        quotas.append(min(settings.population, each + (turn[search.stage] < more)))
        turn[search.stage] += 1
    return quotas


def _breed(
    losses: StageLosses,
    search: StageSearch,
    quota: int,
    settings: EvolutionSettings,
    iteration: int,
    generator: torch.Generator,
) -> list[Gene]:
    """Up to ``quota`` genes that were not asked for yet."""
    if quota < 1:
        return []
    problem = losses.problem
    stage, inner = search.stage, list(problem.inner[search.stage])
    if number_of_genes(problem.allowed, inner) <= settings.population:
        every = every_gene(problem.allowed, inner)
        rows = search.widths.repeat(len(every), 1)
        rows[:, inner] = every[torch.randperm(len(every), generator=generator)]
        return _new(losses, search, rows)[:quota]
    parents = _at_hand(losses, search)
    best = parents.genes[parents.losses.argsort(stable=True)[: settings.parents]]
    used = problem.used(stage, search.limits.expand(quota, -1))

    def bred() -> list[Gene]:
        rows = search.widths.repeat(quota, 1)
        rows[:, inner] = _children(problem, search, best, quota, settings, iteration, generator)
        return _new(losses, search, fit(problem.allowed, used, rows, inner, settings.fill, generator))

    return enough(quota, bred, [] if len(best) else _new(losses, search, search.widths[None]))


def _children(
    problem: StageProblem,
    search: StageSearch,
    best: Int64[Tensor, "parents own"],
    count: int,
    settings: EvolutionSettings,
    iteration: int,
    generator: torch.Generator,
) -> Int64[Tensor, "count inner"]:
    """Inner widths: random ones where there are no parents; half mutated, half crossed otherwise."""
    inner = problem.inner[search.stage]
    own = problem.own[search.stage]
    random = count if not len(best) else count // 2 if iteration == 0 else 0
    drawn = draw(problem.allowed, inner, random, generator)
    if random == count:
        return drawn
    pool = best[:, [own.index(g) for g in inner]]
    return torch.cat([drawn, breed(problem.allowed, inner, pool, count - random, settings.mutation, generator)])


def _new(losses: StageLosses, search: StageSearch, rows: Tensor) -> list[Gene]:
    """The genes of the rows within the limits that were not asked for yet, each once."""
    problem = losses.problem
    rows = rows[(problem.cost(search.stage, rows) <= search.limits).all(1)]
    genes, asked = dict.fromkeys(keys(rows[:, list(problem.own[search.stage])])), losses.asked(search.stage)
    return [gene for gene in genes if gene not in asked]


def _at_hand(losses: StageLosses, search: StageSearch) -> Linked:
    """The archived genes that have the links and meet the limits of a search."""
    linked = losses.linked(search.stage, search.widths)
    meets = (linked.costs <= search.limits).all(1)
    return Linked(linked.genes[meets], linked.losses[meets], linked.costs[meets])
