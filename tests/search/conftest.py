"""A small traced network for searchers, which need no weights and no data."""

from itertools import pairwise

import pytest
from torch import Tensor, nn, randn

from widthwise import Budget, CostModel, WidthSpace, trace
from widthwise.cost import Limits
from widthwise.subnet import Space


class Chain(nn.Module):
    """Four convolutions of widths 6, 8, 10 and 12."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 6, 8, 10, 12)
        self.body = nn.Sequential(
            *(nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.ReLU()) for a, b in pairwise(widths))
        )
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean((2, 3)))


@pytest.fixture(scope="session")
def chain_cost() -> CostModel:
    return CostModel(trace(Chain(), randn(1, 3, 8, 8)))


@pytest.fixture(scope="session")
def chain_space(chain_cost: CostModel) -> Space:
    return WidthSpace().of(chain_cost.graph)


@pytest.fixture(scope="session")
def half(chain_cost: CostModel, chain_space: Space) -> Limits:
    return Budget(macs=0.5).on(chain_cost, chain_space)
