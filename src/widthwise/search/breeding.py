"""What searches that breed have in common: what they remember, and children that are crossed and changed."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from widthwise.cost.budget import Limits
from widthwise.search.base import Widths
from widthwise.search.widths import first_widths
from widthwise.subnet.space import Space

__all__ = ["Breeder", "Offspring", "cross", "offspring"]


class Breeder:
    """Remembers what was asked for and what it scored, and starts at :func:`widthwise.search.first_widths`.

    Args:
        space: the allowed widths.
        limits: the budget.
        first: more strategies to start with.
        seed: of everything random.
    """

    def __init__(self, space: Space, limits: Limits, first: Sequence[Widths], seed: int) -> None:
        self._space, self._limits = space, limits
        self._generator = torch.Generator().manual_seed(seed)
        starts = {tuple(row.tolist()): row for row in (*first_widths(space, limits), *first)}
        self._starts = torch.stack(list(starts.values()))
        self._waiting, self._seen = list(starts.values()), set(starts)
        self._scored: list[Widths] = []
        self._scores: list[float] = []

    def tell(self, widths: Widths, score: float) -> None:
        """Remember the score; ties keep the order in which they were told."""
        self._scored.append(widths)
        self._scores.append(score)

    def _best(self, count: int) -> Int64[Tensor, "best groups"]:
        """Up to ``count`` strategies with the highest scores, the best first; where there are none yet, the starts."""
        if not self._scores:
            return self._starts
        order = sorted(range(len(self._scores)), key=lambda place: -self._scores[place])
        return torch.stack([self._scored[place] for place in order[:count]])


class Offspring(NamedTuple):
    """Children of two parents each, before it is decided which of their ratios change."""

    crossed: Float64[Tensor, "children groups"]
    """As they come from their parents."""
    changed: Float64[Tensor, "children groups"]
    """The same with every ratio changed."""
    copies: Bool[Tensor, "children"]
    """Those with one parent twice."""


def cross(first: Tensor, second: Tensor, generator: torch.Generator) -> Tensor:
    """Each element of a row from one parent or the other."""
    return torch.where(torch.rand(first.shape, generator=generator) < 0.5, first, second)


def offspring(
    ratios: Float64[Tensor, "parents groups"], count: int, spread: float, generator: torch.Generator
) -> Offspring:
    """Cross random parents.

    Args:
        ratios: of the parents, shares of the full widths.
        count: children wanted.
        spread: standard deviation of the change of a ratio's logarithm.
        generator: the source of everything random.
    """
    pairs = torch.randint(len(ratios), (2, count), generator=generator)
    crossed = cross(ratios[pairs[0]], ratios[pairs[1]], generator)
    change = torch.randn(crossed.shape, generator=generator, dtype=torch.float64) * spread
    return Offspring(crossed, crossed * change.exp(), pairs[0] == pairs[1])
