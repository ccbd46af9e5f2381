"""Random sub-networks for experiments: of mixed budgets or of one, from nearly uniform to wild, all different."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import count, islice

import torch

from widthwise.cost import Budget, CostModel
from widthwise.search import Widths, project
from widthwise.subnet import Space

__all__ = ["SPREADS", "different", "evenly", "random_networks"]

SPREADS = (0.25, 0.6, 1.0)
"""Standard deviation of the logarithm of the layers' ratios, in turns: from nearly uniform to wild."""

GOLDEN = 0.6180339887498949
"""Multiples of it, without their whole parts, are evenly spread however many there are."""


def evenly(low: float, high: float) -> Iterator[float]:
    """Numbers in [low, high) without end, evenly spread however many are taken."""
    return (low + (high - low) * ((0.5 + index * GOLDEN) % 1) for index in count())


def random_networks(
    cost: CostModel, space: Space, shares: Iterable[float], seed: int, spreads: Sequence[float] = SPREADS
) -> Iterator[Widths]:
    """Random widths, each scaled onto its share of the multiply-adds.

    Args:
        cost: of the network.
        space: the widths to choose from.
        shares: of the full network's multiply-adds, one per network.
        seed: of the widths.
        spreads: of the logarithm of the layers' ratios, in turns.

    Raises:
        InfeasibleBudget: no network is as small as a share.
    """
    generator = torch.Generator().manual_seed(seed)
    for index, share in enumerate(shares):
        noise = torch.randn(1, len(space.choices), generator=generator, dtype=torch.float64)
        ratios = (spreads[index % len(spreads)] * noise).exp().clamp(0.1, 10)
        yield project(space, Budget(macs=share).on(cost, space), ratios)[0]


def different(networks: Iterable[Widths], tries: int = 10**4) -> Iterator[Widths]:
    """Each network the first time that it comes, among the first so many."""
    seen: set[tuple[int, ...]] = set()
    for widths in islice(networks, tries):
        key = tuple(widths.tolist())
        if key not in seen:
            seen.add(key)
            yield widths
