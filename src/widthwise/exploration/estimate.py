"""Estimation: the distribution that the samples speak for, near the last one (section 3.3, equation 14)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from widthwise.exploration.distribution import inside, log_likelihood, weigh
from widthwise.exploration.samples import Samples, loss_gradient
from widthwise.exploration.surrogate import LinearSurrogate

__all__ = ["Estimator", "Evidence", "along", "divergence", "objective", "objective_gradient"]

Probabilities = Float64[Tensor, "channels"]


def divergence(p: Probabilities, q: Probabilities) -> Float64[Tensor, ""]:
    """The KL divergence of the distribution of sub-networks with p from the one with q, in nats."""
    return (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).sum()


def objective(
    p: Probabilities, before: Probabilities, samples: Samples, *, proximity: float = 1.0, power: float = 1.0
) -> Float64[Tensor, ""]:
    """Equation 14: the divergence from the last distribution, and the weighted mean of the losses over the power."""
    ratios = log_likelihood(samples.keep, p) - samples.log_drawn
    weights = weigh(ratios, power=power).weights
    return proximity * divergence(p, before) + (weights * samples.losses).sum() / power


def objective_gradient(
    p: Probabilities, before: Probabilities, samples: Samples, *, proximity: float = 1.0, power: float = 1.0
) -> Probabilities:
    """The gradient of :func:`objective` with respect to p."""
    return proximity * (torch.logit(p) - torch.logit(before)) + loss_gradient(samples, p, power=power)


@dataclass(frozen=True)
class Evidence:
    """How much samples say of a distribution that others were drawn from."""

    effective: float
    """Effective sample size of the likelihood ratios as they are."""
    power: float
    """What they are raised to so that enough samples count."""


class Estimator:
    """Adam on equation 14, whose moments last from step to step.

    Args:
        surrogate: takes noise out of the gradients; learns from the samples afterwards.
        lr: learning rate, in units of probability.
        steps: of Adam on the samples of one step.
        proximity: what the divergence counts.
        least_effective: see :func:`~widthwise.exploration.distribution.weigh`.
    """

    def __init__(
        self, surrogate: LinearSurrogate, *, lr: float, steps: int, proximity: float = 1.0, least_effective: float = 0.5
    ) -> None:
        self._surrogate = surrogate
        self._p = torch.zeros_like(surrogate.slope)
        self._adam = torch.optim.Adam([self._p], lr=lr)
        self._steps, self._proximity, self._least = steps, proximity, least_effective

    def step(self, before: Probabilities, samples: Samples, prices: Probabilities) -> tuple[Probabilities, Evidence]:
        """The next distribution, and how much the samples say of it.

        Args:
            before: the last one.
            samples: drawn near it.
            prices: what each channel costs.
        """
        self._p.copy_(before)
        ratios = log_likelihood(samples.keep, before) - samples.log_drawn
        weighted = weigh(ratios, self._least)
        rest, slope = self._surrogate.unexplained(samples), self._surrogate.slope
        for _ in range(self._steps):
            of_rest = objective_gradient(self._p, before, rest, proximity=self._proximity, power=weighted.power)
            self._p.grad = along(slope + of_rest, prices, self._p)
            self._adam.step()
            self._p.copy_(inside(self._p))
        self._surrogate.learn(samples)
        return self._p.clone(), Evidence(weigh(ratios).effective, weighted.power)


def along(gradient: Probabilities, prices: Probabilities, p: Probabilities) -> Probabilities:
    """The part of a gradient that leaves the expected cost as it is: with the price of the budget taken off (KKT).

    Nearly every channel lowers the loss, so without it all probabilities would rise at Adam's pace, the useless ones
    as fast as the useful, and the budget would push them all down again. The price of a unit of cost is what the
    undecided channels yield for it on average.
    """
    free = p * (1 - p)
    price = (-(free * gradient * prices).sum() / (free * prices.square()).sum().clamp(min=1e-30)).clamp(min=0)
    return gradient + price * prices
