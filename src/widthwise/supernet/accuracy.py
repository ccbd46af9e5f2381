"""What the sub-networks of a super-net reach with the weights that it has for them."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean

from widthwise.channels import Subnet
from widthwise.errors import ConfigError
from widthwise.supernet.sampling import Sampler

__all__ = ["Expectation", "expected_accuracy"]


@dataclass(frozen=True, eq=False)
class Expectation:
    """E(a_super), and what it is the mean of."""

    subnets: tuple[Subnet, ...]
    accuracies: tuple[float, ...]
    """Of each, in [0, 1]."""

    @property
    def mean(self) -> float:
        """The expected accuracy of a random sub-network."""
        return fmean(self.accuracies)


def expected_accuracy(judge: Callable[[Subnet], float], sampler: Sampler, count: int, *, seed: int = 0) -> Expectation:
    """How well trained a super-net is: the accuracy that its random sub-networks reach with its weights.

    Stage-wise pruning, equation 2, as a mean (the formula there is a sum, without 1/n).

    Args:
        judge: the accuracy of a sub-network, such as :class:`~widthwise.methods.evaluators.AdaptiveBN`.
        sampler: draws sub-networks, every layer's width by itself.
        count: n, how many.
        seed: of the draws: with the same seed, super-nets of one space are judged by the same sub-networks.

    Raises:
        ConfigError: the count is below 1.
    """
    if count < 1:
        raise ConfigError(f"An expectation needs one sub-network or more, but got count={count}.")
    subnets = tuple(sampler.layerwise(seed + index) for index in range(count))
    return Expectation(subnets, tuple(judge(subnet) for subnet in subnets))
