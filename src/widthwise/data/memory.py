"""Images that live in memory, transformed in whole batches on the device."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from widthwise.data.order import EpochPlan, plan_epoch, seeded, stratified
from widthwise.data.pixels import CropFlip, Normalisation, to_float
from widthwise.digest import digest

SAMPLED = 64
"""Images whose bytes make the fingerprint of a split."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class MemorySplit:
    """A split over images in memory. Selections share the pixels."""

    images: Shaped[Tensor, "all c h w"]
    """uint8 (0..255) or float32 as the network wants it, up to normalisation."""
    all_labels: Int64[Tensor, " all"]
    """The label of each image."""
    indices: Int64[Tensor, " n"]
    """Which of the images belong to this split."""
    normalise: Normalisation | None
    """Applied last; None leaves the images as they are (uint8 is scaled to [0, 1] all the same)."""
    augmentation: CropFlip | None
    """What `augment=True` does; None is nothing."""

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def labels(self) -> Int64[Tensor, " n"]:
        """The labels in order, int64 [n]."""
        return self.all_labels[self.indices]

    @property
    def fingerprint(self) -> str:
        """Of the labels, some of the images' bytes, normalisation and augmentation."""
        some = self.indices[torch.linspace(0, len(self) - 1, min(len(self), SAMPLED)).long()]
        return digest(self.labels, self.images[some], tuple(self.images.shape[1:]), self.normalise, self.augmentation)

    def batches(
        self,
        batch_size: int,
        *,
        device: torch.device | str = "cpu",
        seed: int | None = None,
        augment: bool = False,
        shard: tuple[int, int] = (0, 1),
    ) -> "MemoryBatches":
        """Plan one pass; see `Split.batches`. The ranks' shares add up to what one process sees."""
        plan = plan_epoch(len(self), batch_size, seed, shard)
        return MemoryBatches(split=self, plan=plan, seed=seed, augment=augment, device=torch.device(device))

    def select(self, indices: Int64[Tensor, " m"]) -> "MemorySplit":
        """Return the examples at these positions of this split."""
        return replace(self, indices=self.indices[indices])

    def subset(self, n: int, *, seed: int) -> "MemorySplit":
        """Return n examples, stratified, seeded, without replacement, in increasing order."""
        return self.select(stratified(self.labels, n, seed=seed))


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class MemoryBatches:
    """One pass over a MemorySplit: uint8 is gathered and moved, the arithmetic happens on the device."""

    split: MemorySplit
    plan: EpochPlan
    seed: int | None
    augment: bool
    device: torch.device

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        split = self.split
        augmentation = split.augmentation if self.augment else None
        # Drawn for the whole epoch: a rank's augmentation does not depend on how many ranks there are.
        draws = None if augmentation is None else augmentation.draw(len(split), seeded(self.seed, stream=1))
        for slots in self.plan.slots():
            rows = split.indices[self.plan.order[slots]]
            images = split.images.index_select(0, rows).to(self.device)
            if augmentation is not None and draws is not None:
                images = augmentation.apply(images, draws[slots])
            yield to_float(images, split.normalise), split.all_labels[rows].to(self.device)
