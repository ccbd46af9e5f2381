"""From filter weights and thresholds to a sub-network (joint search-and-training, Algorithm 1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from widthwise.channels import Subnet
from widthwise.cost import Limits
from widthwise.errors import ConfigError
from widthwise.joint.weights import softmax_within
from widthwise.search import fill, uniform_widths
from widthwise.subnet import Space

__all__ = ["Draw", "MassSampler", "Rate", "check_below_one", "check_rate"]

Rate = float | Literal["budget"]
"""A share of every group to prune; ``budget`` is the one that just meets the budget."""

_HALVINGS = 50
"""Of the interval in which the exponent lies."""

_ROUNDING = 1e-9
"""By how much a sum of probabilities may miss a threshold that it reaches."""


@dataclass(frozen=True, eq=False)
class Draw:
    """One sub-network, and how it came about."""

    subnet: Subnet
    widths: Int64[Tensor, "groups"]
    exponent: float
    """What the thresholds were raised to so that the budget is met; 1 is the paper."""


def check_below_one(thresholds: Sequence[float]) -> None:
    """Under a budget thresholds must be. Raises ConfigError."""
    if max(thresholds) >= 1:
        raise ConfigError(
            f"Under a budget thresholds are below 1, because no power of 1 makes it smaller, but got {thresholds}."
        )


def check_rate(rate: Rate, *, under_budget: bool) -> None:
    """A number in [0, 1) without a budget, ``budget`` under one. Raises ConfigError."""
    if (rate == "budget") != under_budget or (rate != "budget" and not 0 <= rate < 1):
        raise ConfigError(
            "A fixed rate is a share to prune in [0, 1) where there is no budget, and 'budget' where there is one, but "
            f"got {rate} {'under a' if under_budget else 'without a'} budget."
        )


class MassSampler:
    """Keeps of each group the fewest channels whose probabilities together reach the group's threshold.

    Args:
        space: the allowed widths; a count in between is rounded up to the next one.
        noise: scale of the Gumbel noise; 0 is without. (The paper writes log(log(u)), which has no real value for u in
            (0, 1); -log(-log(u)) is what is meant.)
        by_noise: keep the channels with the highest noisy probabilities; by default, as in line 6, the noise decides on
            the number of channels only, and those with the largest weights stay.
        limits: a budget that every draw meets: the thresholds are all raised to one power, the smallest that does.
    """

    def __init__(
        self, space: Space, *, noise: float = 1.0, by_noise: bool = False, limits: Limits | None = None
    ) -> None:
        if noise < 0:
            raise ConfigError(f"The scale of the noise is 0 (none) or above, but got {noise}.")
        self._space, self._graph = space, space.graph
        self._noise, self._by_noise, self._limits = noise, by_noise, limits

    def draw(self, alpha: Float[Tensor, "channels"], thresholds: Float[Tensor, "groups"], seed: int) -> Draw:
        """One sub-network for these thresholds, each in (0, 1]; under a budget in (0, 1).

        What rounding widths leaves of a budget is given back.

        Raises:
            ConfigError: a threshold under a budget is 1 or above.
        """
        if self._limits is not None:
            check_below_one(thresholds.tolist())
        noisy = self.noisy(alpha, seed)
        masses = self._masses(noisy)
        exponent = self._exponent(masses, thresholds)
        widths = self._widths(masses, thresholds, exponent)
        if self._limits is not None:
            widths = fill(self._space, self._limits, widths)
        ranking = noisy if self._by_noise else alpha.detach()
        return Draw(self._graph.top(ranking, widths), widths, exponent)

    def fixed(self, alpha: Float[Tensor, "channels"], rate: Rate) -> Draw:
        """The same share of every group is pruned (the ablation of table 2); no noise, no thresholds.

        Args:
            alpha: the channels with the largest weights stay.
            rate: the share.

        Raises:
            ConfigError: see `check_rate`.
        """
        check_rate(rate, under_budget=self._limits is not None)
        if self._limits is not None:
            widths = uniform_widths(self._space, self._limits)
        else:
            widths = self._space.snap((self._space.full * (1 - float(rate)))[None])[0]
        return Draw(self._graph.top(alpha.detach(), widths), widths, 1.0)

    def noisy(self, alpha: Float[Tensor, "channels"], seed: int) -> Float[Tensor, "channels"]:
        """The probability of each channel within its group (lines 1 and 2), float64."""
        uniform = torch.rand(len(alpha), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        gumbel = -torch.log(-torch.log(uniform.clamp(1e-300, 1 - 1e-16)))
        scores = alpha.detach().cpu().double() + self._noise * gumbel
        return softmax_within(self._graph, scores)

    def _masses(self, shares: Float[Tensor, "channels"]) -> list[Float[Tensor, "width"]]:
        """For each group the probability of its 1, 2, ... likeliest channels together (line 5)."""
        return [shares[group.ids].sort(descending=True).values.cumsum(0) for group in self._graph.prunable]

    def _widths(self, masses: list[Tensor], thresholds: Tensor, exponent: float) -> Int64[Tensor, "groups"]:
        """Lines 4 to 7: the smallest counts that reach the thresholds, rounded up to allowed widths."""
        counts = []
        for mass, threshold, choices in zip(masses, thresholds.tolist(), self._space.choices, strict=True):
            wanted = threshold**exponent
            short = len(mass) - 1 if wanted >= 1 else int((mass < wanted - _ROUNDING).sum())
            counts.append(choices[int((choices < short + 1).sum())])
        return torch.stack(counts)

    def _exponent(self, masses: list[Tensor], thresholds: Tensor) -> float:
        """The smallest power of the thresholds that meets the budget; widths fall as it grows."""
        if self._limits is None:
            return 1.0
        limits = self._limits

        def meets(exponent: float) -> bool:
            return bool(limits.met(self._widths(masses, thresholds, exponent)[None])[0])

        low, high = 0.0, 1.0
        while not meets(high):
            low, high = high, 2 * high
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if meets(middle) else (middle, high)
        return high
