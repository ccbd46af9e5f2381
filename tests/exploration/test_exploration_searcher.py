"""The search as a whole on problems whose best sub-network is known."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from exploration_toys import NONE, QUICK, additive, redundant, solved

from typecheck import annotations
from widthwise import Budget, CostModel, Subnet, WidthSpace, build_model, trace
from widthwise.errors import ConfigError, NonFiniteLoss, SubnetMismatch
from widthwise.exploration import ExplorationEstimation, ExplorationSettings, binarised


@cache
def run_of(make, settings: ExplorationSettings, seed: int) -> tuple[bool, int]:  # type: ignore[no-untyped-def]
    """Whether the best subset was found, and after how many evaluations; seconds each, and two tests look."""
    with annotations(checked=seed == 0):
        return solved(make(12, seed), settings, 1800, seed)


@pytest.mark.parametrize(("seeds", "least"), [(6, 6), pytest.param(20, 19, marks=pytest.mark.slow)])
@pytest.mark.parametrize("make", [additive, redundant])
def test_the_best_subset_is_found(make, seeds: int, least: int) -> None:  # type: ignore[no-untyped-def]
    assert sum(run_of(make, QUICK, seed)[0] for seed in range(seeds)) >= least


def test_removing_single_channels_would_not_find_it() -> None:
    """Each channel of a redundant pair can go for next to nothing, so that a ranking removes both."""
    failed = 0
    for seed in range(20):
        toy = redundant(12, seed)
        every = torch.ones(12, dtype=torch.bool)
        alone = [toy.loss(every & (torch.arange(12) != i)) - toy.loss(every) for i in range(12)]
        chosen = toy.space.graph.top(torch.tensor(alone), toy.best.sum()[None])
        failed += toy.loss(chosen.keep) > toy.loss(toy.best) + 0.3
    assert failed == 20


def test_exploration_costs_no_more_evaluations_than_as_many_samples_of_one_distribution() -> None:
    """That it needs fewer, as the paper has it, does not show on problems of this size: see docs/exploration.md."""
    spent = {}
    for name, settings in (("explores", QUICK), ("does not", NONE)):
        runs = [run_of(redundant, settings, seed) for seed in range(6)]
        assert all(hit for hit, _ in runs)
        spent[name] = sum(count for _, count in runs)
    assert spent["explores"] < 1.2 * spent["does not"]


def test_it_is_deterministic_in_seed_and_scores() -> None:
    toy = redundant(12, 0)
    searchers = [ExplorationEstimation(toy.space, toy.limits, QUICK, seed=seed) for seed in (3, 3, 4)]
    for _ in range(100):
        asked = [[searcher.ask() for _ in range(QUICK.samples)] for searcher in searchers]
        assert asked[0] == asked[1]
        for searcher, subnets in zip(searchers, asked, strict=True):
            for subnet in subnets:
                searcher.tell(subnet, -toy.loss(subnet.keep))
    assert torch.equal(searchers[0].p, searchers[1].p)
    assert not torch.equal(searchers[0].p, searchers[2].p)


def test_no_more_may_be_asked_for_than_one_set() -> None:
    toy = additive(8, 0)
    searcher = ExplorationEstimation(toy.space, toy.limits, QUICK)
    for _ in range(QUICK.samples):
        searcher.ask()
    with pytest.raises(RuntimeError, match="told first"):
        searcher.ask()


def test_scores_are_told_in_order_and_are_numbers() -> None:
    toy = additive(8, 0)
    start = torch.full((8,), 0.5, dtype=torch.float64)
    searcher = ExplorationEstimation(toy.space, toy.limits, replace(QUICK, t_alpha=1.0), start=start)
    first, second = searcher.ask(), searcher.ask()
    assert first != second
    with pytest.raises(SubnetMismatch, match="order in which"):
        searcher.tell(second, -1.0)
    with pytest.raises(NonFiniteLoss, match="finite"):
        searcher.tell(first, float("nan"))
    searcher.tell(first, -1.0)
    searcher.tell(second, -1.0)


def test_the_end_meets_the_budget_and_nothing_more_fits() -> None:
    graph = trace(build_model("digits_net"), torch.zeros(1, 1, 8, 8))
    cost = CostModel(graph)
    for rule in (WidthSpace(), WidthSpace(multiple_of=4, min_ratio=0.25)):
        space = rule.of(graph)
        for seed, share in enumerate((0.3, 0.5, 0.9)):
            limits = Budget(macs=share, params=0.8).on(cost, space)
            p = torch.rand(graph.num_channels, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
            subnet = binarised(space, limits, p)
            widths = graph.widths(subnet)
            assert bool(limits.met(widths[None])[0])
            for place, choices in enumerate(space.choices):
                assert int(widths[place]) in choices.tolist()
                wider = widths.clone()
                above = choices[choices > widths[place]]
                if len(above):
                    wider[place] = above[0]
                    assert not bool(limits.met(wider[None])[0])
            for group in graph.prunable:  # within a group the likeliest stay
                kept = subnet.keep[group.ids]
                assert bool(kept.all()) or float(p[group.ids][kept].min()) >= float(p[group.ids][~kept].max())


def test_what_is_decided_and_fits_is_what_comes_out() -> None:
    toy = additive(10, 0)
    p = torch.where(toy.best, 0.9, 0.1).double()
    assert binarised(toy.space, toy.limits, p) == Subnet(toy.best)


@pytest.mark.parametrize(
    "wrong", [{"samples": 1}, {"t_alpha": 0.5}, {"decay": 0.0}, {"surrogate": 1.5}, {"lr": -1.0}, {"moves": 0}]
)
def test_settings_are_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        ExplorationSettings(**wrong)  # type: ignore[arg-type]
