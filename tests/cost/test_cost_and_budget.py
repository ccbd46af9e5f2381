"""Cost by arithmetic, one by one and for populations, and budgets that can and cannot be met."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import oracle
import widthwise
from widthwise import Budget, ChannelGraph, CostModel, WidthSpace
from widthwise.errors import InfeasibleBudget, InvalidBudget, SubnetMismatch


class Mixed(nn.Module):
    """Grouped, depthwise and transposed convolutions, a flatten, and products of activations."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm = nn.Conv2d(3, 8, 3, 2, padding=1), nn.BatchNorm2d(8)
        self.grouped = nn.Conv2d(8, 12, 3, padding=1, groups=4)
        self.depthwise = nn.Conv2d(12, 24, 3, padding=1, groups=12, bias=False)
        self.up = nn.ConvTranspose2d(24, 6, 2, 2)
        self.skip = nn.Conv2d(3, 6, 1)
        self.left, self.right = nn.Conv2d(6, 5, 1), nn.Conv2d(6, 5, 1)
        self.mixer, self.head = nn.Linear(5, 7), nn.Linear(7 * 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.up(self.depthwise(self.grouped(self.norm(self.a(x))).relu())) + self.skip(x)
        y = self.left(y) @ self.right(y)
        return self.head(self.mixer(y.mean(3).transpose(1, 2)).flatten(1))


@pytest.fixture(scope="module")
def traced() -> tuple[Mixed, ChannelGraph, Tensor]:
    model, inputs = Mixed(), torch.randn(1, 3, 8, 8)
    return model, widthwise.trace(model, inputs), inputs


def test_equal_to_the_flop_counter_to_the_unit(traced: tuple[Mixed, ChannelGraph, Tensor]) -> None:
    model, graph, inputs = traced
    assert len(graph.prunable) >= 5
    cost = CostModel(graph)
    keeps = [keep for _, keep in oracle.edge_keeps(graph)] + [oracle.random_keep(graph, seed) for seed in range(5)]
    population = []
    for keep in keeps:
        subnet = graph.subnet(keep)
        small = widthwise.materialize(model, graph, subnet).eval()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            small(inputs)
        expected = counter.get_total_flops() // 2, sum(p.numel() for p in small.parameters())
        assert (cost.macs(subnet), cost.params(subnet)) == expected
        assert sum(macs for _, macs in cost.per_layer(subnet)) == expected[0]
        population.append(expected)
    widths = torch.stack([graph.widths(graph.subnet(keep)) for keep in keeps])
    assert cost.macs(widths).tolist() == [macs for macs, _ in population]
    assert cost.params(widths).tolist() == [params for _, params in population]
    assert cost.macs(widths).dtype == torch.int64
    estimate = cost.estimate("macs", widths)
    torch.testing.assert_close(estimate.double(), cost.macs(widths).double(), rtol=1e-5, atol=0)


def test_a_large_population_equals_one_by_one(traced: tuple[Mixed, ChannelGraph, Tensor]) -> None:
    _, graph, _ = traced
    cost = CostModel(graph)
    generator = torch.Generator().manual_seed(0)
    full = graph.full_widths
    widths = (torch.rand(40_000, len(full), generator=generator) * full).long() + 1
    for metric in ("macs", "params"):
        found = cost.measure(metric, widths)
        for i in (0, 1, 16_383, 16_384, 39_999):
            assert found[i] == cost.measure(metric, graph.subnet(widths=widths[i]))
    assert cost.macs(full[None]).item() == cost.full["macs"]
    assert cost.macs(widths[:0]).shape == (0,)


def test_widths_of_another_shape_are_refused(traced: tuple[Mixed, ChannelGraph, Tensor]) -> None:
    cost = CostModel(traced[1])
    for shape in ((3,), (2, 3), (1, 1, len(traced[1].prunable))):
        with pytest.raises(SubnetMismatch):
            cost.macs(torch.ones(shape, dtype=torch.int64))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"macs": 0},
        {"macs": 0.0},
        {"macs": -0.5},
        {"params": -3},
        {"macs": float("nan")},
        {"macs": float("inf")},
        {"macs": 1.5},
        {"macs": True},
        {"macs": 0.5, "params": 0},
    ],
)
def test_numbers_that_are_no_budget(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidBudget):
        Budget(**options)


def test_fractions_and_absolute_numbers(traced: tuple[Mixed, ChannelGraph, Tensor]) -> None:
    _, graph, _ = traced
    cost, space = CostModel(graph), WidthSpace().of(graph)
    full = cost.full
    limits = Budget(macs=0.5, params=full["params"] - 7).on(cost, space)
    assert limits.limits == {"macs": full["macs"] // 2, "params": full["params"] - 7}
    assert Budget(macs=1.0).on(cost, space).limits == {"macs": full["macs"]}
    for above in ({"macs": full["macs"] + 1}, {"params": 10**12}):
        with pytest.raises(InvalidBudget, match="full model"):
            Budget(**above).on(cost, space)


def test_limits_hold_all_at_once(traced: tuple[Mixed, ChannelGraph, Tensor]) -> None:
    _, graph, _ = traced
    cost, space = CostModel(graph), WidthSpace().of(graph)
    limits = Budget(macs=0.5, params=0.4).on(cost, space)
    generator = torch.Generator().manual_seed(0)
    widths = (torch.rand(500, len(space.choices), generator=generator) * graph.full_widths).long() + 1
    macs, params = cost.macs(widths), cost.params(widths)
    inside = (macs <= limits.limits["macs"]) & (params <= limits.limits["params"])
    assert 0 < int(inside.sum()) < 500
    assert torch.equal(limits.met(widths), inside)
    close = inside & (limits.used(widths) >= 0.995)
    assert bool(limits.maybe_met(widths)[close].all())


def test_an_infeasible_budget_shows_what_is_reachable(traced: tuple[Mixed, ChannelGraph, Tensor]) -> None:
    _, graph, _ = traced
    cost, space = CostModel(graph), WidthSpace(min_ratio=0.5).of(graph)
    with pytest.raises(InfeasibleBudget) as error:
        Budget(macs=0.01, params=0.9).on(cost, space)
    text = str(error.value)
    for word in ("smallest", "uniform 50%", "full", "asked", f"{cost.full['macs']:,}", f"{cost.full['params']:,}"):
        assert word in text
    assert f"{int(cost.macs(space.smallest[None])[0]):,}" in text
    Budget(macs=int(cost.macs(space.smallest[None])[0])).on(cost, space)  # the smallest itself is feasible
