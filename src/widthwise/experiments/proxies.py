"""Quick judgements of a sub-network, by the names that users give."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from torch import nn

from widthwise.channels import ChannelGraph, Subnet
from widthwise.cost import CostModel
from widthwise.data import ImageData, Split, at_most
from widthwise.evaluate import sensitivity
from widthwise.evaluate.sensitivity import SENSITIVITY_BATCH
from widthwise.methods.evaluators import AdaptiveBN, Evaluator, GlobalBN, ShortTraining, inherited
from widthwise.train import TrainConfig

__all__ = ["PROXIES", "Subject"]


@dataclass(frozen=True, eq=False)
class Subject:
    """A trained network, and what proxies look at."""

    model: nn.Module
    graph: ChannelGraph
    cost: CostModel
    images: ImageData
    calibration_images: int
    """Training images for batch-norm statistics, and for sensitivities."""
    validation_images: int | None
    """That judgements look at; all of them if not given."""
    short_training: TrainConfig
    """Of the proxy of that name."""
    seed: int
    """Of the choice of images, and of short trainings."""

    @property
    def calibration(self) -> Split:
        """Images for batch-norm statistics."""
        return at_most(self.images.train, self.calibration_images, self.seed)

    @property
    def validation(self) -> Split:
        """Images to judge by."""
        return at_most(self.images.val, self.validation_images, self.seed)


def _adaptive_bn(s: Subject) -> Evaluator:
    return AdaptiveBN(inherited(s.model, s.graph), s.calibration, s.validation)


def _short_training(s: Subject) -> Evaluator:
    config = replace(s.short_training, seed=s.seed)
    return ShortTraining(inherited(s.model, s.graph), s.images.train, s.validation, config)


def _sensitivity(s: Subject) -> Callable[[Subnet], float]:
    """Minus the scores of the channels that are gone: measured once, after which a judgement costs nothing."""
    scores = sensitivity(s.model, s.graph, s.calibration.batches(SENSITIVITY_BATCH), seed=s.seed)
    return lambda subnet: -float(scores[~subnet.keep.cpu()].sum())


PROXIES: Mapping[str, Callable[[Subject], Callable[[Subnet], float]]] = {
    "adaptive_bn": _adaptive_bn,
    "global_bn": lambda s: GlobalBN(inherited(s.model, s.graph), s.validation),
    "short_training": _short_training,
    "sensitivity": _sensitivity,
    "macs": lambda s: lambda subnet: float(s.cost.macs(subnet)),
    "params": lambda s: lambda subnet: float(s.cost.params(subnet)),
}
"""How a sub-network of a trained model may be judged, by name. The last two are what every judgement has to beat."""
