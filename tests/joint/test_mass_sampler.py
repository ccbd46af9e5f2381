"""Algorithm 1: the fewest channels that reach the threshold, by hand and by brute force."""

import pytest
import torch
from torch import Tensor, nn

from widthwise import Budget, ChannelGraph, CostModel, WidthSpace, trace
from widthwise.errors import ConfigError
from widthwise.joint import MassSampler


def graph_of(*widths: int) -> ChannelGraph:
    layers: list[nn.Module] = []
    for before, after in zip((3, *widths), (*widths, 2), strict=True):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
    return trace(nn.Sequential(*layers), torch.randn(1, 3, 6, 6))


def logs(*shares: float) -> Tensor:
    return torch.tensor(shares).log()


@pytest.mark.parametrize(
    ("threshold", "count"), [(0.3, 1), (0.4, 1), (0.41, 2), (0.7, 2), (0.71, 3), (0.9, 3), (0.95, 4), (1.0, 4)]
)
def test_the_smallest_count_that_reaches_the_threshold(threshold: float, count: int) -> None:
    """Shares 0.4, 0.3, 0.2, 0.1 in the order 1, 3, 0, 2."""
    graph = graph_of(4)
    sampler = MassSampler(WidthSpace().of(graph), noise=0)
    draw = sampler.draw(logs(0.2, 0.4, 0.1, 0.3), torch.tensor([threshold], dtype=torch.float64), 0)
    assert draw.widths.tolist() == [count]
    assert draw.subnet.keep.nonzero()[:, 0].tolist() == sorted([1, 3, 0, 2][:count])
    assert draw.exponent == 1


def test_noise_decides_on_the_count_and_the_weights_on_who_stays() -> None:
    graph = graph_of(12, 5)
    alpha = torch.randn(graph.num_channels)
    thresholds = torch.tensor([0.7, 0.6], dtype=torch.float64)
    plain, noisy = MassSampler(WidthSpace().of(graph)), MassSampler(WidthSpace().of(graph), by_noise=True)
    for seed in range(20):
        shares = plain.noisy(alpha, seed)
        draws = [sampler.draw(alpha, thresholds, seed) for sampler in (plain, noisy)]
        for group, threshold, width in zip(graph.prunable, thresholds, draws[0].widths, strict=True):
            mine = shares[group.ids]
            assert mine.sum() == pytest.approx(1)
            tops = [float(mine.topk(count).values.sum()) for count in range(1, group.width + 1)]
            assert int(width) == 1 + next(index for index, top in enumerate(tops) if top >= float(threshold))
            for draw, ranking in zip(draws, (alpha, shares), strict=True):
                expected = ranking[group.ids].topk(int(width)).indices.sort().values
                assert torch.equal(draw.subnet.keep[group.ids].nonzero()[:, 0], expected)
    assert len({tuple(plain.draw(alpha, thresholds, seed).widths.tolist()) for seed in range(20)}) > 5


def test_noise_is_gumbels() -> None:
    """The most probable channel is then drawn with the probabilities of the softmax (Gumbel-max)."""
    graph = graph_of(3)
    sampler = MassSampler(WidthSpace().of(graph))
    wins = torch.stack([sampler.noisy(logs(0.5, 0.3, 0.2), seed).argmax() for seed in range(3000)])
    torch.testing.assert_close(wins.bincount() / 3000, torch.tensor([0.5, 0.3, 0.2]), atol=0.03, rtol=0)


def test_counts_are_rounded_up_to_allowed_widths() -> None:
    graph = graph_of(8)
    sampler = MassSampler(WidthSpace(multiple_of=4).of(graph), noise=0)
    for threshold, width in ((0.2, 4), (0.5, 4), (0.51, 8), (1.0, 8)):
        assert sampler.draw(torch.zeros(8), torch.tensor([threshold], dtype=torch.float64), 0).widths == width


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.8, 0.99])
@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_a_budget_is_met_and_used(share: float, noise: float) -> None:
    graph = graph_of(32, 48, 24)
    cost, space = CostModel(graph), WidthSpace().of(graph)
    limits = Budget(macs=share).on(cost, space)
    sampler = MassSampler(space, noise=noise, limits=limits)
    thresholds = torch.tensor([0.6, 0.8, 0.7], dtype=torch.float64)
    for seed in range(5):
        draw = sampler.draw(torch.randn(graph.num_channels), thresholds, seed)
        used = float(limits.used(draw.widths[None]))
        wider = draw.widths + torch.eye(3, dtype=torch.int64)
        inside = wider[(wider <= space.full).all(1)]
        assert used <= 1
        assert used >= 0.995 or not bool(limits.met(inside).any())  # as near as one channel allows
        assert torch.equal(graph.widths(draw.subnet), draw.widths)


def test_the_budgets_exponent_keeps_the_order_of_the_thresholds() -> None:
    graph = graph_of(64, 64)
    space = WidthSpace().of(graph)
    limits = Budget(params=0.3).on(CostModel(graph), space)
    draw = MassSampler(space, noise=0, limits=limits).draw(
        torch.zeros(128), torch.tensor([0.6, 0.8], dtype=torch.float64), 0
    )
    assert draw.exponent > 1
    assert int(draw.widths[0]) < int(draw.widths[1])


def test_a_fixed_rate_is_the_same_everywhere() -> None:
    graph = graph_of(10, 20)
    alpha = torch.randn(30)
    draw = MassSampler(WidthSpace().of(graph)).fixed(alpha, 0.3)
    assert draw.widths.tolist() == [7, 14]
    assert torch.equal(draw.subnet.keep[:10].nonzero()[:, 0], alpha[:10].topk(7).indices.sort().values)


def test_impossible_settings_are_refused() -> None:
    space = WidthSpace().of(graph_of(4))
    with pytest.raises(ConfigError, match="noise"):
        MassSampler(space, noise=-1)
    sampler = MassSampler(space)
    for rate in (1.0, "budget"):
        with pytest.raises(ConfigError, match="fixed rate"):
            sampler.fixed(torch.zeros(4), rate)


def test_what_cannot_meet_a_budget_is_refused() -> None:
    graph = graph_of(4)
    space = WidthSpace().of(graph)
    sampler = MassSampler(space, limits=Budget(macs=0.5).on(CostModel(graph), space))
    with pytest.raises(ConfigError, match="below 1"):
        sampler.draw(torch.zeros(4), torch.ones(1, dtype=torch.float64), 0)
    with pytest.raises(ConfigError, match="fixed rate"):
        sampler.fixed(torch.zeros(4), 0.5)
    assert sampler.fixed(torch.zeros(4), "budget").widths.tolist() == [2]
