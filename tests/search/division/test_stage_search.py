"""Searches within stages: limits hold by construction, nothing is asked for twice, and the best gene is found."""

import pytest
import torch
from search_memory import Memory
from stage_toys import Bench, Toy, arbitrary, smooth, toy_of

from widthwise.search import EvolutionSettings, StageLosses, StageSearch, best_gene, search_stages


def searches_of(toy_: Toy, problem, share: float) -> list[StageSearch]:
    """For each stage and two widths of the links, limits at a share of the way from the least to the most."""
    result = []
    for place in (0, 2):
        widths = problem.allowed.smallest.clone()
        for link in problem.links:
            widths[link] = problem.allowed.choices[link][place]
        for stage in range(problem.stages):
            most = widths.clone()
            most[list(problem.inner[stage])] = problem.allowed.full[list(problem.inner[stage])]
            low, high = problem.cost(stage, torch.stack([widths, most]))
            result.append(StageSearch(stage, widths, low + ((high - low) * share).long()))
    return result


@pytest.mark.parametrize("metrics", [("macs",), ("macs", "params")])
@pytest.mark.parametrize("name", ["plain", "padded"])
@pytest.mark.parametrize("make", [smooth, arbitrary])
def test_the_best_gene_of_each_search_is_found(name: str, make, metrics: tuple[str, ...]) -> None:
    toy_ = toy_of(name)
    problem = toy_.problem(**toy_.limits(0.9, *metrics))
    bench = Bench(problem, make(problem, 0))
    losses, searches = StageLosses(problem, bench, Memory()), searches_of(toy_, problem, 0.6)
    search_stages(losses, searches, EvolutionSettings(population=6), torch.Generator().manual_seed(0))
    for search in searches:
        own, links = list(problem.own[search.stage]), list(problem.links)
        rows = toy_.every[(toy_.every[:, links] == search.widths[links]).all(1)]
        rows = rows[(problem.cost(search.stage, rows) <= search.limits).all(1)]
        found = best_gene(losses, search)
        assert found is not None
        assert found.loss == min(bench.loss(search.stage, gene) for gene in rows[:, own])
        assert bool((found.cost <= search.limits).all())
    assert len(set(bench.seen)) == len(bench.seen)


@pytest.mark.parametrize("allowance", [None, [2, 2, 3]])
def test_every_gene_that_is_asked_for_meets_limits_of_its_stage(allowance: list[int] | None) -> None:
    toy_ = toy_of("plain")
    problem = toy_.problem(**toy_.limits(0.5, "macs", "params"))
    bench, searches = Bench(problem, smooth(problem, 1)), searches_of(toy_, problem, 0.9)
    losses = StageLosses(problem, bench, Memory())
    settings = EvolutionSettings(population=2, iterations=4, parents=2)
    search_stages(losses, searches, settings, torch.Generator().manual_seed(0), allowance)
    for stage, gene in bench.seen:
        mine = [s for s in searches if s.stage == stage]
        rows = [problem.rows(stage, torch.tensor([gene]), s.widths) for s in mine]
        assert any(
            torch.equal(row[0, list(problem.links)], s.widths[list(problem.links)])
            and bool((problem.cost(stage, row) <= s.limits).all())
            for s, row in zip(mine, rows, strict=True)
        )
    assert len(set(bench.seen)) == len(bench.seen)
    if allowance:
        assert [losses.count(stage) for stage in range(3)] == allowance


def test_all_searches_share_the_batches_of_an_iteration() -> None:
    toy_ = toy_of("padded")
    problem = toy_.problem(**toy_.limits(0.9, "macs"))
    bench = Bench(problem, smooth(problem, 1))
    searches = searches_of(toy_, problem, 0.8)
    settings = EvolutionSettings(population=3, iterations=2)
    search_stages(StageLosses(problem, bench, Memory()), searches, settings, torch.Generator().manual_seed(0))
    assert len(bench.batches) == 2
    assert bench.batches[0] == 3 * len(searches)


def test_no_gene_no_result() -> None:
    toy_ = toy_of("plain")
    problem = toy_.problem(**toy_.limits(0.9, "macs"))
    losses = StageLosses(problem, Bench(problem, smooth(problem, 0)), Memory())
    assert best_gene(losses, searches_of(toy_, problem, 0.5)[0]) is None
