"""The proof: every group that a graph offers is removed in part, run and compared with the reference.

The reference is the full network whose consumers have zero weights for the removed channels (what ``gated`` computes),
which is exact whatever stands in between. Groups are tested together; where that fails they are halved, so a model
without surprises costs two runs per round, and each surprise a few more. Over the rounds every group is left with a
single channel once (squeezed dimensions and accidental broadcasting show there), loses a single one once (hard-coded
sizes do), loses half of its channels in three ways, and stays whole once while its neighbours do not (what was tied to
the wrong group shows).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import permutations
from typing import Literal
from zlib import crc32

import torch
from torch import Tensor, nn

from widthwise.channels import Axis, ChannelGraph, Group, Site, Subnet
from widthwise.subnet.materialize import kept_positions, slice_axes
from widthwise.subnet.resize import resized_copy, tensors_of
from widthwise.tracing.build import Draft
from widthwise.tracing.observe import observe, worst_difference
from widthwise.tracing.probe import DOUBLE, Probe
from widthwise.tracing.reasons import broken

__all__ = ["prove"]

Sites = Mapping[str, list[Site]]

Cut = Literal["whole", "one gone", "one left"] | int
"""What is left of a group in a round; a number stands for the half of its channels that have this bit set."""

ORDERS: tuple[tuple[Cut, ...], ...] = tuple(permutations(("one left", 0, "one gone", 1, "whole", 2)))
"""The order in which a group goes through the cuts; groups near one another have different ones."""

ROUNDS = 6
"""Sub-networks that every accepted group has been part of."""


def _kept(group: Group, cut: Cut, generator: torch.Generator) -> Tensor:
    """bool [width]: what a cut leaves of a group.

    The three halves are those with a bit of a number set, so that of two channels one is kept and one is not at some
    time: always where they stand within one run of eight, and in seven of eight cases elsewhere.
    """
    if isinstance(cut, int):
        numbers = torch.Generator().manual_seed(crc32(group.name.encode()))
        number = torch.rand(group.width // 8 + 1, 8, generator=numbers).argsort(1).flatten()[: group.width]
        half = number >> cut & 1 == 1
        some = bool(half.any()) and not bool(half.all())
        return half if some else torch.arange(group.width) == int(number.argmax())
    chosen = torch.arange(group.width) == int(torch.randint(group.width, (), generator=generator))
    return {"whole": torch.ones_like(chosen), "one gone": ~chosen, "one left": chosen}[cut]


@contextmanager
def _silenced(probe: Probe, graph: ChannelGraph, kept: Mapping[Axis, Tensor]) -> Iterator[None]:
    """The reference: the removed columns of each consumer are zero inside, and as before after.

    In place, and drawn again after: copies of all weights would take their memory, and longer than a forward.
    """
    tensors = tensors_of(probe.model)
    before: dict[str, Tensor] = {}
    drawn: list[str] = []
    try:
        for (name, dim), role in graph.roles.items():
            if role == "in" and (name, dim) in kept:
                weight = tensors[name]
                if probe.draws(name, weight):
                    drawn.append(name)
                elif name not in before:
                    before[name], weight.data = weight.data, weight.data.clone()
                _clear(weight.data, dim, kept[name, dim])
        yield
    finally:
        for name in drawn:
            probe.draw(name, tensors[name])
        for name, data in before.items():
            tensors[name].data = data


def _clear(weight: Tensor, dim: int, but: Tensor) -> None:
    """Set all positions along a dimension to zero, but for some, in place."""
    kept = torch.zeros(weight.shape[dim], dtype=weight.dtype, device=weight.device)
    kept.index_fill_(0, but.to(weight.device), 1)
    if weight.is_contiguous():  # one long dimension, which is faster than many short ones
        kept = kept.repeat_interleave(weight.stride(dim))
        weight = weight.flatten(dim)
    weight.mul_(kept.reshape([-1 if d == dim else 1 for d in range(weight.ndim)]))


def _small(model: nn.Module, graph: ChannelGraph, subnet: Subnet, kept: Mapping[Axis, Tensor]) -> nn.Module:
    """What ``materialize`` makes, but parameters that nothing is removed from are the model's own, not copies."""
    tensors = {n: slice_axes(t.detach(), n, kept).contiguous() for n, t in model.named_parameters()}
    tensors |= {n: slice_axes(t, n, kept).clone() for n, t in model.named_buffers()}  # training changes them
    return resized_copy(model, tensors, graph.sizes_of(subnet))


def _compare(graph: ChannelGraph, probe: Probe, sites: Sites, subnet: Subnet, *, trains: bool = False) -> float:
    """How far the small network is from the reference, relative to what is compared.

    One after the other, so that the memory of one of them, beside the probe's, is enough.
    """
    kept = kept_positions(graph, subnet)
    small = _small(probe.model, graph, subnet, kept)
    found = observe(probe, small, sites, subnet, small=True)
    if trains:
        probe.run_in_training(small)
    del small
    with _silenced(probe, graph, kept):
        return worst_difference(found, observe(probe, probe.model, sites, subnet, found, small=False))


def _failure(graph: ChannelGraph, probe: Probe, sites: Sites, subnet: Subnet) -> str | None:
    """Why the sub-network is not what it should be; None if it is."""
    try:
        worst = _compare(graph, probe, sites, subnet, trains=probe.trains)
        if worst > probe.tolerance > DOUBLE:  # rounding, or a choice (the best of many boxes) that it made otherwise?
            worst = _compare_in_double(graph, probe, sites, subnet, worst)
    except Exception as error:
        return _breaks(error)
    if worst <= probe.tolerance:
        return None
    return f"computes something else when pruned (relative difference {worst:.1e})"


LENIENT = 1e-4
"""Tolerance where a forward does not run in double precision."""

LIKELY = 1e-2
"""Up to here a difference may well be rounding, and is worth a look in double precision that can only say so."""


def _compare_in_double(graph: ChannelGraph, probe: Probe, sites: Sites, subnet: Subnet, worst: float) -> float:
    """Zero if double precision shows that the difference was rounding; the difference otherwise."""
    if worst <= LIKELY:
        with suppress(Exception), probe.in_double(by_module=True):
            if _compare(graph, probe, sites, subnet) <= DOUBLE:
                return 0.0
    try:
        with probe.in_double(by_module=False):
            exact = _compare(graph, probe, sites, subnet)
            return 0.0 if exact <= DOUBLE else exact
    except Exception:  # a forward that insists on single precision
        return 0.0 if worst <= LENIENT else worst


@dataclass
class _Round:
    """One random sub-network of everything, and the groups that were found to hold in it."""

    graph: ChannelGraph
    probe: Probe
    sites: Sites
    seed: int
    turn: int
    accepted: list[Group] = field(default_factory=list)
    _place: dict[str, int] = field(init=False)
    """Where each tensor stands in the graph."""

    def __post_init__(self) -> None:
        self._place = {tensor: place for place, (tensor, _) in reversed([*enumerate(self.graph.axes)])}

    def cut(self, group: Group) -> Cut:
        """Whose turn it is hangs on where the group's first tensor stands, so that no pinned neighbour changes it."""
        return ORDERS[(37 * self._place[group.members[0].tensor] + group.width) % len(ORDERS)][self.turn]

    def subnet(self, groups: list[Group]) -> Subnet:
        """Remove part of each of these groups, as it is its turn; keep the others."""
        keep = torch.ones(self.graph.num_channels, dtype=torch.bool)
        generator = torch.Generator().manual_seed(self.seed)
        for group in groups:
            keep[group.ids] = _kept(group, self.cut(group), generator)
        return Subnet(keep)

    def failure(self, groups: list[Group]) -> str | None:
        """Why these groups do not hold together with the accepted ones; None if they do, and are accepted now."""
        why = _failure(self.graph, self.probe, self.sites, self.subnet(self.accepted + groups))
        if why is None:
            self.accepted.extend(groups)
        return why

    def refused(self, groups: list[Group]) -> list[tuple[Group, str]]:
        """Accept each group that holds, halving where some do not; return the others with the reason."""
        failure = self.failure(groups) if groups else None
        if failure is None:
            return []
        return [(groups[0], failure)] if len(groups) == 1 else self.halves(groups)

    def halves(self, groups: list[Group]) -> list[tuple[Group, str]]:
        """The same for groups of which some are known not to hold."""
        half = len(groups) // 2
        return self.refused(groups[:half]) + self.refused(groups[half:])

    def refused_alike(self, groups: list[Group], *, known: bool) -> list[tuple[Group, str]]:
        """The same for groups that rest on one guess: where the first and the last fail, the guess is wrong.

        ``known``: that they do not all hold is known already.
        """
        if not known and self.failure(groups) is None:
            return []
        cut = [g for g in groups if self.cut(g) != "whole"]
        first = self.failure(cut[:1])
        if first is not None and (len(cut) == 1 or self.failure(cut[-1:]) is not None):
            return [(group, first) for group in groups]
        return self.refused([g for g in groups if g not in self.accepted])


def _refused(draft: Draft, now: _Round) -> list[tuple[Group, str]]:
    """The prunable groups that do not hold, each with the reason."""
    groups = [group for group in now.graph.prunable if group.proved]
    if now.failure(groups) is None:
        return []
    kinds: dict[str, list[Group]] = {"": []}
    for group in groups:
        kinds.setdefault(draft.guess(group), []).append(group)
    found = now.refused(kinds.pop("")) if len(kinds) > 1 else now.halves(kinds.pop(""))
    for alike in kinds.values():
        found += now.refused_alike(alike, known=len(kinds) == 1 and not found)
    return found


def prove(draft: Draft, graph: ChannelGraph, probe: Probe) -> ChannelGraph:
    """The graph with every group pinned that does not hold, until ``ROUNDS`` random sub-networks of the rest do."""
    seed = 0
    for turn in range(ROUNDS):
        while True:
            seed += 1
            refused = _refused(draft, _Round(graph, probe, draft.sites(), seed, turn))
            if not refused:
                break
            for group, reason in refused:
                if not draft.loosen(group):
                    draft.pin(group, broken(reason))
            graph = draft.graph(graph.model)
    unproved = [(group, _does_not_run(graph, probe, group)) for group in graph.prunable if not group.proved]
    broke = [(group, failure) for group, failure in unproved if failure]
    for group, failure in broke:
        draft.pin(group, broken(failure))
    return draft.graph(graph.model) if broke else graph


def _does_not_run(graph: ChannelGraph, probe: Probe, group: Group) -> str | None:
    """Why a network without half of an unproved group is not even one; None if it is."""
    subnet = graph.subnet(widths={group: max(1, group.width // 2)}, importance="random")
    try:
        outputs = probe.run(_small(probe.model, graph, subnet, kept_positions(graph, subnet)))
    except Exception as error:
        return _breaks(error)
    shapes = [[list(t.shape) for t in tensors] for tensors in (outputs, probe.outputs)]
    return None if shapes[0] == shapes[1] else "changes the shape of the outputs when pruned"


def _breaks(error: Exception) -> str:
    return f"breaks the forward when pruned ({type(error).__name__}: {(str(error) or 'no message').splitlines()[0]})"
