"""A linear model of the loss over the channels, to take noise out of the gradients (a control variate)."""

from dataclasses import replace

import torch
from jaxtyping import Float64
from torch import Tensor

from widthwise.exploration.samples import Samples, loss_gradient

__all__ = ["LinearSurrogate"]

Probabilities = Float64[Tensor, "channels"]

PACE = 0.5
"""How much of a sample's error the model takes over."""


class LinearSurrogate:
    """What each channel adds to the loss, learned from the samples of all steps.

    The gradient that a few samples give for one channel is noisy mostly because all others differ between them too.
    What the model explains of that is taken out of the losses, and put back as the model's own gradient, which is
    exact: the expectation stays the same, whatever the model says, as long as samples are weighed by their full ratios;
    flattened weights scale what is left of the losses. It is not in the paper.

    Args:
        channels: how many.
        pace: in [0, 1]; 0 learns nothing, which is the paper.
    """

    def __init__(self, channels: int, pace: float = PACE) -> None:
        self.slope = torch.zeros(channels, dtype=torch.float64)
        """float64 [channels]: the change of the loss with each channel."""
        self._pace = pace

    def gradient(
        self, samples: Samples, p: Probabilities, *, least_effective: float = 0.0, power: float | None = None
    ) -> Probabilities:
        """The gradient of the expected loss at p; see :func:`~widthwise.exploration.samples.loss_gradient`."""
        rest = loss_gradient(self.unexplained(samples), p, least_effective=least_effective, power=power)
        return self.slope + rest

    def unexplained(self, samples: Samples) -> Samples:
        """The samples with what the model does not explain of their losses, up to a constant, which has no gradient."""
        return replace(samples, losses=samples.losses - samples.keep.double() @ self.slope)

    def learn(self, samples: Samples) -> None:
        """One pass of normalised least mean squares over samples that saw the same images."""
        if not self._pace:
            return
        rows = samples.keep.double() - samples.keep.double().mean(0)
        losses = samples.losses - samples.losses.mean()
        for row, loss in zip(rows, losses, strict=True):
            error = loss - row @ self.slope
            self.slope += self._pace * error * row / row.square().sum().clamp(min=1e-12)
