"""The channel graph: every prunable channel of a model, numbered once.

Made by :func:`widthwise.trace`; everything else (cost, importance, sub-networks, searches) is arithmetic on it.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor, nn

from widthwise.channels.importance import SCORES, Importance, gradient_products, sum_over_members, weights_in_use
from widthwise.channels.reason import Reason
from widthwise.channels.subnet import Subnet
from widthwise.digest import digest
from widthwise.errors import ConfigError, SubnetMismatch

__all__ = ["Axis", "ChannelGraph", "Group", "Layer", "Member", "Role", "Size"]

Axis = tuple[str, int]
"""(name of a parameter or buffer, dimension)."""

Role = Literal["out", "in", "norm", "with"]
"""What an axis is to its channels: the filters that make them, the weights that consume them, the scale of their
batch norm, or a parameter that merely goes with them."""


@dataclass(frozen=True)
class Member:
    """One axis of one parameter or buffer that a group runs through."""

    tensor: str
    dim: int
    role: Role
    per_channel: int
    """Positions of the axis that one channel stands at (more than one after a flatten)."""

    @property
    def module(self) -> str:
        """Path of the module that owns the tensor."""
        return self.tensor.rpartition(".")[0]


@dataclass(frozen=True, eq=False)
class Group:
    """Channels with identical membership: any of them may be removed, as long as one stays."""

    name: str
    """The module that makes the channels; with a suffix where one module makes several groups."""
    width: int
    ids: Int64[Tensor, "width"]
    """int64 [width]: the channel ids, in the order of the positions; empty if pinned."""
    members: tuple[Member, ...]
    pinned: bool = False
    reason: Reason | None = None
    """Why the group is pinned."""
    proved: bool = True
    """False where the caller asked for the group in spite of a reason to pin it."""

    def __repr__(self) -> str:
        return f"Group({self.name!r}, width={self.width}{', pinned: ' + str(self.reason) if self.pinned else ''})"


@dataclass(frozen=True, eq=False)
class Layer:
    """What one multiply-add operation costs: ``constant`` times the kept positions of each axis."""

    module: str
    constant: int
    fixed: tuple[int, ...]
    """Positions of each axis that are always kept."""
    per_channel: Int64[Tensor, "axes groups"]
    """int64 [axes, groups]: positions of each axis that one channel of each prunable group stands at."""


@dataclass(frozen=True, eq=False)
class Size:
    """An attribute of a module that holds how many positions there are, and follows what is kept of them."""

    module: str
    """Path of the module."""
    attribute: str
    index: int | None
    """Where in the attribute, if it is a tuple or list."""
    ids: Int64[Tensor, "positions"]
    """int64 [value]: the channel at each position; -1 where pinned."""


Site = tuple[int, Int64[Tensor, "_"]]
"""Dimension of a module's output along which channels lie (-1: not along one), and the channel at each position (-1
where pinned)."""


@dataclass(frozen=True, eq=False)
class ChannelGraph:
    """The channels of a model and where each of them lives."""

    model: nn.Module
    """The traced model itself (not a copy)."""
    groups: tuple[Group, ...]
    """Prunable groups in the order of the model's parameters, then pinned ones."""
    axes: Mapping[Axis, Int64[Tensor, "positions"]]
    """The channel id at each position of each axis of each parameter and buffer; -1 where pinned."""
    roles: Mapping[Axis, Role]
    """The role of every axis that carries at least one channel."""
    layers: tuple[Layer, ...]
    """The multiply-add operations of one forward pass on the example inputs, in order."""
    sizes: tuple[Size, ...] = ()
    """The attributes of modules that follow the channels, beyond those of PyTorch's own layers."""
    sites: Mapping[str, tuple[Site, ...]] = field(default_factory=dict)
    """For each module that returned a tensor, call by call, where the channels lie in it."""
    notes: tuple[str, ...] = ()
    """What the trace could not look at, in words."""

    def required_axes(self, tensors: Mapping[str, Tensor]) -> Iterator[tuple[Axis, Tensor]]:
        """The axes that a model with these tensors must have to be one of this graph, with their channels.

        Buffers that have none are left out: a forward may make them anew for each size of image.
        """
        for axis, ids in self.axes.items():
            if axis in self.roles or isinstance(tensors.get(axis[0]), nn.Parameter):
                yield axis, ids

    @property
    def num_channels(self) -> int:
        """How many channels may be removed or kept."""
        return sum(g.width for g in self.prunable)

    @cached_property
    def prunable(self) -> tuple[Group, ...]:
        """The groups that are not pinned."""
        return tuple(g for g in self.groups if not g.pinned)

    @cached_property
    def pinned(self) -> tuple[Group, ...]:
        """The groups that are pinned, each with its reason."""
        return tuple(g for g in self.groups if g.pinned)

    @cached_property
    def channels(self) -> Int64[Tensor, "channels"]:
        """int64 [channels]: the index (into :attr:`prunable`) of the group each channel belongs to."""
        ids = [torch.full((g.width,), i, dtype=torch.int64, device="cpu") for i, g in enumerate(self.prunable)]
        return torch.cat(ids) if ids else torch.zeros(0, dtype=torch.int64, device="cpu")

    @cached_property
    def full_widths(self) -> Int64[Tensor, "groups"]:
        """int64 [groups]: the width of each prunable group in the full model."""
        return torch.tensor([g.width for g in self.prunable], dtype=torch.int64, device="cpu")

    @cached_property
    def makers(self) -> Int64[Tensor, "groups"]:
        """int64 [groups]: how many layers make the channels of each prunable group; more than one in a residual stream.

        A depthwise convolution does not count: it passes on what another layer makes.
        """
        made = [{m.module for m in g.members if m.role == "out" and not self._depthwise(m)} for g in self.prunable]
        return torch.tensor([max(1, len(modules)) for modules in made], dtype=torch.int64, device="cpu")

    def _depthwise(self, member: Member) -> bool:
        module = self.model.get_submodule(member.module)
        return (
            isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) and module.groups > 1 and module.weight.shape[1] == 1
        )

    @cached_property
    def alike(self) -> Mapping[Axis, Axis]:
        """For each axis the first one with the same channels at the same positions: what is kept of one is of both."""
        firsts: dict[bytes, Axis] = {}
        return {axis: firsts.setdefault(ids.numpy().tobytes(), axis) for axis, ids in self.axes.items()}

    @cached_property
    def fingerprint(self) -> str:
        """Changes when the numbering of the channels does; stored with every saved sub-network."""
        facts = {f"{name}:{dim}": ids.tolist() for (name, dim), ids in sorted(self.axes.items())}
        return digest(json.dumps(facts).encode())

    def group(self, group: Group | str) -> Group:
        """A prunable group by name.

        Raises:
            SubnetMismatch: no prunable group has that name.
        """
        name = group.name if isinstance(group, Group) else group
        for candidate in self.prunable:
            if candidate.name == name:
                return candidate
        pinned = next((g for g in self.pinned if g.name == name), None)
        why = f"it is pinned because it {pinned.reason}" if pinned else "the model has no group of that name"
        raise SubnetMismatch(
            f"A width can be set for a prunable group only, but {name!r} is not one: {why}. "
            f"Prunable are {', '.join(g.name for g in self.prunable[:8])}{' ...' * (len(self.prunable) > 8)}."
        )

    def widths(self, subnet: Subnet) -> Int64[Tensor, "groups"]:
        """int64 [groups]: how many channels of each prunable group a sub-network keeps."""
        kept = self.check(subnet).keep.to(torch.int64)
        return torch.zeros(len(self.prunable), dtype=torch.int64, device="cpu").index_add(0, self.channels, kept)

    def check(self, subnet: Subnet) -> Subnet:
        """The sub-network, if it belongs to this graph.

        Raises:
            SubnetMismatch: no sub-network, wrong length, or a group of which nothing is kept.
        """
        if not isinstance(subnet, Subnet):
            raise SubnetMismatch(
                f"A sub-network is what graph.subnet(...) makes, from a keep vector or from widths by name, but got "
                f"{type(subnet).__name__}. Pass graph.subnet(widths={{...}}) instead."
            )
        if len(subnet.keep) != self.num_channels:
            raise SubnetMismatch(
                f"A sub-network of this graph is a vector over its {self.num_channels} channels, but got one of "
                f"{len(subnet.keep)}. Make it with graph.subnet(...) of the same trace."
            )
        kept = torch.zeros(len(self.prunable), dtype=torch.bool, device="cpu")
        kept[self.channels[subnet.keep]] = True
        if not bool(kept.all()):
            group = self.prunable[int(kept.int().argmin())]
            raise SubnetMismatch(
                f"Every group keeps at least one channel, but this sub-network keeps none of the {group.width} "
                f"of {group.name!r}. Keep one, or leave the layer out of the model yourself."
            )
        return subnet

    def sizes_of(self, subnet: Subnet) -> dict[str, int | list[int]]:
        """``"module.attribute"`` to the value that it has in a sub-network, for each of :attr:`sizes`."""
        self.check(subnet)
        values: dict[str, int | list[int]] = {}
        for size in self.sizes:
            name, count = f"{size.module}.{size.attribute}".removeprefix("."), int(subnet.kept_at(size.ids).sum())
            if size.index is None:
                values[name] = count
            else:
                whole = getattr(self.model.get_submodule(size.module), size.attribute)
                row = values.setdefault(name, list(whole))
                assert isinstance(row, list)
                row[size.index] = count
        return values

    def importance(self, kind: Importance, *, seed: int = 0) -> Float64[Tensor, "channels"]:
        """Score every channel from the model's present weights, summed over coupled members.

        Args:
            kind: ``l1`` or ``l2`` norm of the filters; ``geometric_median``: distance to the layer's other filters;
                ``bn_scale``: scale of the batch norm behind the filters; ``random``.
            seed: of ``random``.

        Raises:
            ConfigError: unknown kind, or ``bn_scale`` where some group has no batch norm.
        """
        if kind not in get_args(Importance):
            raise ConfigError(f"Importance is one of {', '.join(get_args(Importance))}, but got {kind!r}.")
        if kind == "random":
            generator = torch.Generator().manual_seed(seed)
            return torch.rand(self.num_channels, dtype=torch.float64, generator=generator, device="cpu")
        role, score = SCORES[kind]
        return self._scored(kind, weights_in_use(self.model), role, score)

    def taylor(
        self,
        batches: Iterable[tuple[Tensor, Tensor]],
        loss: Callable[[Any, Tensor], Tensor] = nn.functional.cross_entropy,
    ) -> Float64[Tensor, "channels"]:
        """First-order Taylor importance, (sum of weight times gradient)^2 per filter (Molchanov et al. 2019, eq. 8).

        Args:
            batches: (images [B, ...], labels [B]) to sum the loss over; the model runs in evaluation mode.
            loss: of (outputs, labels).
        """
        products = gradient_products(self.model, batches, loss)
        return self._scored("taylor", products, "out", lambda rows: rows.sum(1) ** 2)

    def _scored(
        self, kind: str, tensors: Mapping[str, Tensor], role: str, score: Callable[[Tensor], Tensor]
    ) -> Float64[Tensor, "channels"]:
        scores, seen = sum_over_members(tensors, self.axes, self.roles, role, score, self.num_channels)
        if not bool(seen.all()):
            missing = {self.prunable[i].name for i in self.channels[~seen].tolist()}
            raise ConfigError(
                f"Importance {kind!r} needs a {'batch norm behind' if role == 'norm' else 'filter in'} every group, "
                f"but {', '.join(sorted(missing)[:5])} has none; use 'l1'."
            )
        return scores

    def subnet(
        self,
        keep: Tensor | Iterable[bool] | None = None,
        *,
        widths: Mapping[Group, int] | Mapping[str, int] | Sequence[int] | Int64[Tensor, "groups"] | None = None,
        importance: Importance | Tensor = "l1",
    ) -> Subnet:
        """A sub-network from a keep vector, or from widths and a ranking.

        Args:
            keep: bool [channels], or anything that becomes one.
            widths: channels to keep per group (groups not named stay whole), or one number for each of
                :attr:`prunable`.
            importance: a score per channel, float [channels], or the name of one (see :meth:`importance`); the
                highest are kept.

        Raises:
            SubnetMismatch: the vector or the widths do not belong to this graph.
        """
        if keep is not None:
            if widths is not None:
                raise SubnetMismatch("A sub-network is given by `keep` or by `widths`, but got both; leave one out.")
            return self.check(Subnet(self._boolean(keep)))
        counts = self._counts(widths if widths is not None else {})
        full = Subnet(torch.ones(self.num_channels, dtype=torch.bool, device="cpu"))
        if bool((counts == self.full_widths).all()):
            return full
        scores = self.importance(importance) if isinstance(importance, str) else torch.as_tensor(importance)
        if scores.shape != (self.num_channels,) or bool(scores.isnan().any()):
            raise SubnetMismatch(
                f"Importance is one score per channel, [{self.num_channels}], each a number, but got "
                f"{list(scores.shape)} with {int(scores.isnan().sum())} that are none (NaN)."
            )
        return self.top(scores, counts)

    @staticmethod
    def _boolean(keep: Tensor | Iterable[bool]) -> Bool[Tensor, "channels"]:
        try:
            vector = (keep if isinstance(keep, Tensor) else torch.tensor(list(keep), device="cpu")).detach().cpu()
        except (TypeError, ValueError) as error:
            raise SubnetMismatch(f"`keep` is a boolean vector [channels], but got {keep!r} ({error}).") from error
        if vector.ndim != 1 or not bool(((vector == 0) | (vector == 1)).all()):
            raise SubnetMismatch(
                f"`keep` is a boolean vector [channels], but got {vector.dtype} of shape {list(vector.shape)}; "
                "compare scores with a threshold first (scores > t)."
            )
        return vector.to(torch.bool)

    def top(self, scores: Tensor, widths: Int64[Tensor, "groups"]) -> Subnet:
        """Keep the ``widths[g]`` highest-scoring channels of each group; ties go to the lower id."""
        keep = torch.zeros(self.num_channels, dtype=torch.bool, device="cpu")
        scores = scores.detach().to("cpu", torch.float64)
        for group, width in zip(self.prunable, widths.tolist(), strict=True):
            order = torch.argsort(scores[group.ids], descending=True, stable=True)
            keep[group.ids[order[:width]]] = True
        return Subnet(keep)

    def _counts(
        self, widths: Mapping[Group, int] | Mapping[str, int] | Sequence[int] | Int64[Tensor, "groups"]
    ) -> Int64[Tensor, "groups"]:
        try:
            counts = torch.as_tensor(list(widths.values()) if isinstance(widths, Mapping) else widths, device="cpu")
        except (TypeError, ValueError, RuntimeError) as error:
            raise SubnetMismatch(f"Widths are whole numbers, but got {widths!r} ({error}).") from error
        if counts.numel() and (counts.is_floating_point() or counts.is_complex() or counts.dtype == torch.bool):
            raise SubnetMismatch(f"Widths are whole numbers, but got {widths!r}; round them first.")
        if isinstance(widths, Mapping):
            index = {g.name: i for i, g in enumerate(self.prunable)}
            places = torch.tensor([index[self.group(group).name] for group in widths], dtype=torch.int64, device="cpu")
            counts = self.full_widths.index_put((places,), counts.to(torch.int64))
        if counts.shape != self.full_widths.shape:
            raise SubnetMismatch(
                f"Widths are one number per prunable group, [{len(self.prunable)}], but got {list(counts.shape)}."
            )
        for group, width in zip(self.prunable, counts.tolist(), strict=True):
            if not 1 <= width <= group.width:
                raise SubnetMismatch(
                    f"A width lies between 1 and the full width, but got {width} for {group.name!r} of width "
                    f"{group.width}."
                )
        return counts
