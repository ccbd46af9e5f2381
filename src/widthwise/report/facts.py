"""What there is to say of a traced model, as plain data: drawn by :mod:`widthwise.report.tables`, written as JSON."""

from dataclasses import dataclass, fields, is_dataclass
from typing import Any

__all__ = [
    "FORMAT",
    "Amount",
    "Explanation",
    "Follower",
    "LayerCost",
    "PinnedFor",
    "PinnedGroup",
    "PrunableGroup",
]

FORMAT = 1
"""Version of :meth:`Explanation.to_dict`; it grows when a key goes or changes its meaning, not when one is added."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Amount:
    """A part of a network's cost."""

    macs: int
    """Multiply-adds of one forward pass on the example."""
    params: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PrunableGroup:
    """Channels that may be removed one by one."""

    name: str
    width: int
    made_by: tuple[str, ...]
    """Paths of the modules whose filters make the channels."""
    read_by: tuple[str, ...]
    """Paths of the modules whose weights consume them."""
    proved: bool
    """False if the caller asked for the group in spite of a reason to pin it."""
    saves: Amount
    """What goes when one channel of the group is left and every other group stays whole. Exact."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PinnedGroup:
    """Channels that stay, one of those that are pinned for one reason."""

    name: str
    width: int
    made_by: tuple[str, ...]
    read_by: tuple[str, ...]
    what: str
    """What happens to the channels, going on from the name: ``"is cut at a fixed position"``."""
    module: str
    """Path of the module in which it happens; empty for the root, and where none is to blame."""
    would_save: Amount
    """What would go if one channel could be left and all else stayed whole; see :attr:`PinnedFor.would_save`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PinnedFor:
    """Groups that are pinned for the same reason, by the same operation, in modules of the same class."""

    what: str
    """What happens to each; without the details in brackets where they differ from group to group."""
    operation: str
    """The ATen operation, such as ``aten::native_layer_norm``; empty where none is to blame."""
    module_class: str
    """Class of the modules in which it happens; empty where none is to blame."""
    remedy: str
    """What one could do about it; empty where nothing can or should be done."""
    channels: int
    """Sum of the groups' widths."""
    groups: tuple[PinnedGroup, ...]
    would_save: Amount
    """What would go if each of these groups had one channel and all else stayed whole.

    Parameters are exact. Multiply-adds are those of the modules whose weights the groups run through, shared out by
    size where one module computes with several weights; products of activations between modules are left out.
    """


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerCost:
    """One operation that costs multiply-adds, in the order of the forward pass."""

    module: str
    macs: int
    groups: tuple[str, ...]
    """Names of the prunable groups that it gets cheaper with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Follower:
    """An attribute of a module that is set to what is left of a group (the number of attention heads)."""

    module: str
    attribute: str
    index: int | None
    """Where in the attribute, if it is a tuple or list."""
    value: int
    """What it is in the full model."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """Everything that ``widthwise trace`` says of a model."""

    macs: int
    """Multiply-adds of one forward pass of the full model on the example inputs."""
    params: int
    """Parameters of the full model."""
    channels: int
    """Prunable channels."""
    macs_share: float
    """0 to 1: share of the multiply-adds in operations that at least one prunable group makes cheaper."""
    params_share: float
    """0 to 1: share of the parameters in tensors with at least one prunable axis."""
    smallest: Amount
    """Cost with a single channel left in every prunable group."""
    prunable: tuple[PrunableGroup, ...]
    """In the order of the channels' numbers."""
    pinned: tuple[PinnedFor, ...]
    """Those on which most hangs first, of the multiply-adds or of the parameters."""
    layers: tuple[LayerCost, ...]
    followers: tuple[Follower, ...]
    notes: tuple[str, ...]
    """What the trace could not look at, in words."""

    def to_dict(self) -> dict[str, Any]:
        """The same as dictionaries, lists, strings and numbers: ``"format"``, and each field under its name."""
        return {"format": FORMAT, **_plain(self)}


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
