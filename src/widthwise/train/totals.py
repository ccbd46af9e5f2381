"""An epoch's sums, kept on the device so that no step waits for them."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor

from widthwise.errors import ConfigError
from widthwise.train.objective import Outcome

__all__ = ["Means", "Totals"]

_NONE = 2**62  # no step is that late


class Means(NamedTuple):
    """Means over an epoch's images so far."""

    loss: float
    accuracy: float
    parts: dict[str, float]


class Totals:
    """Loss, its named parts and hits over the images so far, and the first step whose loss was not finite."""

    def __init__(self, device: torch.device) -> None:
        self._loss, self._correct, self._images = torch.zeros(3, device=device)
        self._parts: dict[str, Tensor] | None = None
        self._bad_step = torch.tensor(_NONE, device=device)
        self._bad_loss = torch.zeros((), device=device)

    def add(self, step: int, outcome: Outcome, labels: Tensor) -> None:
        """Counts one batch with labels ``[batch]``.

        Raises:
            ConfigError: its parts have other names than those before.
        """
        loss, logits = outcome.loss.detach(), outcome.logits
        self._loss += loss * len(labels)
        self._correct += (logits.argmax(1) == labels).sum()
        self._images += len(labels)
        self._add_parts(outcome.parts, len(labels))
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

    def _add_parts(self, parts: Mapping[str, Tensor], images: int) -> None:
        if self._parts is None:
            self._parts = {name: torch.zeros_like(self._loss) for name in parts}
        if self._parts.keys() != parts.keys():
            raise ConfigError(
                "an objective must name the same parts of its loss at every step, but got "
                f"{sorted(parts)} after {sorted(self._parts)}; give a part that is missing as 0"
            )
        for name, value in parts.items():
            self._parts[name] += value.detach() * images

    def means(self, accelerator: Accelerator | None = None) -> Means:
        """Of this process, or of all if `accelerator` is given."""
        parts = self._parts or {}
        sums = torch.stack([self._loss, self._correct, self._images, *parts.values()])
        if accelerator is not None and accelerator.num_processes > 1:
            sums = accelerator.reduce(sums, "sum")
        loss, correct, images, *rest = sums.tolist()
        return Means(loss / images, correct / images, {n: v / images for n, v in zip(parts, rest, strict=True)})
