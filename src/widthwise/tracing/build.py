"""From what a flow collected to a channel graph."""

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor, nn

from widthwise.channels import Axis, ChannelGraph, Group, Layer, Member, Reason, Role
from widthwise.tracing.flow import Flow
from widthwise.tracing.reasons import BOTH_AXES, FIXED, INPUT, SINGLE, UNUSED, WINDOW

__all__ = ["Draft"]


_Signature = tuple[tuple[int, int], ...]
"""What a channel's component stands on: (axis number, how often) of each."""

_Entry = tuple[_Signature, Reason | None, list[int]]
"""A future group: signature, why it is pinned, its components."""


@dataclass(frozen=True)
class _Nodes:
    """Node numbers as arrays: which component, axis and position each belongs to. Index 0 is the fixed node."""

    component: NDArray[np.int64]
    axis: NDArray[np.int64]
    position: NDArray[np.int64]


class Draft:
    """Components of nodes that go together, before and while some of them are pinned."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._nodes = self._number(flow)
        size = int(self._nodes.component.max(initial=0)) + 1
        self._reasons: list[Reason | None] = [None] * size
        self._roles = self._find_roles(flow)
        self._pin_first(flow)
        self._signatures = self._sign(flow, size)

    @staticmethod
    def _number(flow: Flow) -> _Nodes:
        edges = torch.cat(flow.edges, 1).numpy() if flow.edges else np.zeros((2, 0), dtype=np.int64)
        ones = np.ones(edges.shape[1], dtype=np.int8)
        matrix = coo_matrix((ones, (edges[0], edges[1])), shape=(flow.num_nodes, flow.num_nodes))
        _, labels = connected_components(matrix, directed=False)
        axis = np.concatenate([[-1], *(np.full(n, i) for i, (_, _, n) in enumerate(flow.axes))]).astype(np.int64)
        position = np.concatenate([[0], *(np.arange(n) for _, _, n in flow.axes)]).astype(np.int64)
        return _Nodes(labels.astype(np.int64), axis, position)

    def _find_roles(self, flow: Flow) -> dict[int, Role]:
        """The role of each axis, by its number; the first of consumer, producer and norm wins."""
        roles: dict[int, Role] = {}
        kinds: tuple[tuple[Role, list[Tensor]], ...] = (
            ("in", flow.consumers),
            ("out", flow.producers),
            ("norm", flow.norms),
        )
        used: dict[Role, set[int]] = {}
        for role, vectors in kinds:
            nodes = torch.cat(vectors).unique().numpy() if vectors else np.zeros(0, dtype=np.int64)
            nodes = nodes[nodes > 0]
            used[role] = set(np.unique(self._nodes.axis[nodes]).tolist())
            for axis in used[role]:
                roles.setdefault(axis, role)
        for axis in used["in"] & used["out"]:
            self._pin_nodes(np.flatnonzero(self._nodes.axis == axis), BOTH_AXES)
        return roles

    def _pin_nodes(self, nodes: NDArray[np.int64], reason: Reason) -> None:
        for component in np.unique(self._nodes.component[nodes]).tolist():
            if self._reasons[component] is None:
                self._reasons[component] = reason

    def _pin_first(self, flow: Flow) -> None:
        for vector in flow.windows:
            self._pin_nodes(vector.numpy(), WINDOW)
        for pin in flow.pins:
            self._pin_nodes(pin.nodes.numpy(), pin.reason)
        made = torch.cat(flow.producers).unique().numpy() if flow.producers else np.zeros(0, dtype=np.int64)
        touched = np.zeros(flow.num_nodes, dtype=bool)
        for vector in [*flow.producers, *flow.consumers, *flow.norms, *(e.reshape(-1) for e in flow.edges)]:
            touched[vector.numpy()] = True
        has_filter = set(np.unique(self._nodes.component[made[made > 0]]).tolist())
        used = set(np.unique(self._nodes.component[touched]).tolist())
        for component, reason in enumerate(self._reasons):
            if reason is None and component not in has_filter:
                self._reasons[component] = INPUT if component in used else UNUSED
        self._reasons[int(self._nodes.component[0])] = FIXED

    def _sign(self, flow: Flow, size: int) -> list[_Signature]:
        """What tells groups apart: how often a component stands on each axis, of parameters and of arithmetic."""
        rows = [self._nodes.component[1:]]
        columns = [self._nodes.axis[1:]]
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
        member = next(m for m in group.members if m.role == "out")
        axis = next(i for i, (n, d, _) in enumerate(self._flow.axes) if (n, d) == (member.tensor, member.dim))
        ids = self._last.axes[member.tensor, member.dim]
        inside = torch.isin(ids, group.ids).numpy()
        self._pin_nodes(np.flatnonzero(self._nodes.axis == axis)[inside], reason)

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
            groups.append(self._group(signature, reason, len(components), torch.from_numpy(ids), names))
        axes, roles = self._axes(channel)
        self._last = ChannelGraph(model, tuple(groups), axes, roles, self._layers(channel, len(prunable), groups))
        return self._last

    def _group(
        self, signature: _Signature, reason: Reason | None, width: int, ids: Tensor, names: dict[str, int]
    ) -> Group:
        members = []
        for axis, per_channel in signature:
            if axis < len(self._flow.axes):
                tensor, dim, _ = self._flow.axes[axis]
                members.append(Member(tensor, dim, self._roles.get(axis, "with"), per_channel))
        maker = next((m for m in members if m.role == "out"), members[0])
        name = maker.tensor.rpartition(".")[0] if maker.role == "out" else f"{maker.tensor}[{maker.dim}]"
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
                nodes = axis.numpy()
                ids = channel[self._nodes.component[nodes]]
                ids = np.where(nodes > 0, ids, -1)
                fixed.append(int((ids < 0).sum()))
                members = np.bincount(group_of[ids[ids >= 0]], minlength=num_prunable)
                counts.append([c // groups[g].width for g, c in enumerate(members.tolist())])
            table = torch.tensor(counts, dtype=torch.int64).reshape(len(counts), num_prunable)
            layers.append(Layer(operation.module, operation.constant, tuple(fixed), table))
        return tuple(layers)
