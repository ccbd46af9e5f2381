"""Single-path training (Guo et al. 2019): a random sub-network per step, on the labels."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from widthwise.evaluate.modes import logits_of
from widthwise.subnet import SuperNet
from widthwise.supernet.sampling import Sampler
from widthwise.train.objective import Outcome, Step

__all__ = ["SinglePathObjective"]


class SinglePathObjective:
    """One random sub-network per step learns the labels, as an :class:`~widthwise.train.Objective`.

    Every layer's width is drawn by itself. No distillation, no full network, no stages: plain sharing of weights, the
    super-net of stage-wise pruning's figure 1.

    Args:
        network: the super-net.
        sampler: draws the sub-networks.
        label_smoothing: of the cross-entropy.
    """

    one_pass = False
    own: nn.Module | None = None
    frozen: tuple[nn.Module, ...] = ()

    def __init__(self, network: SuperNet, sampler: Sampler, *, label_smoothing: float = 0.0) -> None:
        self.network, self.sampler, self._smoothing = network, sampler, label_smoothing

    def describe(self) -> dict[str, Any]:
        """What decides the outcome beside the training's settings."""
        return {"objective": "single_path"}

    def step(self, step: Step) -> Outcome:
        """One sub-network."""
        subnet = self.sampler.layerwise(step.seed)
        with step.autocast():
            logits = logits_of(self.network.subnet(subnet)(step.images))
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        loss = F.cross_entropy(logits, step.labels, label_smoothing=self._smoothing)
        step.backward(loss)
        return Outcome(logits=logits.detach(), loss=loss.detach())
