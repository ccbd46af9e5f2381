"""Stored features of the full network, and the loss of any stage of any sub-network on them."""

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from widthwise.evaluate import Precision
from widthwise.evaluate.modes import autocast, evaluating
from widthwise.search import Widths
from widthwise.subnet import SuperNet
from widthwise.supernet.stagewise import Distillation

__all__ = ["StageLoss", "stored_features"]


@torch.no_grad()
def stored_features(
    model: nn.Module, distillation: Distillation, batches: Iterable[Tensor], precision: Precision = "fp32"
) -> list[tuple[list[Tensor], list[Tensor]]]:
    """For each batch what enters each stage of the full network, and what each stage is compared with.

    Args:
        model: the super-net; it runs in evaluation mode.
        distillation: knows the stages, and the teacher.
        batches: images [B, C, H, W] on the model's device.
        precision: of the pass.
    """
    stored = []
    with evaluating(model):
        for images in batches:
            with autocast(images.device, precision), distillation.stages.features(model) as found:
                outputs = model(images)
            features = [images, *found, outputs]
            count = len(distillation.stages)
            stored.append((features[:count], distillation.targets(features, images)))
    return stored


@dataclass(frozen=True, eq=False)
class StageLoss:
    """Scores a stage of a sub-network by equation 7 on stored features.

    Batch norms normalise with the statistics of the batch that they are given, as in the training of sub-networks (the
    stored batches are large): that is a recalibration for every sub-network, at no cost. Everything else is in
    evaluation mode.
    """

    network: SuperNet
    distillation: Distillation
    stored: list[tuple[list[Tensor], list[Tensor]]]
    precision: Precision = "fp32"

    @torch.no_grad()
    def __call__(self, stage: int, widths: Widths) -> float:
        """The mean loss of a stage over the stored images; the widths of other stages do not matter."""
        subnet = self.distillation.sampler.of(widths)
        total, images = 0.0, 0
        with ExitStack() as stack:
            stack.enter_context(evaluating(self.network.model))
            norms = [m for m in self.network.model.modules() if isinstance(m, _BatchNorm)]
            for norm in norms:
                norm.training = True  # `evaluating` puts it back
            for given, targets in self.stored:
                with autocast(given[stage].device, self.precision):
                    loss = self.distillation.loss(stage, self.network, given[stage], targets[stage], subnet)
                total += float(loss) * len(given[stage])
                images += len(given[stage])
        return total / images
