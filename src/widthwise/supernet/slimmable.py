"""Universally slimmable training (Yu and Huang 2019): whole sub-networks learn the full network's outputs."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from widthwise.channels import Subnet
from widthwise.evaluate.modes import logits_of
from widthwise.subnet import SuperNet
from widthwise.supernet.sampling import Sampler
from widthwise.train.objective import Outcome, Step

__all__ = ["SlimmableObjective"]


class SlimmableObjective:
    """The sandwich rule with in-place distillation on the outputs, as an :class:`~widthwise.train.Objective`.

    A step: the full network on the labels; the smallest and some random sub-networks on the softmax of the full
    network's logits (section 3.3 and algorithm 1 there). No stages.

    Args:
        network: the super-net.
        sampler: draws the sub-networks.
        random: how many beside the smallest (the paper: 2; one costs as much as a step of stage-wise training).
        layerwise: draw every layer's width by itself; otherwise one share for all layers, as the paper does.
        label_smoothing: of the full network's cross-entropy.
    """

    one_pass = False
    own: nn.Module | None = None
    frozen: tuple[nn.Module, ...] = ()

    def __init__(
        self,
        network: SuperNet,
        sampler: Sampler,
        *,
        random: int = 1,
        layerwise: bool = False,
        label_smoothing: float = 0.0,
    ) -> None:
        self.network, self.sampler = network, sampler
        self._random, self._layerwise, self._smoothing = random, layerwise, label_smoothing

    def describe(self) -> dict[str, Any]:
        """What decides the outcome beside the training's settings."""
        settings = {"random": self._random, "layerwise": self._layerwise}
        return {"objective": "slimmable", **settings, "subnets": self.sampler.fingerprint}

    def subnets(self, seed: int) -> list[Subnet]:
        """The sub-networks of one step."""
        draw = self.sampler.layerwise if self._layerwise else self.sampler.uniform
        return [*(draw(seed + i) for i in range(self._random)), self.sampler.smallest]

    def step(self, step: Step) -> Outcome:
        """One step; ``parts`` holds the loss of the full network and the sum of the others."""
        logits = step.forward(step.images)
        task = F.cross_entropy(logits, step.labels, label_smoothing=self._smoothing)
        step.backward(task)
        target, losses = logits.detach().softmax(1), []
        for subnet in self.subnets(step.seed):
            with step.autocast():
                found = logits_of(self.network.subnet(subnet)(step.images))
            loss = F.cross_entropy(found.to(target.dtype), target)
            step.backward(loss)
            losses.append(loss.detach())
        parts = {"task": task.detach(), "distillation": torch.stack(losses).sum()}
        return Outcome(logits=logits.detach(), loss=torch.stack(list(parts.values())).sum(), parts=parts)
