"""What the loss of each stage is worth: how far the network's answer moves when a stage returns what it returns.

The losses of stages (equation 7) are squared distances of features, and those of one stage are larger than those of
another for the same harm. Their plain sum, which the paper minimises, so spends the budget where features are large.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from widthwise.search import Widths
from widthwise.supernet.features import StageLoss
from widthwise.supernet.stagewise import head_loss

__all__ = ["Harm", "harms", "worth"]

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
"""Shares of the full widths, about which the measured sub-networks lie."""

SPREAD = 0.3
"""Standard deviation of the logarithm of a layer's share."""


@dataclass(frozen=True)
class Harm:
    """One sub-network of one stage."""

    stage: int
    widths: tuple[int, ...]
    """Of the groups that the stage owns."""
    loss: float
    """Of the stage."""
    nats: float
    """KL divergence of the network's class scores from those of the full one, with this stage alone pruned."""


def harms(losses: StageLoss, seed: int) -> list[Harm]:
    """Measure sub-networks of every stage, from narrow to wide, each with the rest of the network whole.

    Args:
        losses: of the stages.
        seed: of the widths.
    """
    objective = losses.objective
    space, generator = objective.sampler.space, torch.Generator().manual_seed(seed)
    found = []
    for stage, own in enumerate(objective.stages.own):
        for share in SHARES:
            noise = torch.randn(len(space.choices), generator=generator, dtype=torch.float64)
            ratios = (share * (SPREAD * noise).exp()).clamp(max=1)
            widths = space.snap((ratios * space.full)[None])[0]
            loss, nats = _measured(losses, stage, widths)
            found.append(Harm(stage, tuple(widths[list(own)].tolist()), loss, nats))
    return found


@torch.no_grad()
def _measured(losses: StageLoss, stage: int, widths: Widths) -> tuple[float, float]:
    """Loss of a stage, and divergence of the outputs, on the first stored batch."""
    batch, objective = losses.stored[0], losses.objective
    result = losses.result(stage, batch.given[stage], widths)
    full = objective.outputs(batch.given[0])
    nats = head_loss(objective.outputs(batch.given[0], stage, result), full)
    return float(objective.loss(stage, result, batch.targets[stage])), float(nats)


def worth(measured: Sequence[Harm], stages: int) -> tuple[float, ...]:
    """Nats per unit of loss for each stage: the slope through the origin that fits best."""
    found = []
    for stage in range(stages):
        mine = [harm for harm in measured if harm.stage == stage]
        square = sum(harm.loss**2 for harm in mine)
        slope = sum(harm.loss * harm.nats for harm in mine) / square if square else 0.0
        found.append(slope if slope > 0 else 1.0)
    return tuple(found)
