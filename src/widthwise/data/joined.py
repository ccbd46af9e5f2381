"""Two splits as one: to train on all images that are not for the final figure."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from widthwise.data.splits import Batches, Split
from widthwise.digest import digest

__all__ = ["JoinedSplit"]


@dataclass(frozen=True, eq=False)
class JoinedSplit:
    """The batches of both, in turns; each batch holds images of one of them."""

    first: Split
    second: Split

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.first) + len(self.second)

    @property
    def labels(self) -> Int64[Tensor, " n"]:
        """The labels, those of the first in front, int64 [n]."""
        return torch.cat([self.first.labels, self.second.labels])

    def fingerprint(self) -> str:
        """Of both."""
        return digest(self.labels, self.first.fingerprint(), self.second.fingerprint())

    def batches(
        self,
        batch_size: int,
        *,
        device: torch.device | str = "cpu",
        seed: int | None = None,
        augment: bool = False,
        shard: tuple[int, int] = (0, 1),
    ) -> "JoinedBatches":
        """Plan one pass; see :class:`~widthwise.data.Split`. With a seed the parts take turns by chance.

        Each part's last batch may be smaller; if that is a single image it is left out, as batch norms need two.
        """
        parts = [
            split.batches(batch_size, device=device, seed=seed, augment=augment, shard=shard)
            for split in (self.first, self.second)
        ]
        return JoinedBatches(parts[0], parts[1], seed, least=min(2, batch_size // shard[1]))

    def subset(self, n: int, *, seed: int) -> "JoinedSplit":
        """Return n examples, of each part its share."""
        of_first = min(len(self.first), max(n - len(self.second), round(n * len(self.first) / len(self))))
        return JoinedSplit(self.first.subset(of_first, seed=seed), self.second.subset(n - of_first, seed=seed))


@dataclass(frozen=True, eq=False)
class JoinedBatches:
    """One pass over both parts."""

    first: Batches
    second: Batches
    seed: int | None
    least: int
    """Images of a batch that is worth yielding."""

    def __len__(self) -> int:
        """Return the number of batches, those that are left out included."""
        return len(self.first) + len(self.second)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images and labels as the parts do."""
        turns = torch.arange(len(self)) >= len(self.first)
        if self.seed is not None:
            turns = turns[torch.randperm(len(self), generator=torch.Generator().manual_seed(self.seed))]
        parts = iter(self.first), iter(self.second)
        for turn in turns.tolist():
            images, labels = next(parts[turn])
            if len(labels) >= self.least:
                yield images, labels
