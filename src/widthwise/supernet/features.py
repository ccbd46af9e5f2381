"""Stored features of the full network, and the loss of any stage of any sub-network on them."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Literal

import torch
from torch import Tensor

from widthwise.evaluate import Precision
from widthwise.evaluate.modes import autocast, evaluating, normalising_by_batch
from widthwise.search import Widths
from widthwise.supernet.refit import fitted_part, refitted
from widthwise.supernet.stagewise import StagewiseObjective

__all__ = ["AdapterUse", "Positions", "StageLoss", "StoredBatch", "stored_features"]

AdapterUse = Literal["refitted", "learned"]
"""The adapter by which a stage is judged. ``refitted``: for each sub-network mended by ridge regression on one half of
the images, the other half is scored (ours). ``learned``: the one of the training, for all widths (the paper); all
images are scored."""

Positions = Literal["mean", "sum"]
"""What becomes of the positions of a feature map in the loss of a stage: their ``mean`` (ours: one scale for all
stages), or their ``sum``, as equation 7 has it, so that stages of larger maps weigh more. Channels are divided by in
both."""


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
    adapters: AdapterUse = "refitted"
    positions: Positions = "mean"

    def __call__(self, stage: int, widths: Widths) -> float:
        """The mean loss of a stage over the images; the widths of groups that it does not own do not matter."""
        return self._mean(stage, self.results(stage, [batch.given[stage] for batch in self.stored], widths))

    def chained(self, widths: Widths) -> float:
        """The loss of the last stage, where each stage is given what the one before returned, through its adapter.

        So it judges the whole network (ours): what a stage loses counts as far as the stages behind it cannot do
        without, which no sum of losses on whole features tells. docs/stagewise.md has both beside training.
        """
        found, last = [batch.given[0] for batch in self.stored], len(self.objective.stages) - 1
        for stage in range(last + 1):
            found = self.results(stage, found, widths)
        return self._mean(last, found)

    @torch.no_grad()
    def results(self, stage: int, given: list[Tensor], widths: Widths) -> list[Tensor]:
        """What a stage returns for the features that it is given, batch by batch, with the target's channels."""
        objective, subnet = self.objective, self.objective.sampler.of(widths)
        found, adapted = [], []
        with normalising_by_batch(objective.network.model), autocast(given[0].device, self.precision):
            for features in given:
                found.append(objective.stages.run(stage, objective.network, features, subnet))
                adapted.append(objective.own(stage, found[-1], subnet))
        site = objective.stages.stages[stage].leaves
        if site is None or self.adapters == "learned":
            return adapted
        return refitted(found, adapted, [batch.targets[stage] for batch in self.stored], site[0])

    @torch.no_grad()
    def _mean(self, stage: int, found: list[Tensor]) -> float:
        """What these results of a stage lose, over the images that no adapter was fitted to."""
        total, images = 0.0, 0
        for result, batch in zip(found, self.stored, strict=True):
            first = 0 if self.adapters == "learned" else fitted_part(len(result))
            loss = self.objective.loss(stage, result[first:], batch.targets[stage][first:])
            total += float(loss) * (len(result) - first)
            images += len(result) - first
        summed = self.positions == "sum"
        return total / images * (prod(self.objective.stages.stages[stage].resolution) if summed else 1)
