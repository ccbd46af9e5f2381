"""The knapsack against brute force, and its gap where it may not look at everything."""

from bisect import bisect_left

import numpy as np
import pytest
import torch
import torchvision
from search_memory import Memory
from stage_toys import LIMITS, Bench, Padded, Plain, Toy, arbitrary, brute_force, smooth, toy

from widthwise import Budget, CostModel, WidthSpace, trace
from widthwise.errors import InfeasibleBudget
from widthwise.search import Archive, StageLosses, StageProblem, solve_knapsack
from widthwise.search.division.breeding import draw, every_gene
from widthwise.search.division.knapsack import regrets


@pytest.fixture(scope="module", params=[Plain, Padded])
def toy_(request: pytest.FixtureRequest) -> Toy:
    return toy(request.param())


@pytest.fixture(scope="module")
def every_width() -> Toy:
    return toy(Plain(), WidthSpace())


def archives_of(problem: StageProblem, loss, share: float = 1.0, seed: int = 0) -> list[Archive]:
    """A random share of all genes of each stage, the narrowest among them."""
    generator, result = torch.Generator().manual_seed(seed), []
    for stage, own in enumerate(problem.own):
        genes = every_gene(problem.allowed, own)
        kept = torch.rand(len(genes), generator=generator) < share
        kept[0] = True
        genes = genes[kept][torch.randperm(int(kept.sum()), generator=generator)]
        result.append(Archive(genes, torch.tensor([loss(stage, gene) for gene in genes], dtype=torch.float64)))
    return result


@pytest.mark.parametrize("metrics", LIMITS, ids="-".join)
@pytest.mark.parametrize("make", [smooth, arbitrary])
def test_the_optimum_of_all_networks(toy_: Toy, make, metrics: tuple[str, ...]) -> None:
    """Ten budgets from tight to loose for each of two networks, two kinds of losses, three kinds of limits."""
    for seed in range(10):
        problem = toy_.problem(**toy_.limits(0.02 + 0.09 * seed, *metrics))
        loss = make(problem, seed)
        choice = solve_knapsack(problem, archives_of(problem, loss))
        assert choice.loss == pytest.approx(brute_force(toy_, problem, loss), abs=1e-12)
        assert choice.gap == 0
        assert bool(problem.limits.met(choice.widths[None])[0])
        mine = [loss(stage, choice.widths[list(own)]) for stage, own in enumerate(problem.own)]
        assert choice.losses == pytest.approx(mine, abs=0)


@pytest.mark.parametrize("metrics", LIMITS, ids="-".join)
def test_the_optimum_of_what_was_looked_at(toy_: Toy, metrics: tuple[str, ...]) -> None:
    for seed in range(8):
        problem = toy_.problem(**toy_.limits(0.1 + 0.1 * seed, *metrics))
        loss = arbitrary(problem, seed)
        archives = archives_of(problem, loss, 0.4, seed)
        known = [{tuple(g): float(v) for g, v in zip(a.genes.tolist(), a.losses, strict=True)} for a in archives]
        best = brute_force(
            toy_, problem, lambda stage, gene, known=known: known[stage].get(tuple(gene.tolist()), torch.inf)
        )
        assert solve_knapsack(problem, archives).loss == pytest.approx(best, abs=1e-12)


def test_archives_that_do_not_fit_together_are_refused(toy_: Toy) -> None:
    problem = toy_.problem(**toy_.limits(0.3, "macs"))
    wide = [Archive(problem.allowed.full[None, list(own)], torch.zeros(1, dtype=torch.float64)) for own in problem.own]
    none = [Archive(a.genes[:0], a.losses[:0]) for a in wide]
    for archives in (wide, none, [*archives_of(problem, smooth(problem, 0))[:2], none[2]]):
        with pytest.raises(InfeasibleBudget, match="narrowest"):
            solve_knapsack(problem, archives)


@pytest.mark.parametrize("metrics", LIMITS, ids="-".join)
def test_with_too_few_labels_the_gap_is_honest(
    every_width: Toy, metrics: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without good prices few labels can be dropped."""
    monkeypatch.setattr("widthwise.search.division.knapsack.BEAM", 1)
    monkeypatch.setattr("widthwise.search.division.bounds.ROUNDS", 1)
    gaps = []
    for seed in range(6):
        problem = every_width.problem(**every_width.limits(0.3 + 0.05 * seed, *metrics))
        archives = archives_of(problem, smooth(problem, seed), 0.5, seed)
        exact, rough = solve_knapsack(problem, archives), solve_knapsack(problem, archives, max_labels=1)
        assert exact.gap == 0
        assert exact.loss <= rough.loss <= exact.loss + rough.gap + 1e-12
        assert bool(problem.limits.met(rough.widths[None])[0])
        gaps.append(rough.gap)
    assert max(gaps) > 0


@pytest.mark.parametrize("metrics", LIMITS, ids="-".join)
def test_the_optimum_where_every_width_is_allowed(every_width: Toy, metrics: tuple[str, ...]) -> None:
    """Among 69,984 networks."""
    problem = every_width.problem(**every_width.limits(0.4, *metrics))
    loss = smooth(problem, 0)
    choice = solve_knapsack(problem, archives_of(problem, loss))
    assert choice.loss == pytest.approx(brute_force(every_width, problem, loss), abs=1e-12)


def test_regret_is_a_bound_on_what_a_gene_costs(toy_: Toy) -> None:
    """The best network that has a gene is worse than the bound on all networks by the regret at least."""
    problem = toy_.problem(**toy_.limits(0.4, "macs", "params"))
    loss = smooth(problem, 3)
    archives = archives_of(problem, loss)
    found = regrets(problem, archives)
    best = solve_knapsack(problem, archives).loss
    for stage, archive in enumerate(archives):
        for gene, regret in list(zip(archive.genes, found[stage], strict=True))[::4]:
            only = [
                a if s != stage else Archive(gene[None], a.losses[(a.genes == gene).all(1)])
                for s, a in enumerate(archives)
            ]
            if np.isfinite(regret):
                assert regret >= -1e-9
                with_it = brute_force(toy_, problem, lambda s, g, only=only: _loss_in(only[s], g))
                assert with_it == torch.inf or with_it >= best - 1e-12
    assert min(values.min() for values in found) == pytest.approx(0, abs=1e-9)


def _loss_in(archive: Archive, gene: torch.Tensor) -> float:
    same = (archive.genes == gene).all(1)
    return float(archive.losses[same][0]) if bool(same.any()) else torch.inf


def test_a_memory_of_losses_is_where_archives_come_from(toy_: Toy) -> None:
    problem = toy_.problem(**toy_.limits(0.5, "macs"))
    loss = smooth(problem, 0)
    losses = StageLosses(problem, Bench(problem, loss), Memory())
    losses.ask([(s, tuple(g)) for s, own in enumerate(problem.own) for g in every_gene(problem.allowed, own).tolist()])
    assert solve_knapsack(problem, losses.archives).loss == pytest.approx(brute_force(toy_, problem, loss), abs=1e-12)


def test_five_stages_of_two_thousand_genes() -> None:
    """The size of a real search: 31 widths per link, MACs and parameters limited at once; exact in about a second."""
    graph = trace(torchvision.models.mobilenet_v2(), torch.randn(1, 3, 64, 64))
    space = WidthSpace(ratios=tuple(0.1 + 0.03 * step for step in range(31))).of(graph)
    ends = (1, 3, 6, 13, 18)

    def stage_of(path: str) -> int:
        parts = path.split(".")
        return bisect_left(ends, int(parts[1])) if parts[0] == "features" and len(parts) > 1 else -1

    makers = [{stage_of(m.tensor) for m in group.members if m.role == "out"} for group in graph.prunable]
    whole = CostModel(graph)
    problem = StageProblem(
        space=space,
        limits=Budget(macs=0.5, params=0.5).on(whole, space),
        own=tuple(tuple(g for g, stages in enumerate(makers) if stage in stages) for stage in range(5)),
        costs=tuple(CostModel(graph, lambda path, s=stage: stage_of(path) == s) for stage in range(5)),
        rest=CostModel(graph, lambda path: stage_of(path) < 0),
    )
    archives = []
    for own in problem.own:
        genes = draw(space, own, 2000, torch.Generator().manual_seed(0))
        genes[0] = space.smallest[list(own)]
        lost = 1 - genes / space.full[list(own)].double()
        archives.append(Archive(genes, (lost**2).mean(1) + 0.02 * torch.rand(2000, dtype=torch.float64)))
    choice = solve_knapsack(problem, archives)
    assert choice.gap == 0
    assert bool(problem.limits.met(choice.widths[None])[0])
    assert float(problem.limits.used(choice.widths[None])[0]) > 0.99
