"""Sub-networks as independent Bernoulli variables, one per channel (exploration and estimation, section 3.1).

Probabilities lie in [EDGE, 1 - EDGE]: at 0 and 1 nothing would be sampled any more, and nothing learned.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

__all__ = ["EDGE", "Weighted", "inside", "log_likelihood", "reflected", "score", "weigh"]

EDGE = 0.01
"""How far probabilities stay from 0 and 1."""

_HALVINGS = 40
"""Of the interval of the power by which weights are flattened."""


def inside(p: Float64[Tensor, "*channels"]) -> Float64[Tensor, "*channels"]:
    """Clamped to [EDGE, 1 - EDGE]."""
    return p.clamp(EDGE, 1 - EDGE)


def reflected(
    p: Float64[Tensor, "channels"], momentum: Float64[Tensor, "channels"]
) -> tuple[Float64[Tensor, "channels"], Float64[Tensor, "channels"]]:
    """A position that has left [EDGE, 1 - EDGE] is mirrored at the edge, and its momentum turns round.

    So the stationary distribution of the moves is the one of the energy, cut off at the edges.
    """
    below, above = p < EDGE, p > 1 - EDGE
    mirrored = torch.where(below, 2 * EDGE - p, torch.where(above, 2 * (1 - EDGE) - p, p))
    return inside(mirrored), torch.where(below | above, -momentum, momentum)


def log_likelihood(
    keep: Bool[Tensor, "samples channels"], p: Float64[Tensor, "*channels"]
) -> Float64[Tensor, "samples"]:
    """The logarithm of equation 13: of the probability of each sub-network.

    Args:
        keep: the sub-networks.
        p: one probability per channel, or one row of them per sub-network.
    """
    return torch.where(keep, p.log(), (-p).log1p()).sum(1)


def score(
    keep: Bool[Tensor, "samples channels"], p: Float64[Tensor, "channels"]
) -> Float64[Tensor, "samples channels"]:
    """The derivative of :func:`log_likelihood` with respect to p."""
    return (keep.double() - p) / (p * (1 - p))


@dataclass(frozen=True, eq=False)
class Weighted:
    """What each sample counts under some distribution."""

    weights: Float64[Tensor, "samples"]
    """They add up to 1."""
    power: float
    """What the likelihood ratios were raised to, in [0, 1]."""

    @property
    def effective(self) -> float:
        """The effective sample size (Kish): the number of samples where all count the same."""
        return float(1 / self.weights.square().sum())


def weigh(log_ratios: Float64[Tensor, "samples"], least_effective: float = 0.0, power: float | None = None) -> Weighted:
    """Self-normalised importance weights, computed in log space.

    The paper weighs a sample by P_p(N_s) itself. Of thousands of channels that is a product that underflows, and one
    sample would hold all of the weight, because likely sub-networks would count twice: they are drawn more often
    already. So samples count by the ratio of P_p(N_s) to the probability that they were drawn with; the sum then
    estimates the expectation that equation 2 is about. Where even the ratios differ too much they are flattened.

    Args:
        log_ratios: of the likelihoods under the distribution in question and the one that was drawn from.
        least_effective: share of the samples that must count; the ratios are raised to the largest power in [0, 1]
            that has this effective sample size.
        power: this power, whatever the effective sample size is.
    """

    def at(exponent: float) -> Weighted:
        return Weighted((exponent * log_ratios).softmax(0), exponent)

    if power is not None:
        return at(power)
    least = least_effective * len(log_ratios)
    if at(1.0).effective >= least:
        return at(1.0)
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if at(middle).effective >= least else (low, middle)
    return at(low)
