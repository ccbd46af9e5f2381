"""What the rest of the package sees of data: splits that yield batches, and the parts of a data set."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from widthwise.errors import ConfigError, LabelOutOfRange, UnreadableData


@runtime_checkable
class Batches(Protocol):
    """One pass over a split; may be iterated again and then yields the same."""

    def __len__(self) -> int:
        """Return the number of batches."""
        ...

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images, float32 [B, C, H, W], normalised, and labels, int64 [B], on the device."""
        ...


@runtime_checkable
class Split(Protocol):
    """A set of labelled images that can be iterated many times."""

    def __len__(self) -> int:
        """Return the number of examples."""
        ...

    @property
    def labels(self) -> Tensor:
        """The labels in order, int64 [n]."""
        ...

    def fingerprint(self) -> str:
        """Of the labels and, as far as is known without reading much, of the images and how they are prepared."""
        ...

    def batches(
        self,
        batch_size: int,
        *,
        device: torch.device | str = "cpu",
        seed: int | None = None,
        augment: bool = False,
        shard: tuple[int, int] = (0, 1),
    ) -> Batches:
        """Plan one pass.

        Args:
            batch_size: examples per batch, over all processes together.
            device: where the batches are wanted.
            seed: None is in order; a number gives an order (and augmentation) that depends on it alone.
            augment: random crops and flips; from torch's global generator where there is no seed.
            shard: (rank, world): this process's share of every batch. All ranks get equally many batches.
        """
        ...

    def subset(self, n: int, *, seed: int) -> "Split":
        """Return n examples, stratified, seeded, without replacement, in increasing order."""
        ...


@dataclass(frozen=True)
class ImageData:
    """A data set: what to train on, what to choose by, and what to report at the very end."""

    name: str
    """How the data is called in reports."""
    train: Split
    """To learn from."""
    val: Split
    """To choose by: ranking of candidates, early looks."""
    test: Split | None
    """For the final figures only; None where the source has no test part."""
    num_classes: int
    """Labels are 0..num_classes-1."""
    input_shape: tuple[int, int, int]
    """(channels, height, width) of one image as the network sees it."""
    class_names: tuple[str, ...]
    """The name of each class; its number as text where the source has no names."""
    mean: tuple[float, ...] = ()
    """Taken off each channel (of images in [0, 1]); empty where Widthwise does not normalise."""
    std: tuple[float, ...] = ()
    """Each channel is divided by it; empty where Widthwise does not normalise."""

    def example(self, batch: int = 1) -> Float32[Tensor, "batch c h w"]:
        """Return the first `batch` validation images, normalised (over and over where there are fewer)."""
        if batch < 1:
            raise ConfigError(f"an example has one image or more, but got batch={batch}")
        images, _ = next(iter(self.val.batches(min(batch, len(self.val)))))
        return images[torch.arange(batch) % len(images)]

    def check_classes(self, num_outputs: int) -> None:
        """Check that a network with `num_outputs` outputs has one for every label of every part.

        Raises:
            LabelOutOfRange: a label is `num_outputs` or above.
        """
        for part, split in (("train", self.train), ("val", self.val), ("test", self.test)):
            if split is not None:
                check_labels(split.labels, num_outputs, f"the {part} part of {self.name}")


def at_most(split: Split, count: int | None, seed: int) -> Split:
    """Return `count` examples of a split (see `Split.subset`); the split itself where it has no more, or for None."""
    return split if count is None or count >= len(split) else split.subset(count, seed=seed)


def check_labels(labels: Int64[Tensor, " n"], num_classes: int, where: str) -> None:
    """Check 0 <= label < num_classes; `where` names the labels in the message. Raises LabelOutOfRange."""
    wrong = ((labels < 0) | (labels >= num_classes)).nonzero().flatten()
    if len(wrong):
        first = int(wrong[0])
        raise LabelOutOfRange(
            f"labels must lie in 0..{num_classes - 1}, but {where} has label {int(labels[first])} at "
            "position "
            f"{first} ({len(wrong)} such labels, the largest is {int(labels.max())}); number the classes "
            "from 0, "
            f"or use a model with {int(labels.max()) + 1} outputs"
        )


def as_labels(values: Tensor | Sequence[object], where: str) -> Int64[Tensor, " n"]:
    """Return labels as an int64 tensor [n].

    Args:
        values: a tensor [n] of integers, or a sequence of ints or integer tensors of one element.
        where: names the labels in messages.

    Raises:
        UnreadableData: a label is not an integer (floats and one-hot rows included).
        LabelOutOfRange: a label is negative.
    """
    labels = values if isinstance(values, Tensor) else torch.tensor([_integer(v, where) for v in values])
    if labels.ndim != 1 or labels.is_floating_point() or labels.is_complex():
        raise UnreadableData(
            f"labels must be integers, one per image, but {where} has {labels.dtype} of shape "
            f"{tuple(labels.shape)}; pass class indices (for one-hot rows: `labels.argmax(1)`)"
        )
    labels = labels.to("cpu", torch.int64)
    if len(labels) and int(labels.min()) < 0:
        first = int(labels.argmin())
        raise LabelOutOfRange(
            f"labels must be 0 or above, but {where} has {int(labels[first])} at position {first}; "
            f"number the classes from 0 and leave out images without a label"
        )
    return labels


def _integer(value: object, where: str) -> int:
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, Integral):
        return int(value)
    raise UnreadableData(
        f"labels must be integers, one per image, but {where} has {value!r} of type {type(value).__name__}; "
        f"pass class indices"
    )


def numbered(count: int) -> tuple[str, ...]:
    """Return names for classes that have none: "0", "1", ..."""
    return tuple(str(number) for number in range(count))
