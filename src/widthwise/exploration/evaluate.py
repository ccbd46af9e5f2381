"""The losses of sampled sub-networks on batches of images: what exploration and estimation spends its time on."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from widthwise.channels import ChannelGraph, Subnet
from widthwise.data import Split
from widthwise.evaluate import Precision
from widthwise.evaluate.modes import autocast, evaluating, logits_of, normalising_by_batch, placement
from widthwise.subnet import SuperNet

__all__ = ["Draw", "SampleLosses", "Statistics", "batches_per_epoch"]

Statistics = Literal["batch", "global"]
"""Which a batch norm normalises with: those of the batch, which recalibrates any sub-network, or the full network's."""

Draw = tuple[int, int, Bool[Tensor, "samples channels"]]
"""Number of the pass over the images, number of the batch in it, and sub-networks to run on that batch."""

Score = tuple[float, float]
"""Cross-entropy (not finite where the network is broken) and top-1 accuracy."""


def batches_per_epoch(split: Split, batch: int) -> int:
    """How many batches one pass has; a single image that is left over is no batch (batch norms need two)."""
    whole, ragged = divmod(len(split), batch)
    return whole + (ragged > 1)


@dataclass(frozen=True, eq=False)
class SampleLosses:
    """Makes what evaluates draws in one worker: the network on its device, and its place in the stream of images."""

    model: nn.Module
    """The full network; its weights stay as they are."""
    graph: ChannelGraph
    images: Split
    batch: int
    """Images of one batch, which all samples of a step see."""
    seed: int
    """Of the order of the images."""
    statistics: Statistics = "batch"
    precision: Precision = "fp32"
    device: torch.device | None = None
    """Where to run; where the network is if not given."""

    def __call__(self) -> Callable[[Draw], list[Score]]:
        """What gives the scores of the samples of a draw."""
        if self.device is not None:
            self.model.to(self.device)
        return _Evaluator(self)


class _Evaluator:
    """Runs sub-networks as slices of the network's own weights, on one batch after the other."""

    def __init__(self, task: SampleLosses) -> None:
        self._task, self._network = task, SuperNet(task.model, task.graph)
        self._epoch, self._place = -1, -1
        self._stream: Iterator[tuple[Tensor, Tensor]] = iter(())
        self._now: tuple[Tensor, Tensor] | None = None

    @torch.no_grad()
    def __call__(self, draw: Draw) -> list[Score]:
        epoch, index, keeps = draw
        images, labels = self._batch(epoch, index)
        mode = normalising_by_batch if self._task.statistics == "batch" else evaluating
        with mode(self._task.model):
            scores = [self._score(Subnet(keep), images, labels) for keep in keeps]
        losses, accuracies = torch.stack(scores).T.tolist()  # waits for the device once
        return list(zip(losses, accuracies, strict=True))

    def _score(self, subnet: Subnet, images: Tensor, labels: Tensor) -> Float[Tensor, "2"]:
        with autocast(images.device, self._task.precision):
            logits = logits_of(self._network.subnet(subnet)(images)).float()
        return torch.stack([F.cross_entropy(logits, labels), (logits.argmax(1) == labels).float().mean()])

    def _batch(self, epoch: int, index: int) -> tuple[Tensor, Tensor]:
        """Steps come in order, so that a pass over the images is read once."""
        if epoch != self._epoch or index < self._place:
            device, seed = placement(self._task.model)[0], (self._task.seed + epoch) % 2**31
            pass_ = self._task.images.batches(self._task.batch, device=device, seed=seed)
            self._epoch, self._place, self._stream = epoch, -1, iter(pass_)
        while self._place < index:
            self._now = next(self._stream)
            self._place += 1
        assert self._now is not None
        images, labels = self._now
        return images.to(placement(self._task.model)[1]), labels
