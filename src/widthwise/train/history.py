"""What a training did, epoch by epoch."""

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["EpochRecord", "History"]


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochRecord:
    """One epoch (the last one may be cut short by `max_steps`)."""

    epoch: int
    """Counted from 1."""
    steps: int
    """Optimiser steps from the start of the training to the end of this epoch."""
    lr: float
    """Learning rate of the epoch's last step."""
    train_loss: float
    """Mean over the epoch's images of the loss that was minimised (with smoothing and distillation)."""
    train_accuracy: float
    """Top-1 on the images as they came (augmented, while the weights moved), in [0, 1]."""
    val_accuracy: float | None
    """Top-1 on the validation split after the epoch, in [0, 1]; None without one."""
    seconds: float
    """Wall time, validation included."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """What an objective names of its loss, mean over the epoch's images."""


@dataclass(frozen=True, slots=True)
class History:
    """All epochs of a training, also those of the process that it was resumed from."""

    epochs: tuple[EpochRecord, ...]

    @property
    def steps(self) -> int:
        """Optimiser steps taken in all."""
        return self.epochs[-1].steps if self.epochs else 0

    @property
    def val_accuracy(self) -> float | None:
        """Validation accuracy after the last epoch; None without epochs or validation split."""
        return self.epochs[-1].val_accuracy if self.epochs else None
