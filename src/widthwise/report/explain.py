"""From a traced model to the facts about it: what can be pruned, what cannot, why, and what hangs on it."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from math import prod

import torch

from widthwise.channels import ChannelGraph, Group, Reason
from widthwise.cost import CostModel
from widthwise.report.facts import Amount, Explanation, Follower, LayerCost, PinnedFor, PinnedGroup, PrunableGroup

__all__ = ["explain"]


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
    return tuple(dict.fromkeys(m.module for m in group.members if m.role == role))


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
        somewhere = reason.module in modules and (reason.operation or reason.module)
        where = type(modules[reason.module]).__name__ if somewhere else ""
        kinds[_head(reason.what), reason.operation, where, reason.remedy].append((group, reason))
    found = [_pinned_for(kind, members, stake) for kind, members in kinds.items()]
    return tuple(sorted(found, key=lambda reason: -stake.share(reason.would_save)))


def _head(what: str) -> str:
    """A sentence without the details that follow in brackets (a message, a size, a pattern)."""
    return what.partition(" (")[0]


def _pinned_for(kind: _Kind, members: Sequence[tuple[Group, Reason]], stake: "_Stake") -> PinnedFor:
    _, operation, module_class, remedy = kind
    sentences = list(dict.fromkeys(reason.what for _, reason in members))
    return PinnedFor(
        what=sentences[0] + " and others like it" * (len(sentences) > 1),
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
        for name in sorted(gone.keys() & self._shapes.keys()):
            shape = self._shapes[name]
            left, size = prod(n - gone[name][dim] for dim, n in enumerate(shape)), prod(shape)
            params += size - left
            macs += self._macs.get(name, 0.0) * (size - left) / size
        return Amount(macs=round(macs), params=params)

    def share(self, amount: Amount) -> float:
        """How much that is of the network: of its multiply-adds or of its parameters, whichever is more."""
        return max(amount.macs / self._total.macs, amount.params / self._total.params)
