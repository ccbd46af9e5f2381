"""An epoch's sums, kept on the device so that no step waits for them."""

import torch
from accelerate import Accelerator
from torch import Tensor

__all__ = ["Totals"]

_NONE = 2**62  # no step is that late


class Totals:
    """Loss and hits over the images so far, and the first step whose loss was not finite."""

    def __init__(self, device: torch.device) -> None:
        self._loss, self._correct, self._images = torch.zeros(3, device=device)
        self._bad_step = torch.tensor(_NONE, device=device)
        self._bad_loss = torch.zeros((), device=device)

    def add(self, step: int, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Counts one batch: its mean loss (scalar), scores ``[batch, classes]`` and labels ``[batch]``."""
        self._loss += loss * len(labels)
        self._correct += (logits.argmax(1) == labels).sum()
        self._images += len(labels)
        is_first = ~loss.isfinite() & (self._bad_step == _NONE)
        self._bad_step.masked_fill_(is_first, step)
        self._bad_loss = torch.where(is_first, loss, self._bad_loss)

    def first_bad(self, accelerator: Accelerator) -> tuple[int, float] | None:
        """Step and loss of the first loss that was not finite, in any process; None if all were."""
        steps, losses = self._bad_step, self._bad_loss
        if accelerator.num_processes > 1:
            steps, losses = accelerator.gather(steps), accelerator.gather(losses)
        first = int(steps.min())
        return None if first == _NONE else (first, float(losses.flatten()[steps.flatten().argmin()]))

    def means(self, accelerator: Accelerator | None = None) -> tuple[float, float]:
        """Mean loss and accuracy over the images so far: of this process, or of all if `accelerator` is given."""
        sums = torch.stack([self._loss, self._correct, self._images])
        if accelerator is not None and accelerator.num_processes > 1:
            sums = accelerator.reduce(sums, "sum")
        loss, correct, images = sums.tolist()
        return loss / images, correct / images
