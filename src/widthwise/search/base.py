"""What every search is: something that is asked for strategies and told their scores."""

from typing import Protocol, runtime_checkable

from jaxtyping import Int64
from torch import Tensor

__all__ = ["Searcher", "Widths"]

Widths = Int64[Tensor, "groups"]
"""A strategy: how many channels each prunable group keeps."""


@runtime_checkable
class Searcher(Protocol):
    """Chooses strategies; knows no network. (Exploration and estimation chooses channels, not widths: its searcher has
    the same two methods for sub-networks, and a driver of its own.)

    A searcher is deterministic in its seed and in what it has been told, so replaying a journal of asks and tells
    brings it back to where it was.
    """

    def ask(self) -> Widths:
        """The next strategy to score; it lies in the space and meets the budget."""
        ...

    def tell(self, widths: Widths, score: float) -> None:
        """The score of a strategy that was asked for; higher is better."""
        ...
