"""What the sub-networks of a super-net reach with the weights that it has for them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from statistics import fmean

from torch import Tensor, nn

from widthwise.channels import ChannelGraph, Subnet
from widthwise.data import Split
from widthwise.errors import ConfigError
from widthwise.evaluate import Precision, accuracy, adaptive_bn
from widthwise.subnet import materialize
from widthwise.supernet.meta import PruningNet
from widthwise.supernet.sampling import Sampler

__all__ = ["Expectation", "SubnetAccuracy", "expected_accuracy"]

BATCH = 250
"""Images per calibration batch."""


@dataclass(frozen=True, eq=False)
class SubnetAccuracy:
    """Scores a sub-network by its accuracy without any training of its own.

    A super-net's batch-norm statistics are those of no sub-network, so they are recomputed for each on training images
    (:func:`widthwise.adaptive_bn`).
    """

    build: Callable[[Subnet], nn.Module]
    """Makes the sub-network, as a module of its own; it is evaluated where it lies."""
    calibration: Split
    """A few training images."""
    val: Split
    """What accuracy is measured on."""
    precision: Precision = "fp32"
    """Of both passes."""

    @classmethod
    def inherited(
        cls, model: nn.Module, graph: ChannelGraph, calibration: Split, val: Split, precision: Precision = "fp32"
    ) -> "SubnetAccuracy":
        """With slices of a super-net's weights (slimmable, single-path and stage-wise training)."""
        return cls(partial(materialize, model, graph), calibration, val, precision)

    @classmethod
    def generated(
        cls, generator: PruningNet, model: nn.Module, calibration: Split, val: Split, precision: Precision = "fp32"
    ) -> "SubnetAccuracy":
        """With the weights that a MetaPruning network generates for it."""
        return cls(partial(generator.materialize, model), calibration, val, precision)

    def __call__(self, subnet: Subnet) -> float:
        """Top-1 on the validation images, in [0, 1]."""
        small = self.build(subnet)
        adaptive_bn(small, self._batches, precision=self.precision)
        return accuracy(small, self.val, precision=self.precision)

    @cached_property
    def _batches(self) -> list[Tensor]:
        """The same images serve every sub-network, so they are prepared once."""
        return [images for images, _ in self.calibration.batches(BATCH)]


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
        judge: the accuracy of a sub-network, such as :class:`SubnetAccuracy`.
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
