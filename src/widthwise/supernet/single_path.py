"""Training on one random sub-network per step, on the labels: single-path training, and MetaPruning's."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from widthwise.evaluate.modes import logits_of
from widthwise.subnet import SuperNet
from widthwise.supernet.meta import PruningNet
from widthwise.supernet.sampling import Sampler
from widthwise.train.objective import Outcome, Step

__all__ = ["SinglePathObjective"]


class SinglePathObjective:
    """One random sub-network per step learns the labels, as an :class:`~widthwise.train.Objective`.

    Every layer's width is drawn by itself. No distillation, no full network, no stages. On slices of the network's own
    weights this is plain sharing (Guo et al. 2019), the super-net of stage-wise pruning's figure 1; with a generator it
    is MetaPruning (Liu et al. 2019): the gradients reach the generator, and the network's own tensors that are not
    generated.

    Args:
        network: the super-net.
        sampler: draws the sub-networks.
        generator: makes the weights of each; slices of the network's own if not given.
        label_smoothing: of the cross-entropy.
    """

    one_pass = False
    frozen: tuple[nn.Module, ...] = ()

    def __init__(
        self,
        network: SuperNet,
        sampler: Sampler,
        generator: PruningNet | None = None,
        *,
        label_smoothing: float = 0.0,
    ) -> None:
        self.network, self.sampler, self.own, self._smoothing = network, sampler, generator, label_smoothing

    def describe(self) -> dict[str, Any]:
        """What decides the outcome beside the training's settings."""
        subnets = self.sampler.fingerprint
        if self.own is None:
            return {"objective": "single_path", "subnets": subnets}
        return {"objective": "meta", "hidden": self.own.hidden, "subnets": subnets}

    def step(self, step: Step) -> Outcome:
        """One sub-network."""
        subnet = self.sampler.layerwise(step.seed)
        with step.autocast():
            tensors = None if self.own is None else self.own(subnet)
            logits = logits_of(self.network.subnet(subnet, tensors=tensors)(step.images))
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        loss = F.cross_entropy(logits, step.labels, label_smoothing=self._smoothing)
        step.backward(loss)
        return Outcome(logits=logits.detach(), loss=loss.detach())
