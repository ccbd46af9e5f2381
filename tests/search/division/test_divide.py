"""The whole search over stages: the optimum, the constraints, and going on after it was killed."""

import io
from dataclasses import replace

import pytest
import torch
from rich.console import Console
from search_memory import Memory
from stage_toys import LIMITS, Bench, Killed, Padded, Plain, Toy, arbitrary, brute_force, smooth, toy

from typecheck import annotations
from widthwise import WidthSpace
from widthwise.search import (
    DivisionReporter,
    DivisionSettings,
    EvolutionSettings,
    RichDivisionReporter,
    SilentDivisionReporter,
    StageLosses,
    StageProblem,
    divide,
    solve_knapsack,
)
from widthwise.search.division.breeding import every_gene, number_of_genes

SMALL = EvolutionSettings(population=48, parents=12)
STAGE = EvolutionSettings(population=16, iterations=2, parents=4)

WAYS: dict[str, DivisionSettings] = {
    "knapsack": DivisionSettings(),
    "rounds": DivisionSettings(exhaustive=0, evaluations=20, fronts=EvolutionSettings(iterations=4, parents=4)),
    "evolution": DivisionSettings(
        how="evolution",
        evaluations=20,
        manager=EvolutionSettings(population=8, iterations=4, parents=3),
        stage=EvolutionSettings(population=4, iterations=2, parents=2),
    ),
}


@pytest.fixture(scope="module")
def toys() -> list[Toy]:
    return [toy(Plain()), toy(Padded())]


@pytest.mark.parametrize("make", [smooth, arbitrary])
def test_the_knapsack_finds_the_optimum_always(toys: list[Toy], make) -> None:
    for seed in range(12):
        toy_ = toys[seed % 2]
        problem = toy_.problem(**toy_.limits(0.15 + 0.06 * seed, *LIMITS[seed % 3]))
        bench = Bench(problem, make(problem, seed))
        division = divide(StageLosses(problem, bench, Memory()))
        assert division.loss == pytest.approx(brute_force(toy_, problem, bench.loss), abs=1e-12)
        assert division.gap == 0
        assert division.genes == len(bench.seen) == len(set(bench.seen))


def wins(toys: list[Toy], make, metrics: tuple[str, ...], seeds: range) -> int:
    """How often the manager finds the optimum."""
    count = 0
    for seed in seeds:
        toy_ = toys[seed % 2]
        problem = toy_.problem(**toy_.limits(0.2 + 0.03 * seed, *metrics))
        bench = Bench(problem, make(problem, seed))
        settings = DivisionSettings(how="evolution", evaluations=None, manager=SMALL, stage=STAGE, seed=seed)
        with annotations(checked=seed == 0):
            division = divide(StageLosses(problem, bench, Memory()), settings)
        assert bool(problem.limits.met(division.widths[None])[0])
        count += division.loss <= brute_force(toy_, problem, bench.loss) + 1e-12
    return count


def test_the_manager_finds_the_optimum_nearly_always(toys: list[Toy]) -> None:
    """Twenty seeds over both networks, both kinds of losses and all kinds of limits; stages are small enough to be seen
    whole, so this is about the division of the budget alone."""
    found = sum(wins(toys, (smooth, arbitrary)[s // 2 % 2], LIMITS[s % 3], range(s, s + 1)) for s in range(20))
    assert found >= 19


def feasible(problem: StageProblem) -> int:
    """How many genes some network within the limits has, all stages together."""
    every = [every_gene(problem.space, own) for own in problem.own]
    return sum(int(problem.possible(stage, genes).sum()) for stage, genes in enumerate(every))


EVOLVED = DivisionSettings(
    how="evolution",
    recombine=False,
    evaluations=40,
    manager=EvolutionSettings(population=8, iterations=4, parents=3),
    stage=EvolutionSettings(population=6, iterations=2, parents=2),
)


def test_evolution_comes_near_the_optimum_where_it_sees_less_than_half() -> None:
    """Stages of more inner genes than a population, so that none is looked at whole; no recombination at the end."""
    toy_ = toy(Padded(), WidthSpace(ratios=(1 / 3, 1 / 2, 2 / 3, 5 / 6, 1.0)))
    ratios = []
    for seed in range(4):
        problem = toy_.problem(**toy_.limits(0.3 + 0.1 * seed, *LIMITS[seed % 3]))
        inner = [number_of_genes(problem.allowed, groups) for groups in problem.inner]
        assert min(inner) > EVOLVED.stage.population
        bench = Bench(problem, smooth(problem, seed))
        with annotations(checked=seed == 0):
            division = divide(StageLosses(problem, bench, Memory()), replace(EVOLVED, seed=seed))
        assert bool(problem.limits.met(division.widths[None])[0])
        assert len(bench.seen) < feasible(problem) / 2
        every = toy_.every[problem.limits.met(toy_.every)]
        drawn = every[torch.randperm(len(every), generator=torch.Generator().manual_seed(seed))[:40]]
        losses = [sum(bench.loss(s, row[list(own)]) for s, own in enumerate(problem.own)) for row in drawn]
        best = brute_force(toy_, problem, bench.loss)
        ratios.append((division.loss / best, min(losses) / best))
    assert sum(evolved for evolved, _ in ratios) / len(ratios) < 1.3
    assert sum(evolved for evolved, _ in ratios) < sum(random for _, random in ratios)


@pytest.mark.slow
@pytest.mark.parametrize("metrics", LIMITS, ids="-".join)
@pytest.mark.parametrize("make", [smooth, arbitrary])
def test_the_manager_finds_the_optimum_of_each_kind(toys: list[Toy], make, metrics: tuple[str, ...]) -> None:
    assert wins(toys, make, metrics, range(20)) >= 19


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("which", [0, 1])
def test_genes_can_be_part_of_a_network_within_the_limits_and_come_once(toys: list[Toy], which: int, way: str) -> None:
    toy_ = toys[which]
    for seed in range(3):
        problem = toy_.problem(**toy_.limits(0.2, *LIMITS[seed]))
        bench = Bench(problem, smooth(problem, seed))
        with annotations(checked=seed == 0):
            division = divide(StageLosses(problem, bench, Memory()), WAYS[way])
        assert len(set(bench.seen)) == len(bench.seen) == division.genes
        for stage, gene in bench.seen:
            assert bool(problem.possible(stage, torch.tensor([gene]))[0])
        if way != "knapsack":
            assert max(sum(s == stage for s, _ in bench.seen) for stage in range(3)) <= 20
        assert bool(problem.limits.met(division.widths[None])[0])
        mine = [bench.loss(stage, division.widths[list(own)]) for stage, own in enumerate(problem.own)]
        assert division.losses == tuple(mine)


@pytest.mark.parametrize("way", WAYS)
def test_killed_anywhere_it_goes_on_and_ends_the_same(toys: list[Toy], way: str) -> None:
    toy_ = toys[1]
    problem = toy_.problem(**toy_.limits(0.4, "macs", "params"))
    loss = smooth(problem, 5)
    whole, log = Bench(problem, loss), Memory()
    expected = divide(StageLosses(problem, whole, log), WAYS[way])
    for cut in range(0, len(whole.seen), 13):
        log, first = Memory(), Bench(problem, loss, die_after=cut)
        with pytest.raises(Killed):
            divide(StageLosses(problem, first, log), WAYS[way])
        second = Bench(problem, loss)
        resumed = divide(StageLosses(problem, second, log), WAYS[way])
        assert resumed.widths.tolist() == expected.widths.tolist()
        assert (resumed.losses, resumed.gap, resumed.genes) == (expected.losses, expected.gap, expected.genes)
        assert len(first.seen) == cut
        assert not set(first.seen) & set(second.seen)
        assert set(first.seen) | set(second.seen) == set(whole.seen)


@pytest.mark.parametrize("way", WAYS)
def test_same_seed_same_search_another_seed_another(toys: list[Toy], way: str) -> None:
    def asked(seed: int) -> list[int]:
        problem = toys[1].problem(**toys[1].limits(0.4, "macs"))
        bench = Bench(problem, smooth(problem, 5))
        settings = WAYS[way]
        fields = {name: getattr(settings, name) for name in settings.__dataclass_fields__}
        divide(StageLosses(problem, bench, Memory()), DivisionSettings(**{**fields, "seed": seed}))
        return [*bench.batches, *map(hash, bench.seen)]

    first = asked(1)
    assert asked(1) == first
    assert (asked(2) == first) == (way == "knapsack")  # there the stages are looked at whole


@pytest.mark.parametrize("budget", [0.0, 1.0])
@pytest.mark.parametrize("way", WAYS)
def test_the_narrowest_and_the_full_network_at_the_ends(toys: list[Toy], way: str, budget: float) -> None:
    for toy_ in toys:
        problem = toy_.problem(**toy_.limits(budget, "macs", "params"))
        bench = Bench(problem, lambda stage, gene: -float(gene.sum()))
        division = divide(StageLosses(problem, bench, Memory()), WAYS[way])
        expected = toy_.space.full if budget else toy_.space.smallest
        if way == "knapsack" or not budget:
            assert division.widths.tolist() == expected.tolist()
        assert bool(problem.limits.met(division.widths[None])[0])


@pytest.mark.parametrize("way", WAYS)
def test_progress_is_told(toys: list[Toy], way: str) -> None:
    problem = toys[0].problem(**toys[0].limits(0.4, "macs"))
    text = io.StringIO()
    reporter = RichDivisionReporter(Console(file=text, width=120))
    assert isinstance(reporter, DivisionReporter)
    assert isinstance(SilentDivisionReporter(), DivisionReporter)
    losses = StageLosses(problem, Bench(problem, smooth(problem, 0)), Memory(), on_loss=reporter.loss)
    division = divide(losses, WAYS[way], reporter=reporter)
    lines = text.getvalue().strip().splitlines()
    total = {"knapsack": 1, "rounds": 4, "evolution": 4}[way]
    assert len(lines) == total
    start, _, best = lines[-1].partition("best loss ")
    assert start == f"stages: generation {total}/{total}, {division.genes} genes, "
    if way == "evolution":  # what it looked at is combined anew at the end
        assert float(best) >= float(f"{division.loss:.6g}")
    else:
        assert best == f"{division.loss:.6g}"


def test_evolution_ends_with_the_best_of_all_it_looked_at(toys: list[Toy]) -> None:
    better = 0
    for seed in range(6):
        problem = toys[0].problem(**toys[0].limits(0.4, "macs"))
        found = []
        for recombine in (True, False):
            losses = StageLosses(problem, Bench(problem, smooth(problem, seed)), Memory())
            with annotations(checked=seed == 0):
                found.append(divide(losses, replace(WAYS["evolution"], recombine=recombine, seed=seed)))
            best = solve_knapsack(problem, losses.archives).losses
            if recombine:
                assert found[0].loss == pytest.approx(sum(best))
        assert found[0].loss <= found[1].loss
        better += found[0].loss < found[1].loss
    assert better
