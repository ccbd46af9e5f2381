"""Evolution over width ratios: the paper's suggestion for a better strategy generation (FNNP, section 5)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float64
from torch import Tensor

from widthwise.cost.budget import Limits
from widthwise.search.base import Widths
from widthwise.search.breeding import Breeder, offspring
from widthwise.search.widths import project
from widthwise.subnet.space import Space

__all__ = ["Evolution"]


class Evolution(Breeder):
    """Mutates and crosses the best strategies, from :func:`widthwise.search.first_widths` on.

    The first generation are those and mutations of them: random rates far from them are poor in deep networks. Later
    ones descend from the best ``parents`` strategies of all so far. Every child is scaled onto the budget
    (:func:`widthwise.search.widths.project`), so none is rejected, and none is asked for twice.

    Args:
        space: the allowed widths.
        limits: the budget.
        first: more strategies to start with.
        generation: children per generation.
        parents: how many of the best so far may become parents.
        mutation: chance that a group's ratio changes.
        spread: standard deviation of the change of a ratio's logarithm.
        max_rate: a ratio stays at or above ``1 - max_rate`` before it is scaled onto the budget.
        seed: of everything random.
    """

    def __init__(
        self,
        space: Space,
        limits: Limits,
        *,
        first: Sequence[Widths] = (),
        generation: int = 20,
        parents: int = 8,
        mutation: float = 0.15,
        spread: float = 0.6,
        max_rate: float = 0.9,
        seed: int = 0,
    ) -> None:
        super().__init__(space, limits, first, seed)
        self._size, self._parents = generation, parents
        self._mutation, self._spread = mutation, spread
        self._floor = 1 - max_rate

    def ask(self) -> Widths:
        """The next strategy; a new generation is bred when the last one has been handed out."""
        if not self._waiting:
            self._waiting = self._breed()
        return self._waiting.pop(0)

    def _breed(self) -> list[Tensor]:
        children: list[Tensor] = []
        for attempt in range(20):
            ratios = self._children(self._spread * (1 + attempt / 2))  # wider where all was seen already
            for row in project(self._space, self._limits, ratios):
                key = tuple(row.tolist())
                if key not in self._seen or attempt == 19:  # a tiny space may be used up: then repeat
                    self._seen.add(key)
                    children.append(row)
                if len(children) == self._size:
                    return children
        return children

    def _children(self, spread: float) -> Float64[Tensor, "children groups"]:
        """Children of the best, each mutated here and there."""
        parents = self._best(self._parents)
        children = offspring(parents / self._space.full.double(), self._size, spread, self._generator)
        mutated = torch.rand(children.crossed.shape, generator=self._generator) < self._mutation
        mutated |= children.copies[:, None] & ~mutated.any(1, keepdim=True)  # never a mere copy
        return torch.where(mutated, children.changed, children.crossed).clamp(self._floor, 1)
