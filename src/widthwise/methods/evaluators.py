"""Quick judgements of a sub-network before it is trained (FNNP, section 3 and figure 3)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from widthwise.channels import ChannelGraph, Subnet
from widthwise.data import Split
from widthwise.evaluate import Precision, accuracy, adaptive_bn
from widthwise.evaluate.devices import search_device
from widthwise.subnet import materialize
from widthwise.train import TrainConfig, fit

__all__ = [
    "AdaptiveBN",
    "Build",
    "Evaluator",
    "EvaluatorName",
    "GlobalBN",
    "ShortTraining",
    "calibration_batches",
    "inherited",
]

EvaluatorName = Literal["global_bn", "adaptive_bn", "short_training"]

Build = Callable[[Subnet], nn.Module]
"""Makes a sub-network as a module of its own, which is judged where it lies: its statistics and weights may change."""


@runtime_checkable
class Evaluator(Protocol):
    """Scores one sub-network; higher is better."""

    def __call__(self, subnet: Subnet) -> float:
        """The score."""
        ...


CALIBRATION_BATCH = 250
"""Images per calibration batch."""


def calibration_batches(images: Split, device: torch.device | str = "cpu") -> Iterator[Tensor]:
    """Images for batch-norm statistics, without a last batch of one: a norm over its single value has no variance."""
    return (batch for batch, _ in images.batches(CALIBRATION_BATCH, device=device) if len(batch) > 1)


def inherited(model: nn.Module, graph: ChannelGraph) -> Build:
    """Sub-networks with slices of a model's weights, on the :func:`search_device`."""

    def build(subnet: Subnet) -> nn.Module:
        return materialize(model, graph, subnet).to(search_device())

    return build


@dataclass(frozen=True)
class GlobalBN:
    """Accuracy with the batch-norm statistics of the full network (the paper's PBN)."""

    build: Build
    val: Split
    precision: Precision = "fp32"

    def __call__(self, subnet: Subnet) -> float:
        """Top-1 on the validation images, in [0, 1]."""
        return accuracy(self.build(subnet), self.val, precision=self.precision)


@dataclass(frozen=True)
class AdaptiveBN:
    """Accuracy with batch-norm statistics recomputed for the sub-network (the paper's ABN)."""

    build: Build
    calibration: Split
    """A few training images."""
    val: Split
    precision: Precision = "fp32"

    def __call__(self, subnet: Subnet) -> float:
        """Top-1 on the validation images, in [0, 1]."""
        small = self.build(subnet)
        adaptive_bn(small, self._batches, precision=self.precision)
        return accuracy(small, self.val, precision=self.precision)

    @cached_property
    def _batches(self) -> list[Tensor]:
        """The same images serve every candidate, so they are prepared once."""
        return list(calibration_batches(self.calibration, search_device()))


@dataclass(frozen=True)
class ShortTraining:
    """Accuracy after a short fine-tuning of the sub-network."""

    build: Build
    train: Split
    val: Split
    config: TrainConfig = field(default_factory=lambda: TrainConfig(epochs=1, lr=0.01))

    def __call__(self, subnet: Subnet) -> float:
        """Top-1 on the validation images, in [0, 1]."""
        small = self.build(subnet)
        fit(small, self.train, self.config)
        return accuracy(small, self.val, precision=self.config.precision)
