"""What following a forward pass finds, as plain records: the input of :mod:`widthwise.tracing.follow.build`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from widthwise.channels import Reason

__all__ = ["Arithmetic", "Call", "Held", "Made", "Pin", "Split"]


@dataclass(frozen=True)
class Pin:
    """Nodes that may not be removed, and why."""

    nodes: Tensor
    """int64 [n]."""
    reason: Reason


@dataclass(frozen=True)
class Arithmetic:
    """Multiply-adds of one operation: ``constant`` times the product of the kept positions of each axis."""

    module: str
    constant: int
    axes: tuple[Tensor, ...]
    """Each int64 [positions] or [layers, positions]: the nodes along one axis."""


@dataclass(frozen=True)
class Held:
    """An attribute of a module that holds how many of these positions there are."""

    module: str
    attribute: str
    index: int | None
    """Where in the attribute, if it is a tuple or list."""
    nodes: Tensor
    """int64 [n]: the attribute's value is n."""
    needed: bool
    """Whether the operation is known to need it; otherwise the equal number may be a coincidence."""


@dataclass(frozen=True)
class Made:
    """A tensor that a module returned, whose nodes lie along one axis."""

    module: str
    dim: int
    nodes: Tensor
    """int64 [size along dim]."""


@dataclass(frozen=True)
class Split:
    """An axis of nodes that a view split into pieces."""

    number: int
    """How many operations ran before it."""
    nodes: Tensor
    parts: int
    """How many dimensions it was split into."""


@dataclass(frozen=True)
class Call:
    """One executed operation: its arguments by schema name, and its result.

    For a module with a rule of its own: the arguments of its forward, and ``module``, the module itself.
    """

    name: str
    """Such as ``aten::convolution``, or the module's class."""
    arguments: Mapping[str, Any]
    out: Any

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    def operands(self) -> list[Tensor]:
        """Every tensor argument, in order."""
        return [t for t in tree_leaves(list(self.arguments.values())) if isinstance(t, Tensor)]

    def results(self) -> list[Tensor]:
        """Every tensor result."""
        return [t for t in tree_leaves(self.out) if isinstance(t, Tensor)]
