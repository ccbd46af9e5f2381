"""What a method is given, and what it hands back."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import nn

from widthwise.channels import ChannelGraph, Subnet
from widthwise.cost import CostModel, Limits
from widthwise.data import ImageData
from widthwise.search import Log, SearchReporter, Trial
from widthwise.subnet import Space

__all__ = ["Found", "Method", "Task"]


@dataclass(frozen=True, eq=False)
class Task:
    """Everything that a search may look at. The test images are not for it."""

    model: nn.Module
    """The trained full network."""
    graph: ChannelGraph
    cost: CostModel
    space: Space
    limits: Limits
    data: ImageData
    """Searches use ``train`` and ``val`` only."""
    log: Log
    """Keeps every trial; a search that is resumed reads its own from it."""
    reporter: SearchReporter


@dataclass(frozen=True, eq=False)
class Found:
    """What a search found."""

    trials: list[Trial]
    """Every scored strategy, the best first."""
    finalists: list[Subnet]
    """The sub-networks worth training, the best first; each meets the budget."""


@runtime_checkable
class Method(Protocol):
    """A way to find sub-networks under a budget; its settings are a dataclass."""

    def search(self, task: Task) -> Found:
        """Look for the best sub-networks of the task's model under its limits."""
        ...
