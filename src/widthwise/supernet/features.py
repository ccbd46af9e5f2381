"""Stored features of the full network, and the loss of any stage of any sub-network on them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from widthwise.evaluate import Precision
from widthwise.evaluate.modes import autocast, evaluating, normalising_by_batch
from widthwise.search import Widths
from widthwise.supernet.stagewise import StagewiseObjective

__all__ = ["StageLoss", "StoredBatch", "stored_features"]


@dataclass(frozen=True, eq=False)
class StoredBatch:
    """What one batch of images gives, for every stage."""

    given: list[Tensor]
    """What enters each stage, [batch, ...]."""
    targets: list[Tensor]
    """What each stage's result is compared with, [batch, ...]."""


@torch.no_grad()
def stored_features(
    objective: StagewiseObjective, batches: Iterable[Tensor], precision: Precision = "fp32"
) -> list[StoredBatch]:
    """Run the full network, in evaluation mode, and keep what the stages are given and what they should return.

    Args:
        objective: knows the super-net, its stages, and the teacher.
        batches: images [B, C, H, W] on the super-net's device.
        precision: of the pass.
    """
    model, stored = objective.network.model, []
    with evaluating(model):
        for images in batches:
            with autocast(images.device, precision), objective.stages.features(model) as found:
                outputs = model(images)
            features = [images, *found, outputs]
            stored.append(StoredBatch(features[: len(objective.stages)], objective.targets(features, images)))
    return stored


@dataclass(frozen=True, eq=False)
class StageLoss:
    """Scores a stage of a sub-network by equation 7 on stored features.

    Batch norms normalise with the statistics of the batch that they are given, as in the training of sub-networks (the
    stored batches are large): that is a recalibration for every sub-network, at no cost. Everything else is in
    evaluation mode.
    """

    objective: StagewiseObjective
    stored: list[StoredBatch]
    precision: Precision = "fp32"

    def __call__(self, stage: int, widths: Widths) -> float:
        """The mean loss of a stage over the stored images; the widths of groups that it does not own do not matter."""
        return self._mean(stage, lambda batch: self.result(stage, batch.given[stage], widths))

    def chained(self, widths: Widths) -> float:
        """The loss of the last stage, where each stage is given what the one before returned, through its adapter.

        So it judges the whole network (ours): what a stage loses counts as far as the stages behind it cannot do
        without, which no sum of losses on whole features tells. docs/stagewise.md has both beside training.
        """
        stages = range(len(self.objective.stages))

        def through(batch: StoredBatch) -> Tensor:
            found = batch.given[0]
            for stage in stages:
                found = self.result(stage, found, widths)
            return found

        return self._mean(stages[-1], through)

    @torch.no_grad()
    def result(self, stage: int, given: Tensor, widths: Widths) -> Tensor:
        """What a stage returns for the features that it is given, with the target's number of channels."""
        with normalising_by_batch(self.objective.network.model), autocast(given.device, self.precision):
            return self.objective.stage(stage, given, self.objective.sampler.of(widths))

    @torch.no_grad()
    def _mean(self, stage: int, result: Callable[[StoredBatch], Tensor]) -> float:
        """What these results of a stage lose, over the stored images."""
        total, images = 0.0, 0
        for batch in self.stored:
            found = result(batch)
            total += float(self.objective.loss(stage, found, batch.targets[stage])) * len(found)
            images += len(found)
        return total / images
