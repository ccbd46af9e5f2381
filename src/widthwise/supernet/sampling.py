"""The sub-networks that a super-net is trained on."""

import json

import torch
from torch import Tensor

from widthwise.channels import Subnet
from widthwise.digest import digest
from widthwise.search import Widths
from widthwise.subnet import Space

__all__ = ["Sampler"]


class Sampler:
    """Draws sub-networks of a space; which ones hangs on the seed of the draw alone.

    Args:
        space: the allowed widths.
        ranking: a score per channel, float [channels]: of each group the highest are kept, so that a narrow
            sub-network lies inside every wider one. By default the first channels of each group.
    """

    def __init__(self, space: Space, ranking: Tensor | None = None) -> None:
        self.space, self._graph = space, space.graph
        self.ranking = -torch.arange(self._graph.num_channels) if ranking is None else ranking

    @property
    def fingerprint(self) -> str:
        """A short digest of the allowed widths and the ranking: what a training on other sub-networks differs in."""
        facts = [[choices.tolist() for choices in self.space.choices], self.ranking.tolist()]
        return digest(json.dumps(facts).encode())

    def of(self, widths: Widths) -> Subnet:
        """The sub-network of these widths."""
        return self._graph.top(self.ranking, widths)

    @property
    def smallest(self) -> Subnet:
        """Every group at its narrowest (the small-net)."""
        return self.of(self.space.smallest)

    def layerwise(self, seed: int) -> Subnet:
        """Every group as wide as it happens, each allowed width as likely as any other."""
        generator = torch.Generator().manual_seed(seed)
        draws = [int(torch.randint(len(c), (), generator=generator)) for c in self.space.choices]
        return self.of(torch.stack([c[i] for c, i in zip(self.space.choices, draws, strict=True)]))

    def uniform(self, seed: int) -> Subnet:
        """One share for all groups, between those of the narrowest and the full network."""
        generator = torch.Generator().manual_seed(seed)
        least = (self.space.smallest / self.space.full).min()
        ratio = least + torch.rand((), generator=generator) * (1 - least)
        return self.of(self.space.snap(self.space.full[None] * ratio)[0])
