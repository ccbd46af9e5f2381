"""How much the outputs of a trained network hang on each channel: a score that layers can be compared by."""

from collections.abc import Iterable

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from widthwise.channels import ChannelGraph
from widthwise.errors import ConfigError
from widthwise.evaluate.modes import evaluating, logits_of, placement, random_state_kept
from widthwise.subnet import gated

__all__ = ["SENSITIVITY_BATCH", "sensitivity"]

SENSITIVITY_BATCH = 10
"""Images per batch. Each batch is one sample of every channel's score, so many small ones say more than few large."""


def sensitivity(
    model: nn.Module, graph: ChannelGraph, batches: Iterable[tuple[Tensor, Tensor]], *, seed: int = 0
) -> Float64[Tensor, "channels"]:
    """The mean squared derivative of an image's margin by each channel's gate (ours).

    The margin is the logit of the true class minus the mean of all; the gate multiplies the channel wherever it is
    read (:class:`widthwise.subnet.gated`) and is 1. Squared and summed, these derivatives are what a removal does to
    the outputs, as far as one derivative tells: the argument of Fisher pruning (Theis et al., "Faster gaze prediction
    with dense networks and Fisher pruning", 2018), which takes the loss in place of the margin. But a trained network
    has learned most images so well that their loss has no slope, and the few others would decide alone.

    Images of a batch share one derivative; their margins have random signs, so that the square of the sum is in the
    mean the sum of the squares.

    Args:
        model: the traced network, trained; it runs in evaluation mode, where it lies.
        graph: from :func:`widthwise.trace`.
        batches: images [B, ...] and labels [B]; of the training images.
        seed: of the signs.

    Returns:
        float64 [channels], on the CPU.

    Raises:
        ConfigError: there is no image, or the network's outputs have no derivative or are not finite.
    """
    device, dtype = placement(model)
    generator = torch.Generator().manual_seed(seed)
    total, count = torch.zeros(graph.num_channels, dtype=torch.float64, device="cpu"), 0
    gates = torch.ones(graph.num_channels, device=device, dtype=dtype, requires_grad=True)
    network = gated(model, graph, gates)
    with evaluating(model), random_state_kept(device), torch.enable_grad():
        for images, labels in batches:
            logits = logits_of(network(images.to(device, dtype))).float()
            if not logits.requires_grad:
                raise ConfigError(
                    "The sensitivity of channels is a derivative of the outputs, but this network's forward allows "
                    "none (torch.no_grad, inference_mode or detach in it). Let it, or do without: "
                    "FNNP(sensitivity_images=0), importance='l1'."
                )
            margins = logits.gather(1, labels.to(device)[:, None])[:, 0] - logits.mean(1)
            signs = torch.randint(2, (len(margins),), generator=generator).mul(2).sub(1).to(device)
            (slope,) = torch.autograd.grad((signs * margins).sum(), gates)
            total += slope.to("cpu", torch.float64).square()
            count += len(labels)
    if not count or not bool(total.isfinite().all()):
        raise ConfigError(
            "The sensitivity of channels is measured on images whose outputs are finite, but "
            + ("there was no image." if not count else f"those of this network are not, on {count} images.")
            + " Look at the data and the weights, or rank channels by importance='l1', which needs no images."
        )
    return total / count
