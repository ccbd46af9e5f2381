"""Searches within stages, many side by side: the smallest loss under limits of the stage (SP, Algorithm 3)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from widthwise.search.base import Widths
from widthwise.search.breeding import (
    EvolutionSettings,
    chosen,
    cross,
    draw,
    every_gene,
    fit,
    keys,
    mutate,
    number_of_genes,
)
from widthwise.search.stage_losses import Linked, StageLosses
from widthwise.search.stage_problem import Gene, StageProblem

__all__ = ["Found", "StageSearch", "best_gene", "search_stages"]


@dataclass(frozen=True, eq=False)
class StageSearch:
    """One search: the widths of the links are given, those of the stage's inner groups are wanted."""

    stage: int
    widths: Widths
    """int64 [groups]: the links as they are given, all others as narrow as allowed."""
    limits: Int64[Tensor, "metrics"]
    """int64 [metrics]: what the stage may cost."""


@dataclass(frozen=True, eq=False)
class Found:
    """What a search found."""

    gene: Gene
    loss: float
    cost: Int64[Tensor, "metrics"]


def best_gene(losses: StageLosses, search: StageSearch) -> Found | None:
    """The gene of the smallest loss in the whole archive that has the links and meets the limits; none without one."""
    found = _at_hand(losses, search)
    if not len(found.genes):
        return None
    first = int(found.losses.argmin())
    return Found(tuple(found.genes[first].tolist()), float(found.losses[first]), found.costs[first])


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
        left = max(0, ends[search.stage] - losses.count(search.stage))
        each, more = divmod(-(-left // (settings.iterations - iteration)), sharing[search.stage])
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
    used = problem.used(stage, search.limits.expand(4 * quota, -1))
    found: dict[Gene, None] = {} if len(best) else dict.fromkeys(_new(losses, search, search.widths[None]))
    for _ in range(4):  # children that were seen before do not count
        rows = search.widths.repeat(quota, 1)
        rows[:, inner] = _children(problem, search, best, quota, settings, iteration, generator)
        rows = fit(problem.allowed, used, rows, inner, settings.fill, generator)
        found.update(dict.fromkeys(_new(losses, search, rows)))
        if len(found) >= quota:
            break
    return list(found)[:quota]


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
    crossed = (count - random) // 2
    mutants = mutate(
        problem.allowed, inner, chosen(pool, count - random - crossed, generator), settings.mutation, generator
    )
    mixed = cross(chosen(pool, crossed, generator), chosen(pool, crossed, generator), generator)
    return torch.cat([drawn, mutants, mixed])


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
