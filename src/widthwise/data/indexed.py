"""What the splits have in common: a planned pass, and which of all examples are theirs."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, TypeVar

import torch
from jaxtyping import Int64
from torch import Tensor

from widthwise.data.order import EpochPlan, plan_epoch, stratified

__all__ = ["IndexedSplit", "Pass", "PlannedSplit"]

S = TypeVar("S", bound="IndexedSplit")
"""Not `typing.Self`, which shape checks in tests cannot read."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Pass:
    """One pass over a split; may be iterated again, with the same batches where it has a seed."""

    read: Callable[["Pass"], Iterator[tuple[Tensor, Tensor]]]
    """Yields its batches: images [B, C, H, W] and labels [B], on the device."""
    plan: EpochPlan
    seed: int | None
    augment: bool
    device: torch.device

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.read(self)


class PlannedSplit(ABC):
    """A split whose passes are planned by the number of its examples."""

    shuffles: ClassVar[bool] = True
    """Whether a seed decides the order."""

    @property
    @abstractmethod
    def labels(self) -> Int64[Tensor, " n"]:
        """The labels in order, int64 [n]."""

    @abstractmethod
    def read(self, epoch: Pass) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of a pass."""

    def __len__(self) -> int:
        return len(self.labels)

    def batches(
        self,
        batch_size: int,
        *,
        device: torch.device | str = "cpu",
        seed: int | None = None,
        augment: bool = False,
        shard: tuple[int, int] = (0, 1),
    ) -> Pass:
        """Plan one pass; see `Split.batches`."""
        plan = plan_epoch(len(self), batch_size, seed if self.shuffles else None, shard)
        return Pass(read=self.read, plan=plan, seed=seed, augment=augment, device=torch.device(device))


@dataclass(frozen=True, kw_only=True, eq=False)
class IndexedSplit(PlannedSplit):
    """A split over numbered examples. Selections share the examples."""

    indices: Int64[Tensor, " n"]
    """Which of the examples belong to this split."""

    def __len__(self) -> int:
        return len(self.indices)

    def select(self: S, indices: Int64[Tensor, " m"]) -> S:
        """Return the examples at these positions of this split."""
        return replace(self, indices=self.indices[indices])

    def subset(self: S, n: int, *, seed: int) -> S:
        """Return n examples, stratified, seeded, without replacement, in increasing order."""
        return self.select(stratified(self.labels, n, seed=seed))
