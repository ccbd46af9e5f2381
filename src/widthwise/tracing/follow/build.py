"""From what a flow collected to a channel graph."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor, nn

from widthwise.channels import Axis, ChannelGraph, Group, Layer, Member, Reason, Role, Site, Size
from widthwise.tracing.follow.flow import Flow
from widthwise.tracing.follow.found import Held
from widthwise.tracing.follow.labels import empty_vector
from widthwise.tracing.follow.reasons import (
    BOTH_AXES,
    FIXED,
    HOPELESS,
    INPUT,
    MIXED_AXES,
    SINGLE,
    UNUSED,
    WINDOW,
)

__all__ = ["Draft"]


_Signature = tuple[tuple[int, int], ...]
"""What a channel's component stands on: (axis number, how often) of each."""

_Entry = tuple[_Signature, Reason | None, list[int]]
"""A future group: signature, why it is pinned, its components."""


@dataclass(frozen=True)
class _Nodes:
    """Node numbers as arrays: which component and axis each belongs to (-1: of a fill). Index 0 is the fixed node."""

    component: NDArray[np.int64]
    axis: NDArray[np.int64]

    def any_in(self, nodes: Tensor, components: NDArray[np.int64]) -> bool:
        """Whether any of these nodes belongs to one of these components."""
        return bool(np.isin(self.component[nodes.numpy()], components).any())

    def ids(self, nodes: Tensor, channel: NDArray[np.int64]) -> Tensor:
        """int64, in the shape of the nodes: the channel of each, -1 for the fixed node and for what is pinned.

        Args:
            nodes: int64, any shape.
            channel: [components], the channel of each or -1.
        """
        found = nodes.numpy()
        return torch.from_numpy(np.where(found > 0, channel[self.component[found]], -1))


class Draft:
    """Components of nodes that go together, before and while some of them are pinned.

    Args:
        flow: what was collected.
        risked: paths of the modules whose output channels are offered although something pins them.
    """

    def __init__(self, flow: Flow, risked: Collection[str] = ()) -> None:
        self._flow = flow
        self._risked = risked
        self._nodes = self._number(flow)
        size = int(self._nodes.component.max(initial=0)) + 1
        self._reasons: list[Reason | None] = [None] * size
        self._roles = self._find_roles(flow)
        self._pin_first(flow)
        self._signatures = self._sign(flow, size)
        self._held = list(flow.sizes.found)

    @staticmethod
    def _number(flow: Flow) -> _Nodes:
        edges = torch.cat(flow.edges, 1).numpy() if flow.edges else np.zeros((2, 0), dtype=np.int64)
        ones = np.ones(edges.shape[1], dtype=np.int8)
        matrix = coo_matrix((ones, (edges[0], edges[1])), shape=(flow.num_nodes, flow.num_nodes))
        _, labels = connected_components(matrix, directed=False)
        axis = np.full(flow.num_nodes, -1, dtype=np.int64)
        start = 1
        for number, (_, _, size) in enumerate(flow.axes):
            axis[start : start + size] = number
            start += size
        return _Nodes(labels.astype(np.int64), axis)

    def _find_roles(self, flow: Flow) -> dict[int, Role]:
        """The role of each axis, by its number; the first of consumer, producer and norm wins."""
        used: dict[Role, set[int]] = {
            "norm": self._axes_with(flow.norms),
            "out": self._axes_with(flow.producers),
            "in": self._with_alike(flow, self._axes_with(flow.consumers)),
        }
        for axis in used["in"] & used["out"]:
            self._pin_nodes(np.flatnonzero(self._nodes.axis == axis), BOTH_AXES)
        return {axis: role for role, axes in used.items() for axis in axes}

    def _axes_with(self, vectors: Sequence[Tensor]) -> set[int]:
        """The numbers of the axes that any of these nodes stands on."""
        nodes = torch.cat([empty_vector(0), *vectors]).numpy()
        return set(np.unique(self._nodes.axis[nodes]).tolist()) - {-1}

    def _with_alike(self, flow: Flow, axes: set[int]) -> set[int]:
        """With the axes of weights that another is added to or joined with."""
        together = [self._axes_with(nodes) for nodes in flow.alike]
        size = -1
        while size != len(axes):
            size = len(axes)
            axes = axes.union(*(some for some in together if some & axes))
        return axes

    def _pin_nodes(self, nodes: NDArray[np.int64], reason: Reason) -> None:
        for component in np.unique(self._nodes.component[nodes]).tolist():
            if self._reasons[component] is None:
                self._reasons[component] = reason

    def _pin_first(self, flow: Flow) -> None:
        for vector in flow.windows:
            self._pin_nodes(vector.numpy(), WINDOW)
        self._unproved = self._at_risk(flow)
        for pin in flow.pins:
            if pin.reason.what in HOPELESS or not self._unproved:
                self._pin_nodes(pin.nodes.numpy(), pin.reason)
            else:
                nodes = pin.nodes.numpy()
                free = np.isin(self._nodes.component[nodes], list(self._unproved))
                self._pin_nodes(nodes[~free], pin.reason)
        self._pin_shared_axes(flow)
        made = torch.cat(flow.producers).unique().numpy() if flow.producers else np.zeros(0, dtype=np.int64)
        touched = np.zeros(flow.num_nodes, dtype=bool)
        for vector in [*flow.producers, *flow.consumers, *flow.norms, *(e.reshape(-1) for e in flow.edges)]:
            touched[vector.numpy()] = True
        for axis, (name, _, _) in enumerate(flow.axes):
            if flow.touched(name):  # as an index, perhaps, of which no rule says anything
                touched[self._nodes.axis == axis] = True
        has_filter = set(np.unique(self._nodes.component[made[made > 0]]).tolist())
        used = set(np.unique(self._nodes.component[touched]).tolist())
        for component, reason in enumerate(self._reasons):
            if component not in has_filter and (reason is None or reason.what == FIXED.what):
                self._reasons[component] = INPUT if component in used else UNUSED
        self._reasons[int(self._nodes.component[0])] = FIXED

    def _at_risk(self, flow: Flow) -> set[int]:
        """The components that risked modules make and that something pins, though not for good."""
        if not self._risked:
            return set()
        made = torch.cat(flow.producers).unique().numpy()
        names = [name.rpartition(".")[0] in self._risked for name, _, _ in flow.axes]
        made = made[(made > 0) & np.array([False, *names])[self._nodes.axis[made] + 1]]
        pinned = np.concatenate([p.nodes.numpy() for p in flow.pins if p.reason.what not in HOPELESS] or [made[:0]])
        component = self._nodes.component
        return set(np.intersect1d(component[made], component[pinned]).tolist())

    def _pin_shared_axes(self, flow: Flow) -> None:
        """Of two kinds of channels that share one axis of a product only one can go, or its cost is no product."""
        for operation in flow.arithmetic:
            for axis in operation.axes:
                rows = [row[row > 0] for row in axis.reshape(-1, axis.shape[-1]).numpy()] if axis.ndim > 1 else []
                free = [r for r in rows if any(self._reasons[c] is None for c in self._nodes.component[r].tolist())]
                for row in free[1:]:
                    self._pin_nodes(row, MIXED_AXES)

    def _sign(self, flow: Flow, size: int) -> list[_Signature]:
        """What tells groups apart: how often a component stands on each axis, of parameters and of arithmetic."""
        of_tensors = self._nodes.axis >= 0
        rows = [self._nodes.component[of_tensors]]
        columns = [self._nodes.axis[of_tensors]]
        extra = len(flow.axes)
        for operation in flow.arithmetic:
            for axis in operation.axes:
                nodes = axis.numpy()
                nodes = nodes[nodes > 0]
                rows.append(self._nodes.component[nodes])
                columns.append(np.full(len(nodes), extra))
                extra += 1
        row, column = np.concatenate(rows), np.concatenate(columns)
        table = csr_matrix((np.ones(len(row), dtype=np.int64), (row, column)), shape=(size, max(extra, 1)))
        table.sum_duplicates()
        table.sort_indices()
        bounds = table.indptr
        return [
            tuple(zip(table.indices[a:b].tolist(), table.data[a:b].tolist(), strict=True)) for a, b in pairwise(bounds)
        ]

    def pin(self, group: Group, reason: Reason) -> None:
        """Pin a group of an earlier :meth:`graph`."""
        self._pin_nodes(self._nodes_of(group), reason)

    def _components_of(self, group: Group) -> NDArray[np.int64]:
        """The components of a group."""
        return np.unique(self._nodes.component[self._nodes_of(group)])

    def _nodes_of(self, group: Group) -> NDArray[np.int64]:
        """The nodes of one member of a group of the last :meth:`graph`."""
        member = next(m for m in group.members if m.role == "out")
        axis = next(i for i, (n, d, _) in enumerate(self._flow.axes) if (n, d) == (member.tensor, member.dim))
        ids = self._last.axes[member.tensor, member.dim]
        inside = torch.isin(ids, group.ids).numpy()
        nodes: NDArray[np.int64] = np.flatnonzero(self._nodes.axis == axis)[inside]
        return nodes

    def sites(self, *, every: bool = False) -> dict[str, list[Site]]:
        """For each module (with tensors of its own, or every), by call, where the channels lie in what it returned."""
        owners = {name.rpartition(".")[0] for name in self._flow.tensors}
        found: dict[str, list[Site]] = defaultdict(list)
        for made in self._flow.made:
            if not every and made.module not in owners:
                continue
            found[made.module].append((made.dim, self._nodes.ids(made.nodes, self._channel)))
        return found

    def guess(self, group: Group) -> str:
        """What kind of guess a group rests on (attributes that seem to hold sizes, how an axis was split), or nothing.

        Groups of one kind mostly hold or fail together.
        """
        components = self._components_of(group)
        held = [self._kind(h) for h in self._following if self._nodes.any_in(h.nodes, components)]
        splits = [s for s in self._flow.splits if self._nodes.any_in(s.nodes, components)]
        told = [f"split {self._flow.followers[s.number]}" for s in splits if s.number in self._flow.followers]
        return " ".join(dict.fromkeys(held + told))

    def loosen(self, group: Group) -> bool:
        """Drop the guesses that attributes follow a group; returns whether there were any."""
        components = self._components_of(group)
        wrong = [h for h in self._following if not h.needed and self._nodes.any_in(h.nodes, components)]
        self._held = [held for held in self._held if not any(held is h for h in wrong)]
        return bool(wrong)

    def risk(self, group: Group) -> bool:
        """Offer a group unproved, if the caller asked for that; returns whether they did."""
        asked = any(m.role == "out" and m.module in self._risked for m in group.members)
        if asked:
            self._unproved |= set(self._components_of(group).tolist())
        return asked

    def guesses(self) -> dict[str, list[Held]]:
        """The attributes that follow channels of the last :meth:`graph` by guess, by their kind."""
        found: dict[str, list[Held]] = defaultdict(list)
        for held in self._following:
            if not held.needed:
                found[self._kind(held)].append(held)
        return dict(found)

    def without(self, kinds: Collection[str], graph: ChannelGraph) -> ChannelGraph:
        """The last graph, with attributes that follow by guesses of these kinds left alone."""
        held = [h for h in self._following if h.needed or self._kind(h) not in kinds]
        return replace(graph, sizes=self._sizes(held))

    def _kind(self, held: Held) -> str:
        return f"{type(self._last.model.get_submodule(held.module)).__name__}.{held.attribute}"

    def other_followers(self) -> dict[int, int]:
        """What to tell the next :class:`Flow` of splits whose nodes are all pinned.

        At first that attention heads stay whole, if what pins them is nothing final; where that does not help either,
        and there are more than two dimensions, that the first one follows the width.
        """
        final, told = HOPELESS | {FIXED.what}, self._flow.followers
        others: dict[int, int] = {}
        for split in self._flow.splits:
            components = np.unique(self._nodes.component[split.nodes[split.nodes > 0].numpy()]).tolist()
            reasons = [reason.what for c in components if (reason := self._reasons[c]) is not None]
            if not reasons or len(reasons) < len(components):
                continue
            if not told and final.isdisjoint(reasons):
                others[split.number] = -2
            elif split.parts > 2 and told.get(split.number) != 0:
                others[split.number] = 0
        return others

    def graph(self, model: nn.Module) -> ChannelGraph:
        """The graph of what is not pinned so far."""
        by_signature: dict[tuple[_Signature, Reason | None], list[int]] = defaultdict(list)
        _, first = np.unique(self._nodes.component, return_index=True)
        for component in np.argsort(first).tolist():  # in the order of the model's parameters
            reason = self._reasons[component]
            if component != self._nodes.component[0] and reason != WINDOW:
                by_signature[(self._signatures[component], reason)].append(component)
        prunable: list[_Entry] = []
        pinned: list[_Entry] = []
        for (signature, given), components in by_signature.items():
            reason = SINGLE if given is None and len(components) == 1 else given
            (prunable if reason is None else pinned).append((signature, reason, components))
        channel = np.full(len(self._reasons), -1, dtype=np.int64)
        names: dict[str, int] = {}
        groups: list[Group] = []
        count = 0
        for signature, reason, components in [*prunable, *pinned]:
            ids = np.arange(count, count + len(components)) if reason is None else np.zeros(0, dtype=np.int64)
            channel[components] = ids if reason is None else -1
            count += len(ids)
            group = self._group(signature, reason, len(components), torch.from_numpy(ids), names)
            groups.append(replace(group, proved=self._unproved.isdisjoint(components)))
        self._channel = channel
        axes, roles = self._axes(channel)
        layers = self._layers(channel, len(prunable), groups)
        self._following = self._followed()
        self._last = ChannelGraph(model, tuple(groups), axes, roles, layers, self._sizes(self._following))
        return self._last

    def _followed(self) -> list[Held]:
        """For each attribute the first positions that it might count and that may go."""
        first: dict[tuple[str, str, int | None], Held] = {}
        for held in self._held:
            if bool((self._nodes.ids(held.nodes, self._channel) >= 0).any()):
                first.setdefault((held.module, held.attribute, held.index), held)
        return list(first.values())

    def _sizes(self, held: Iterable[Held]) -> tuple[Size, ...]:
        return tuple(Size(h.module, h.attribute, h.index, self._nodes.ids(h.nodes, self._channel)) for h in held)

    def _group(
        self, signature: _Signature, reason: Reason | None, width: int, ids: Tensor, names: dict[str, int]
    ) -> Group:
        members = []
        for axis, per_channel in signature:
            if axis < len(self._flow.axes):
                tensor, dim, _ = self._flow.axes[axis]
                members.append(Member(tensor, dim, self._roles.get(axis, "with"), per_channel))
        maker = next((m for m in members if m.role == "out"), members[0])
        name = maker.module if maker.role == "out" else f"{maker.tensor}[{maker.dim}]"
        name = name or maker.tensor
        names[name] = names.get(name, 0) + 1
        name = name if names[name] == 1 else f"{name}#{names[name]}"
        return Group(name, width, ids, tuple(members), reason is not None, reason)

    def _axes(self, channel: NDArray[np.int64]) -> tuple[dict[Axis, Tensor], dict[Axis, Role]]:
        of_node = channel[self._nodes.component]
        axes = {
            (name, dim): torch.full((size,), -1)
            for name, tensor in self._flow.tensors.items()
            for dim, size in enumerate(tensor.shape)
        }
        roles: dict[Axis, Role] = {}
        start = 1
        for i, (name, dim, size) in enumerate(self._flow.axes):
            ids = torch.from_numpy(of_node[start : start + size].copy())
            start += size
            axes[name, dim] = ids
            if bool((ids >= 0).any()):
                roles[name, dim] = self._roles.get(i, "with")
        return axes, roles

    def _layers(self, channel: NDArray[np.int64], num_prunable: int, groups: list[Group]) -> tuple[Layer, ...]:
        group_of = np.repeat(np.arange(num_prunable), [g.width for g in groups[:num_prunable]])
        layers = []
        for operation in self._flow.arithmetic:
            fixed, counts = [], []
            for axis in operation.axes:
                ids = self._nodes.ids(axis, channel).numpy()
                ids = ids.reshape(-1, ids.shape[-1]).max(0)  # one layer at most is not pinned
                fixed.append(int((ids < 0).sum()))
                members = np.bincount(group_of[ids[ids >= 0]], minlength=num_prunable)
                counts.append([c // groups[g].width for g, c in enumerate(members.tolist())])
            table = torch.tensor(counts, dtype=torch.int64).reshape(len(counts), num_prunable)
            layers.append(Layer(operation.module, operation.constant, tuple(fixed), table))
        return tuple(layers)
