"""What searches that breed have in common: the best so far as parents, and children that are crossed and changed."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from widthwise.search.base import Widths

__all__ = ["Offspring", "best_of", "cross", "offspring"]


class Offspring(NamedTuple):
    """Children of two parents each, before it is decided which of their ratios change."""

    crossed: Float64[Tensor, "children groups"]
    """As they come from their parents."""
    changed: Float64[Tensor, "children groups"]
    """The same with every ratio changed."""
    copies: Bool[Tensor, "children"]
    """Those with one parent twice."""


def best_of(tried: Sequence[Widths], scores: Sequence[float], count: int) -> Int64[Tensor, "best groups"]:
    """Up to ``count`` strategies with the highest scores, the best first; of equals the earlier one is first."""
    order = sorted(range(len(scores)), key=lambda place: -scores[place])
    return torch.stack([tried[place] for place in order[:count]])


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
