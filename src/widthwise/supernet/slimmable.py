"""Universally slimmable training (Yu and Huang 2019): whole sub-networks learn the full network's outputs."""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from widthwise.channels import Subnet
from widthwise.evaluate.modes import logits_of
from widthwise.subnet import SuperNet
from widthwise.supernet.sampling import Sampler

__all__ = ["Slimming"]


class Slimming:
    """The part of a step behind the full network's: the smallest and some random sub-networks, without stages.

    In-place distillation: each learns the softmax of the full network's logits of the same step (its equation 6, with
    the sandwich rule).

    Args:
        sampler: draws the sub-networks.
        random: how many beside the smallest (the paper: 2).
        layerwise: draw every layer's width by itself; otherwise one share for all layers, as the paper does.
    """

    def __init__(self, sampler: Sampler, *, random: int = 1, layerwise: bool = False) -> None:
        self.sampler, self._random, self._layerwise = sampler, random, layerwise

    def subnets(self, step: int) -> list[Subnet]:
        """The sub-networks of one step."""
        draw = self.sampler.layerwise if self._layerwise else self.sampler.uniform
        return [*(draw(step * self._random + i) for i in range(self._random)), self.sampler.smallest]

    def accumulate(
        self, network: SuperNet, images: Tensor, logits: Tensor, step: int, backward: Callable[[Tensor], None]
    ) -> list[Tensor]:
        """Gradients of all sub-networks of a step; returns the loss of each, detached.

        Args:
            network: the super-net, in training mode.
            images: of the batch.
            logits: of the full network, [batch, classes], detached.
            step: number of the step.
            backward: accumulates gradients.
        """
        target = logits.float().softmax(1)
        losses = []
        for subnet in self.subnets(step):
            loss = F.cross_entropy(logits_of(network.subnet(subnet)(images)).float(), target)
            backward(loss)
            losses.append(loss.detach())
        return losses
