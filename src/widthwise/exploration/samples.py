"""Sampled sub-networks with their losses, and what they say of the gradient."""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from widthwise.exploration.distribution import log_likelihood, score, weigh

__all__ = ["Samples", "loss_gradient"]

Probabilities = Float64[Tensor, "channels"]


@dataclass(frozen=True, eq=False)
class Samples:
    """Sub-networks, the probabilities that each was drawn with, and their losses."""

    keep: Bool[Tensor, "samples channels"]
    drawn_from: Float64[Tensor, "samples channels"]
    losses: Float64[Tensor, "samples"]

    @cached_property
    def log_drawn(self) -> Float64[Tensor, "samples"]:
        """The logarithm of the probability that each was drawn with."""
        return log_likelihood(self.keep, self.drawn_from)

    @classmethod
    def joined(cls, parts: list["Samples"]) -> "Samples":
        """All of them."""
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in ("keep", "drawn_from", "losses")))


def loss_gradient(
    samples: Samples, p: Probabilities, *, least_effective: float = 0.0, power: float | None = None
) -> Probabilities:
    """The gradient of the expected loss, estimated from samples: nothing is differentiated through a draw.

    Of ``sum_s w_s L_s`` with self-normalised weights ``w`` it is ``sum_s w_s (L_s - mean) d log P_p(N_s) / dp``, times
    the power by which the weights are flattened; that power is left out, so that flat weights do not stop the search.
    """
    ratios = log_likelihood(samples.keep, p) - samples.log_drawn
    weights = weigh(ratios, least_effective, power).weights
    gains = weights * (samples.losses - (weights * samples.losses).sum())
    return gains @ score(samples.keep, p)
