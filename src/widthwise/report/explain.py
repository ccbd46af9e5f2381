"""What a trace found out about a model, as plain data: what can be pruned, what cannot, why, and what one could do.

Computed here, drawn by :mod:`widthwise.report.tables`, written by ``widthwise trace --json``.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from math import prod
from typing import Any

import torch

from widthwise.channels import ChannelGraph, Group, Reason
from widthwise.cost import CostModel

__all__ = [
    "FORMAT",
    "Amount",
    "Explanation",
    "Follower",
    "LayerCost",
    "PinnedFor",
    "PinnedGroup",
    "PrunableGroup",
    "explain",
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
    """Those on which most hangs first; at the end those that nothing can be done about."""
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


def explain(graph: ChannelGraph, cost: CostModel) -> Explanation:
    """State what can be pruned in a model, what cannot, and why.

    Args:
        graph: a trace of the model.
        cost: the cost of that graph's sub-networks.
    """
    full = cost.full
    layers = _layers(graph, cost)
    sizes = {name: parameter.numel() for name, parameter in graph.model.named_parameters()}
    touched = {name for name, _ in graph.roles}
    narrowest = torch.ones(1, len(graph.prunable), dtype=torch.int64)
    return Explanation(
        macs=full["macs"],
        params=full["params"],
        channels=graph.num_channels,
        macs_share=sum(layer.macs for layer in layers if layer.groups) / max(1, sum(layer.macs for layer in layers)),
        params_share=sum(n for name, n in sizes.items() if name in touched) / max(1, sum(sizes.values())),
        smallest=Amount(macs=int(cost.macs(narrowest)[0]), params=int(cost.params(narrowest)[0])),
        prunable=_prunable(graph, cost),
        pinned=_pinned(graph, layers),
        layers=layers,
        followers=tuple(
            Follower(module=s.module, attribute=s.attribute, index=s.index, value=len(s.ids)) for s in graph.sizes
        ),
        notes=graph.notes,
    )


def _layers(graph: ChannelGraph, cost: CostModel) -> tuple[LayerCost, ...]:
    names = [group.name for group in graph.prunable]
    return tuple(
        LayerCost(
            module=module, macs=macs, groups=tuple(names[i] for i in layer.per_channel.any(0).nonzero()[:, 0].tolist())
        )
        for layer, (module, macs) in zip(graph.layers, cost.per_layer(graph.subnet()), strict=True)
    )


def _modules(group: Group, role: str) -> tuple[str, ...]:
    """Paths of the modules in whose tensors a group has this role."""
    return tuple(dict.fromkeys(m.tensor.rpartition(".")[0] for m in group.members if m.role == role))


def _prunable(graph: ChannelGraph, cost: CostModel) -> tuple[PrunableGroup, ...]:
    full, widths = cost.full, graph.full_widths.repeat(len(graph.prunable), 1).fill_diagonal_(1)
    return tuple(
        PrunableGroup(
            name=group.name,
            width=group.width,
            made_by=_modules(group, "out"),
            read_by=_modules(group, "in"),
            proved=group.proved,
            saves=Amount(macs=full["macs"] - macs, params=full["params"] - params),
        )
        for group, macs, params in zip(
            graph.prunable, cost.macs(widths).tolist(), cost.params(widths).tolist(), strict=True
        )
    )


_Kind = tuple[str, str, str, str]
"""What groups have in common that are told of together: what (without details), operation, module class, remedy."""


def _pinned(graph: ChannelGraph, layers: Sequence[LayerCost]) -> tuple[PinnedFor, ...]:
    stake = _Stake(graph, layers)
    kinds: dict[_Kind, list[tuple[Group, Reason]]] = defaultdict(list)
    modules = dict(graph.model.named_modules(remove_duplicate=False))
    for group in graph.pinned:
        reason = group.reason or Reason("is pinned")
        where = type(modules[reason.module]).__name__ if reason.operation and reason.module in modules else ""
        kinds[_head(reason.what), reason.operation, where, reason.remedy].append((group, reason))
    found = [_pinned_for(kind, members, stake) for kind, members in kinds.items()]
    return tuple(sorted(found, key=lambda reason: (not reason.remedy, -stake.share(reason.would_save))))


def _head(what: str) -> str:
    """A sentence without the details that follow in brackets (a message, a size, a pattern)."""
    return what.partition(" (")[0]


def _pinned_for(kind: _Kind, members: Sequence[tuple[Group, Reason]], stake: "_Stake") -> PinnedFor:
    head, operation, module_class, remedy = kind
    sentences = {reason.what for _, reason in members}
    return PinnedFor(
        what=head if len(sentences) > 1 else sentences.pop(),
        operation=operation,
        module_class=module_class,
        remedy=remedy,
        channels=sum(group.width for group, _ in members),
        groups=tuple(
            PinnedGroup(
                name=group.name,
                width=group.width,
                made_by=_modules(group, "out"),
                read_by=_modules(group, "in"),
                what=reason.what,
                module=reason.module,
                would_save=stake.of([group]),
            )
            for group, reason in members
        ),
        would_save=stake.of([group for group, _ in members]),
    )


class _Stake:
    """What hangs on groups that the cost model does not know, because they are pinned."""

    def __init__(self, graph: ChannelGraph, layers: Sequence[LayerCost]) -> None:
        self._shapes = {name: tuple(parameter.shape) for name, parameter in graph.model.named_parameters()}
        weights = {m.tensor for group in graph.groups for m in group.members if m.role in ("in", "out")}
        self._macs = self._shared_out(sorted(weights & self._shapes.keys()), layers)
        self._total = Amount(
            macs=max(1, sum(layer.macs for layer in layers)),
            params=max(1, sum(prod(shape) for shape in self._shapes.values())),
        )

    def _shared_out(self, weights: Sequence[str], layers: Sequence[LayerCost]) -> dict[str, float]:
        """Multiply-adds of each weight: those of its module, or of the nearest one around it that computes anything."""
        per_module: dict[str, int] = defaultdict(int)
        for layer in layers:
            per_module[layer.module] += layer.macs
        users: dict[str, list[str]] = defaultdict(list)
        for name in weights:
            path = name.rpartition(".")[0]
            while path and path not in per_module:
                path = path.rpartition(".")[0]
            users[path].append(name)
        size = {name: prod(self._shapes[name]) for name in weights}
        return {
            name: per_module[path] * size[name] / max(1, sum(size[other] for other in names))
            for path, names in users.items()
            for name in names
        }

    def of(self, groups: Iterable[Group]) -> Amount:
        """What would go if each of these groups had one channel and all else stayed whole."""
        gone: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        for group in groups:
            for member in group.members:
                gone[member.tensor][member.dim] += (group.width - 1) * member.per_channel
        macs, params = 0.0, 0
        for name in gone.keys() & self._shapes.keys():
            shape = self._shapes[name]
            left, size = prod(n - gone[name][dim] for dim, n in enumerate(shape)), prod(shape)
            params += size - left
            macs += self._macs.get(name, 0.0) * (size - left) / size
        return Amount(macs=round(macs), params=params)

    def share(self, amount: Amount) -> float:
        """How much that is of the network: of its multiply-adds or of its parameters, whichever is more."""
        return max(amount.macs / self._total.macs, amount.params / self._total.params)
