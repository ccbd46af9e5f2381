"""Images that live in memory, transformed in whole batches on the device."""

from collections.abc import Iterator
from dataclasses import dataclass

from jaxtyping import Int64, Shaped
from torch import Tensor

from widthwise.data.indexed import IndexedSplit, Pass
from widthwise.data.order import evenly, seeded
from widthwise.data.pixels import CropFlip, Normalisation, to_float
from widthwise.digest import digest

SAMPLED = 64
"""Images whose bytes make the fingerprint of a split."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MemorySplit(IndexedSplit):
    """A split over images in memory: uint8 is gathered and moved, the arithmetic happens on the device.

    The shares of several ranks add up to what one process sees.
    """

    images: Shaped[Tensor, "all c h w"]
    """uint8 (0..255) or float32 as the network wants it, up to normalisation."""
    all_labels: Int64[Tensor, " all"]
    """The label of each image."""
    normalise: Normalisation | None
    """Applied last; None leaves the images as they are (uint8 is scaled to [0, 1] all the same)."""
    augmentation: CropFlip | None
    """What `augment=True` does; None is nothing."""

    @property
    def labels(self) -> Int64[Tensor, " n"]:
        """The labels in order, int64 [n]."""
        return self.all_labels[self.indices]

    def fingerprint(self) -> str:
        """Of the labels, some of the images' bytes, normalisation and augmentation."""
        some = self.indices[evenly(len(self), SAMPLED)]
        return digest(self.labels, self.images[some], tuple(self.images.shape[1:]), self.normalise, self.augmentation)

    def read(self, epoch: Pass) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of a pass."""
        augmentation = self.augmentation if epoch.augment else None
        # Drawn for the whole epoch: a rank's augmentation does not depend on how many ranks there are.
        draws = None if augmentation is None else augmentation.draw(len(self), seeded(epoch.seed, stream=1))
        for slots in epoch.plan.slots():
            rows = self.indices[epoch.plan.order[slots]]
            images = self.images.index_select(0, rows).to(epoch.device)
            if augmentation is not None and draws is not None:
                images = augmentation.apply(images, draws[slots])
            yield to_float(images, self.normalise), self.all_labels[rows].to(epoch.device)
