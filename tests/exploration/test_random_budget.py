"""What random sub-networks cost on average, and probabilities that meet a budget."""

from itertools import product

import pytest
import torch
from torch import nn

from widthwise import Budget, ChannelGraph, CostModel, Subnet, WidthSpace, build_model, trace
from widthwise.exploration import ExplorationEstimation, ExplorationSettings, RandomBudget, by_rank
from widthwise.exploration.distribution import inside


class Depthwise(nn.Module):
    """A group that lies on both axes of one product, a depthwise layer, and a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.c, self.d = nn.Conv2d(3, 3, 3, padding=1, groups=3), nn.Conv2d(3, 4, 1)
        self.out = nn.Linear(4, 2)

    def forward(self, x):  # type: ignore[no-untyped-def]
        x = self.a(x)
        x = x + self.b(x.relu())
        return self.out(self.d(self.c(x)).mean((2, 3)))


def prepared(model: nn.Module, image: torch.Tensor, budget: Budget, **rule: object):  # type: ignore[no-untyped-def]
    graph = trace(model, image)
    space, cost = WidthSpace(**rule).of(graph), CostModel(graph)  # type: ignore[arg-type]
    return graph, space, cost, budget.on(cost, space)


@pytest.mark.parametrize("metric", ["macs", "params"])
def test_the_expected_cost_is_that_of_all_sub_networks(metric: str) -> None:
    """Also of those that keep nothing of a group, which no search draws: the sum over all of them is what is exact."""
    graph, space, cost, limits = prepared(Depthwise(), torch.zeros(1, 1, 6, 6), Budget(**{metric: 0.6}))
    budget = RandomBudget(space, limits)
    p = torch.rand(graph.num_channels, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = 0.0
    for bits in product([False, True], repeat=graph.num_channels):
        keep = torch.tensor(bits)
        chance = float(torch.where(keep, p, 1 - p).prod())
        widths = torch.zeros(len(graph.prunable), dtype=torch.int64).index_add(0, graph.channels, keep.long())
        expected += chance * int(cost.measure(metric, widths[None])[0])  # type: ignore[index]
    assert float(budget.used(p)) * limits.limits[metric] == pytest.approx(expected, rel=1e-9)
    steps = torch.eye(graph.num_channels, dtype=torch.float64) * 1e-6
    slopes = torch.stack([(budget.used(p + step) - budget.used(p - step)) / 2e-6 for step in steps])
    torch.testing.assert_close(budget.prices(p), slopes, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("share", [0.35, 0.5, 0.65, 0.8])
@pytest.mark.parametrize("name", ["resnet20", "mobilenet_v1"])
def test_samples_cost_the_budget_on_average(share: float, name: str) -> None:
    pixels = 32 if name == "resnet20" else 64
    graph, space, cost, limits = prepared(build_model(name), torch.zeros(1, 3, pixels, pixels), Budget(macs=share))
    settings = ExplorationSettings(samples=200, resamplings=2, t_alpha=1.0)
    rank = by_rank(graph, graph.importance("l1"), 1.0)
    odds = torch.randn(graph.num_channels, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for start in (None, rank, inside(torch.sigmoid(3 * odds))):  # the paper's, ours, and one that has decided
        searcher = ExplorationEstimation(space, limits, settings, start=start)
        means = [mean_of_a_set(searcher, graph, cost) for _ in range(settings.resamplings + 1)]
        assert means == pytest.approx([share] * len(means), rel=0.03)  # of each set, moved about or not
        assert sum(means) / len(means) == pytest.approx(share, rel=0.02)


def mean_of_a_set(searcher: ExplorationEstimation, graph: ChannelGraph, cost: CostModel) -> float:
    """The mean share of the multiply-adds of the samples of one set, which are told losses by chance."""
    subnets = [searcher.ask() for _ in range(searcher.settings.samples)]
    for subnet in subnets:
        searcher.tell(subnet, float(subnet.keep.double().sin().sum() % 1))
    widths = torch.stack([graph.widths(subnet) for subnet in subnets])
    return float(cost.macs(widths).double().mean()) / cost.full["macs"]


@pytest.mark.parametrize(
    ("rule", "share"), [({"min_ratio": 0.5}, 0.36), ({"min_ratio": 0.5}, 0.5), ({"multiple_of": 8}, 0.2)]
)
def test_least_widths_count_in_what_samples_cost(rule: dict[str, float], share: float) -> None:
    graph, space, cost, limits = prepared(
        build_model("resnet56"), torch.zeros(1, 3, 32, 32), Budget(macs=share), **rule
    )
    settings = ExplorationSettings(samples=200)
    searcher = ExplorationEstimation(space, limits, settings, start=by_rank(graph, graph.importance("l1"), 1.0))
    means = [mean_of_a_set(searcher, graph, cost) for _ in range(2)]
    assert means == pytest.approx([share] * 2, rel=0.03)


@pytest.mark.parametrize("start", [0.99, 0.5, 0.05])
def test_a_projection_meets_any_share_that_can_be_and_empties_no_group(start: float) -> None:
    graph, space, _, limits = prepared(build_model("resnet56"), torch.zeros(1, 3, 32, 32), Budget(macs=0.44))
    budget, p = RandomBudget(space, limits), torch.full((graph.num_channels,), start, dtype=torch.float64)
    for share in (0.1, 0.5, 1.0, 1.6):
        found = budget._shifted(p, share)
        assert float(budget.used(found)) == pytest.approx(share, rel=1e-4)
        means = torch.stack([found[group.ids].mean() for group in graph.prunable])
        torch.testing.assert_close(means, means.mean().expand_as(means))


def test_above_the_budget_a_projection_only_lowers() -> None:
    graph, space, _, limits = prepared(build_model("resnet20"), torch.zeros(1, 3, 32, 32), Budget(macs=0.8))
    budget, learned = RandomBudget(space, limits), torch.full((graph.num_channels,), 0.7, dtype=torch.float64)
    assert torch.equal(budget.projected(learned, 2.0), learned)
    assert float(budget.used(budget.projected(learned, 1.0))) == pytest.approx(1, rel=1e-4)


def test_losses_that_say_nothing_leave_all_groups_alike() -> None:
    """From p = 1 the dearest group, the residual stream, must not be what pays for the budget."""
    graph, space, _, limits = prepared(build_model("resnet20"), torch.zeros(1, 3, 32, 32), Budget(macs=0.5))
    searcher = ExplorationEstimation(space, limits, ExplorationSettings(resamplings=1, decay=0.8, t_alpha=2.0))
    while searcher.steps < 12:
        searcher.tell(searcher.ask(), -1.0)
    means = torch.stack([searcher.p[group.ids].mean() for group in graph.prunable])
    assert float(searcher.budget.used(searcher.p)) == pytest.approx(1, rel=1e-3)
    assert float(means.min()) > 0.95 * float(means.max())


def test_probabilities_within_the_budget_are_not_corrected() -> None:
    graph, space, _, limits = prepared(Depthwise(), torch.zeros(1, 1, 6, 6), Budget(macs=0.6))
    budget = RandomBudget(space, limits)
    low = torch.full((graph.num_channels,), 0.2, dtype=torch.float64)
    assert torch.equal(budget.corrected(low), low)
    high = torch.full((graph.num_channels,), 0.95, dtype=torch.float64)
    assert float(budget.used(high)) > 1
    for t_alpha in (1.0, 1.2):
        found = budget.corrected(high, t_alpha)
        assert bool((found <= high).all())
        assert float(budget.used(found)) == pytest.approx(t_alpha, rel=1e-4)
        assert float(budget.used(budget.projected(high, t_alpha))) == pytest.approx(t_alpha, rel=1e-4)
    assert float(budget.used(budget.projected(low))) == pytest.approx(1, rel=1e-4)


def test_certain_channels_stay_so_in_a_projection() -> None:
    graph, space, _, limits = prepared(build_model("digits_net"), torch.zeros(1, 1, 8, 8), Budget(macs=0.5))
    budget = RandomBudget(space, limits)
    certain = torch.arange(graph.num_channels) % 3 == 0
    p = torch.where(certain, 0.99, 0.7).double()
    projected, corrected = budget.projected(p), budget.corrected(p)
    assert float(projected[certain].mean()) > 0.9 > float(corrected[certain].mean())


def test_groups_without_a_choice_are_always_whole() -> None:
    _, space, _, limits = prepared(
        build_model("digits_net"), torch.zeros(1, 1, 8, 8), Budget(macs=0.7), keep_outputs_of=("block1.conv1.*",)
    )
    searcher = ExplorationEstimation(space, limits, ExplorationSettings(samples=8), seed=0)
    fixed = searcher.budget.fixed
    assert bool(fixed.any())
    assert all(bool(searcher.ask().keep[fixed].all()) for _ in range(8))
    assert bool(searcher.found().keep[fixed].all())


def test_what_is_always_kept_counts_for_nothing_when_samples_are_weighed() -> None:
    _, space, _, limits = prepared(
        build_model("resnet20"), torch.zeros(1, 3, 32, 32), Budget(macs=0.7), keep_outputs_of=("layer*.conv1",)
    )
    searcher = ExplorationEstimation(space, limits, ExplorationSettings(samples=8))
    fixed = searcher.budget.fixed
    assert int(fixed.sum()) > 100
    for _ in range(2 * 8):
        searcher.tell(searcher.ask(), -1.0)
    drawn, now = searcher._drawn_from, searcher.p
    assert torch.equal(drawn[fixed], now[fixed])
    assert not torch.equal(drawn[~fixed], now[~fixed])


def test_every_sample_has_a_channel_in_each_group() -> None:
    graph, space, _, limits = prepared(build_model("digits_net"), torch.zeros(1, 1, 8, 8), Budget(macs=0.02))
    searcher = ExplorationEstimation(space, limits, ExplorationSettings(samples=64, t_alpha=1.0), seed=0)
    for _ in range(64):
        graph.check(Subnet(searcher.ask().keep))
