"""Stages, links and what is inner to a stage; what a problem refuses."""

import re

import pytest
import torch
import torchvision
from stage_toys import Padded, Plain, Toy, toy
from torch import randn

from widthwise import CostModel, WidthSpace, trace
from widthwise.cost import Limits
from widthwise.errors import ConfigError, InfeasibleBudget
from widthwise.search import StageProblem


@pytest.fixture(scope="module")
def plain() -> Toy:
    return toy(Plain())


@pytest.fixture(scope="module")
def padded() -> Toy:
    return toy(Padded())


def test_links_in_cost(plain: Toy) -> None:
    """The last group of a stage sets the size of the next stage's first layer, but only its own stage's loss."""
    problem = plain.problem(macs=10**9)
    assert problem.own == ((0, 1), (2, 3), (4, 5))
    assert problem.touched == ((0, 1), (1, 2, 3), (3, 4, 5))
    assert problem.links == (1, 3)
    assert problem.inner == ((0,), (2,), (4, 5))


def test_links_in_loss(padded: Toy) -> None:
    problem = padded.problem(macs=10**9)
    assert problem.own == ((0, 1, 2), (0, 3, 4), (0, 5, 6))
    assert problem.links == (0,)


@pytest.mark.parametrize("make", [Plain, Padded])
def test_costs_of_the_stages_add_up_with_the_rest_among_them(make) -> None:
    toy_ = toy(make())
    problem = toy_.problem(macs=10**9, params=10**9)
    total = sum(problem.cost(stage, toy_.every) for stage in range(problem.stages))
    whole = problem.limits.cost
    assert torch.equal(total, torch.stack([whole.macs(toy_.every), whole.params(toy_.every)], 1))


def test_a_stage_costs_the_same_whatever_it_does_not_touch(plain: Toy) -> None:
    problem = plain.problem(macs=10**9, params=10**9)
    for stage, touched in enumerate(problem.touched):
        others = [g for g in range(6) if g not in touched]
        widths = plain.every[::7].clone()
        cost = problem.cost(stage, widths)
        widths[:, others] = plain.space.full[others]
        assert torch.equal(problem.cost(stage, widths), cost)


def test_groups_that_nobody_owns_stay_whole() -> None:
    graph = trace(torchvision.models.resnet18(), randn(1, 3, 64, 64))
    space = WidthSpace(ratios=(0.5, 1.0)).of(graph)
    cost = CostModel(graph)
    own = (tuple(range(0, 4)), tuple(range(4, 8)))
    problem = StageProblem(
        space=space, limits=Limits(cost, {"macs": cost.full["macs"]}), own=own, costs=(cost, rest_of(cost))
    )
    for group, choices in enumerate(problem.allowed.choices):
        assert choices.tolist() == (space.choices[group].tolist() if group < 8 else [int(space.full[group])])
    least = int(cost.macs(problem.allowed.smallest[None])[0])
    with pytest.raises(InfeasibleBudget) as error:
        StageProblem(space=space, limits=Limits(cost, {"macs": least - 1}), own=own, costs=problem.costs)
    for word in ("smallest", "uniform 50%", "asked", f"{least:,}", f"{least - 1:,}", "own"):
        assert word in str(error.value)


def rest_of(cost: CostModel) -> CostModel:
    return CostModel(cost.graph, lambda path: path not in cost.modules)


def test_what_does_not_add_up_is_refused(plain: Toy) -> None:
    whole = CostModel(plain.space.graph)
    limits = Limits(whole, {"macs": 10**9})
    with pytest.raises(ConfigError, match="add up"):
        StageProblem(space=plain.space, limits=limits, own=plain.own, costs=plain.costs)
    with pytest.raises(ConfigError, match=re.escape("2 lists of groups and 3 costs")):
        StageProblem(space=plain.space, limits=limits, own=plain.own[:2], costs=plain.costs, rest=plain.rest)
    for wrong in ((0, 0), (0, 6), (-1,)):
        with pytest.raises(ConfigError, match="owns groups"):
            StageProblem(
                space=plain.space, limits=limits, own=(wrong, *plain.own[1:]), costs=plain.costs, rest=plain.rest
            )


def test_possible_is_what_some_network_within_the_limits_has(padded: Toy) -> None:
    problem = padded.problem(**padded.limits(0.2, "macs", "params"))
    within = padded.every[problem.limits.met(padded.every)]
    for stage, own in enumerate(problem.own):
        genes = torch.unique(padded.every[:, list(own)], dim=0)
        there = {tuple(row) for row in within[:, list(own)].tolist()}
        assert problem.possible(stage, genes).tolist() == [tuple(row) in there for row in genes.tolist()]
        assert 0 < len(there) < len(genes)
