"""The random network: steps one after another, and a head of one of several kinds."""

from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from random_networks.blocks import BLOCKS
from random_networks.convolutional import CONVOLUTIONAL
from random_networks.norms import NORMS
from random_networks.operations import OPERATIONS
from random_networks.places import PLACES
from random_networks.pointwise import POINTWISE
from random_networks.shapes import SHAPES
from random_networks.spatial import SPATIAL
from random_networks.step import Maker, Site, Step
from random_networks.tokens import TOKENS

__all__ = ["HEADS", "INPUTS", "MAKERS", "RandomNet", "Spec", "heads", "shapes", "specs"]

Spec = list[tuple[str, int, int]]
"""Name of each step, and two numbers (0 to 11) that choose its variant."""

MAKERS: dict[str, Maker] = {
    **CONVOLUTIONAL,
    **BLOCKS,
    **NORMS,
    **TOKENS,
    **SHAPES,
    **SPATIAL,
    **PLACES,
    **POINTWISE,
    **OPERATIONS,
}
"""Every kind of step by name."""

HEADS = ("pooled", "flat", "maps", "pair", "mapping", "auxiliary")
"""What a network returns: scores from the pooled or the flattened maps; maps; scores and pooled features of an
earlier step; a mapping with nested outputs; scores, and in training those of a second head as well."""

INPUTS = ((2, 3, 6, 6), (1, 3, 6, 6), (1, 3, 5, 7), (2, 4, 8, 4))
"""Shapes of the images: batches of one and two, square and not, of even and odd sizes."""

LIMITS = (1, 40), (1, 12)
"""Channels and size that a step may end with; others are left out."""


class RandomNet(nn.Module):
    """Runs steps one after another; each sees what came before.

    A step that does not fit (it would leave too many or no channels, or maps that are too large) is left out when
    the network is built.
    """

    def __init__(self, spec: Spec, head: int, shape: int = 0) -> None:
        super().__init__()
        self.shape = INPUTS[shape % len(INPUTS)]
        self.steps = nn.ModuleList()
        self.kind = HEADS[head % len(HEADS)]
        earlier = [self.example()]
        with torch.no_grad():
            for name, a, b in spec:
                step = MAKERS[name](Site(earlier[-1], list(earlier)), a, b).eval()
                y = self._result(step, earlier)
                if y is not None:
                    self.steps.append(step)
                    earlier.append(y)
        x = earlier[-1]
        self.head = nn.Conv2d(x.shape[1], 2, 1) if self.kind == "maps" else nn.Linear(self._features(x), 3)
        self.source = len(earlier) // 2
        self.second = nn.Linear(earlier[self.source].shape[1], 2)

    def _result(self, step: Step, earlier: list[Tensor]) -> Tensor | None:
        """What the step makes of the last maps; nothing where it does not fit."""
        try:
            y = step(earlier[-1], earlier)
        except RuntimeError as error:
            if "view size is not compatible" in str(error):  # a view of maps that were cropped before
                return None
            raise
        (least, most), (smallest, largest) = LIMITS
        n, channels, *space = y.shape
        fits = n == self.shape[0] and least <= channels <= most and all(smallest <= size <= largest for size in space)
        return y if fits else None

    def _features(self, x: Tensor) -> int:
        return x[0].numel() if self.kind == "flat" else x.shape[1]

    def example(self) -> Tensor:
        """Images of the network's shape, the same each time."""
        return torch.randn(self.shape, generator=torch.Generator().manual_seed(1))

    def forward(self, x: Tensor) -> Any:
        earlier = [x]
        for step in self.steps:
            earlier.append(step(earlier[-1], earlier))
        x, before = earlier[-1], earlier[self.source].mean((2, 3))
        if self.kind == "maps":
            return self.head(x)
        scores = self.head(torch.flatten(x, 1) if self.kind == "flat" else x.mean((2, 3)))
        if self.kind == "pair":
            return scores, self.second(before)
        if self.kind == "mapping":
            return {"scores": scores, "also": [self.second(before), None, scores.argmax(1)]}
        return (scores, self.second(before)) if self.kind == "auxiliary" and self.training else scores


numbers = st.integers(0, 11)
names = st.one_of(st.sampled_from(sorted(MAKERS)), st.sampled_from(sorted(CONVOLUTIONAL)))
"""Convolutions more often than others: much else pins what it meets, and there would be little to remove."""
specs = st.lists(st.tuples(names, numbers, numbers), min_size=2, max_size=9)
heads = st.integers(0, len(HEADS) - 1)
shapes = st.integers(0, len(INPUTS) - 1)
