"""Widths from scores, beside every strategy that there is."""

from itertools import product

import pytest
import torch
from torch import Tensor

from widthwise import Budget, CostModel, WidthSpace
from widthwise.cost import Limits
from widthwise.search import balanced_widths, uniform_widths
from widthwise.subnet import Space


def lost(space: Space, scores: Tensor, widths: Tensor) -> Tensor:
    """float64 [population]: the scores of the channels that go, lowest first in each group."""
    total = torch.zeros(len(widths), dtype=torch.float64)
    for place, group in enumerate(space.graph.prunable):
        below = torch.cat([torch.zeros(1, dtype=torch.float64), scores[group.ids].sort().values.cumsum(0)])
        total += below[group.width - widths[:, place]]
    return total


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("seed", range(4))
def test_next_to_nothing_loses_less(chain_cost: CostModel, chain_space: Space, share: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(chain_space.graph.num_channels, generator=generator, dtype=torch.float64) ** 3
    limits = Budget(macs=share).on(chain_cost, chain_space)
    widths = balanced_widths(chain_space, limits, scores)
    every = torch.tensor(list(product(*(c.tolist() for c in chain_space.choices))))
    every = every[limits.met(every)]
    assert bool(limits.met(widths[None])[0])
    least, mine = lost(chain_space, scores, every), float(lost(chain_space, scores, widths[None])[0])
    assert mine <= 1.25 * float(least.min())
    assert float((least < mine).double().mean()) < 0.002
    assert mine <= float(lost(chain_space, scores, uniform_widths(chain_space, limits)[None])[0])


def test_a_layer_that_counts_for_nothing_goes_first(chain_cost: CostModel, chain_space: Space) -> None:
    scores = torch.ones(chain_space.graph.num_channels, dtype=torch.float64)
    scores[chain_space.graph.prunable[2].ids] = 0
    limits = Budget(macs=0.5).on(chain_cost, chain_space)
    assert balanced_widths(chain_space, limits, scores).tolist()[2] <= 3


@pytest.mark.parametrize("budget", [Budget(params=0.4), Budget(macs=0.6, params=0.35), Budget(macs=1.0)])
def test_any_limits_and_any_space(chain_cost: CostModel, budget: Budget) -> None:
    scores = torch.rand(chain_cost.graph.num_channels, generator=torch.Generator().manual_seed(5)).double()
    for rule in (
        WidthSpace(),
        WidthSpace(multiple_of=4),
        WidthSpace(ratios=(0.25, 0.5, 1.0), keep_outputs_of=("body.1.0",)),
    ):
        space = rule.of(chain_cost.graph)
        limits: Limits = budget.on(chain_cost, space)
        widths = balanced_widths(space, limits, scores)
        assert bool(limits.met(widths[None])[0])
        assert all(int(w) in c.tolist() for w, c in zip(widths, space.choices, strict=True))
        if budget.macs == 1.0:
            assert torch.equal(widths, space.full)
