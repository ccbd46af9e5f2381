"""What a worker of the search runs: losses of stages, and of whole chains of them, on features that it has stored."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from widthwise.evaluate.modes import placement
from widthwise.search import Widths
from widthwise.supernet.features import AdapterUse, Positions, StageLoss, stored_features
from widthwise.supernet.stagewise import StagewiseObjective

__all__ = ["FeatureLosses"]


@dataclass(frozen=True, eq=False)
class FeatureLosses:
    """Makes the evaluator of one worker: the super-net on its device, with features stored there."""

    objective: StagewiseObjective
    images: Tensor
    """[images, C, H, W]."""
    batch: int
    """Images per batch."""
    device: torch.device
    """Where to run."""
    adapters: AdapterUse = "refitted"
    positions: Positions = "mean"

    def __call__(self) -> Callable[[tuple[int | None, Widths]], float]:
        """What gives the loss of one (stage, widths), or of the whole chain where the stage is None."""
        loss = self.stored()

        def evaluate(task: tuple[int | None, Widths]) -> float:
            stage, widths = task
            return loss.chained(widths) if stage is None else loss(stage, widths)

        return evaluate

    def stored(self) -> StageLoss:
        """The losses themselves, with the features stored."""
        model = self.objective.network.model
        for module in (model, self.objective.own, *self.objective.frozen):
            module.to(self.device)
        batches = self.images.to(self.device, placement(model)[1]).split(self.batch)
        if len(batches) > 1 and len(batches[-1]) < len(batches[0]) // 2:  # too few for statistics
            batches = (*batches[:-2], torch.cat(batches[-2:]))
        stored = stored_features(self.objective, batches)
        return StageLoss(self.objective, stored, adapters=self.adapters, positions=self.positions)
