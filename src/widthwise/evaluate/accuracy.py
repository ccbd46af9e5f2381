"""Top-1 accuracy and mean loss of a classifier on a split."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from widthwise.data.splits import Split, check_labels
from widthwise.errors import ConfigError, EmptyData
from widthwise.evaluate.modes import Precision, autocast, evaluating, logits_of, placement

__all__ = ["Score", "accuracy", "score"]


@dataclass(frozen=True)
class Score:
    """How well a classifier does on a split."""

    accuracy: float
    """Top-1, in [0, 1]."""
    loss: float
    """Mean cross-entropy, in nats, without label smoothing."""
    images: int
    """Images measured."""


def accuracy(
    model: nn.Module,
    split: Split,
    *,
    batch_size: int = 500,
    precision: Precision = "fp32",
    channels_last: bool = False,
) -> float:
    """Top-1 accuracy of `model` on `split`, in [0, 1]. Arguments and errors as for `score`."""
    return score(model, split, batch_size=batch_size, precision=precision, channels_last=channels_last).accuracy


def score(
    model: nn.Module,
    split: Split,
    *,
    batch_size: int = 500,
    precision: Precision = "fp32",
    channels_last: bool = False,
) -> Score:
    """Accuracy and loss of `model` on `split`, in evaluation mode, where the model lies.

    The images come in order, without augmentation. Training flags are as before afterwards.

    Args:
        model: maps images ``[batch, C, H, W]`` to class scores ``[batch, classes]``.
        split: the images and labels.
        batch_size: images per forward pass; changes memory and speed, not the result (up to rounding).
        precision: mixed precision of the forward pass.
        channels_last: run the images in that memory format (faster on most hardware).

    Raises:
        EmptyData: the split has no image.
        LabelOutOfRange: a label is not below the number of the model's outputs.
        ConfigError: the batch size is not positive, or the model returns no class scores.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1, but got {batch_size}")
    if len(split) == 0:
        raise EmptyData("accuracy needs at least one image, but the split is empty")
    device, dtype = placement(model)
    correct = torch.zeros((), dtype=torch.int64, device=device)
    loss = torch.zeros((), dtype=torch.float32, device=device)
    checked = False
    with torch.no_grad(), evaluating(model):
        for images, labels in split.batches(batch_size, device=device):
            with autocast(device, precision):
                logits = logits_of(model(_prepare(images, dtype, channels_last))).float()
            if not checked:
                check_labels(split.labels, logits.shape[1], "the split")
                checked = True
            correct += (logits.argmax(1) == labels).sum()
            loss += F.cross_entropy(logits, labels, reduction="sum")
    return Score(int(correct) / len(split), float(loss) / len(split), len(split))


def _prepare(images: Tensor, dtype: torch.dtype, channels_last: bool) -> Tensor:
    images = images.to(dtype)
    return images.contiguous(memory_format=torch.channels_last) if channels_last else images
