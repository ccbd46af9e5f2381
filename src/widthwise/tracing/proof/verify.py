"""The proof: every group that a graph offers is removed in part, run and compared with the reference.

Groups are tested together; where that fails they are halved, so a model without surprises costs two runs per round,
and each surprise a few more. Over the rounds every group is left with a single channel once (squeezed dimensions and
accidental broadcasting show there), loses a single one once (hard-coded sizes do), loses its front half once (cuts at
a share of the width do), and some of its channels by chance in three ways. Neighbours lose other parts at the same time
(what was tied to the wrong group shows). At last all have a single channel at once: a forward that asks whether two
widths are equal, and adds a shortcut where they are, does it there; groups that are pinned for that may still be met by
wider ones, so there is another round for each of their widths.
"""

from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import Literal
from zlib import crc32

import torch
from torch import Tensor

from widthwise.channels import ChannelGraph, Group, Reason, Subnet
from widthwise.subnet.shared import SuperNet
from widthwise.tracing.follow import Draft
from widthwise.tracing.follow.reasons import broken
from widthwise.tracing.probe import Probe
from widthwise.tracing.proof.compare import Comparison, breaks
from widthwise.tracing.proof.idle import idle_kinds

__all__ = ["prove"]

Cut = Literal["front gone", "one gone", "one left"] | int
"""What is left of a group in a round; a number stands for the channels that have this bit set in their code."""

CODES = torch.tensor([0b000, 0b001, 0b010, 0b011, 0b101, 0b111])
"""Given out by chance to every six channels in a row. The bits are set in four, three and two of them: groups that must
be equally wide, and are not tied, would pass if their parts were always of one size."""

ORDERS: tuple[tuple[Cut, ...], ...] = tuple(permutations(("one left", 0, "one gone", 1, "front gone", 2)))
"""The order in which a group goes through the cuts; groups near one another have different ones."""

ROUNDS = len(ORDERS[0])
"""Sub-networks that every accepted group has been part of, before those in which all are equally wide."""

COPIES = 1
"""In so many of them the small network is one of its own, as delivered."""


def _equally_wide(group: Group, width: int) -> Tensor:
    """bool [width of the group]: so many channels by chance, or all where there are no more."""
    generator = torch.Generator().manual_seed(crc32(group.name.encode()))
    chosen = torch.randperm(group.width, generator=generator)[:width]
    return torch.zeros(group.width, dtype=torch.bool).index_fill(0, chosen, True)


def _kept(group: Group, cut: Cut, seed: int) -> Tensor:
    """bool [width]: what a cut leaves of a group.

    Of two channels one is kept and one is not at some time: always where they stand within one run of six or in
    different halves of the group, and in five of six cases elsewhere. What is drawn hangs on the group and the seed
    alone: a group loses the same channels whichever others are cut beside it, so that a search ends where it began.
    """
    places, name = torch.arange(group.width), crc32(group.name.encode())
    if isinstance(cut, int):
        numbers = torch.Generator().manual_seed(name)
        code = CODES[torch.rand(group.width // 6 + 1, 6, generator=numbers).argsort(1)].flatten()[: group.width]
        some = code >> cut & 1 == 1
        return some if bool(some.any()) and not bool(some.all()) else places == int(code.argmax())
    generator = torch.Generator().manual_seed(name + seed)
    chosen = places == int(torch.randint(group.width, (), generator=generator))
    without = ~chosen if group.width > 2 else torch.ones_like(chosen)  # of two channels one is left often enough
    return {"front gone": places >= group.width // 2, "one gone": without, "one left": chosen}[cut]


@dataclass
class _Round:
    """One random sub-network of everything, and the groups that were found to hold in it."""

    comparison: Comparison
    seed: int
    turn: int
    width: int = 0
    """Of all groups, in the rounds after the turns."""
    accepted: list[Group] = field(default_factory=list, init=False)
    _place: dict[str, int] = field(init=False)
    """Where each tensor stands in the graph."""

    def __post_init__(self) -> None:
        self._place = {tensor: place for place, (tensor, _) in reversed([*enumerate(self.graph.axes)])}

    @property
    def graph(self) -> ChannelGraph:
        """The groups that are looked at."""
        return self.comparison.network.graph

    def cut(self, group: Group) -> Cut:
        """Whose turn it is hangs on where the group's first tensor stands, so that no pinned neighbour changes it."""
        return ORDERS[(37 * self._place[group.members[0].tensor] + group.width) % len(ORDERS)][self.turn]

    def subnet(self, groups: list[Group]) -> Subnet:
        """Remove part of each of these groups, as it is its turn; keep the others."""
        keep = torch.ones(self.graph.num_channels, dtype=torch.bool)
        for group in groups:
            if self.width:
                keep[group.ids] = _equally_wide(group, self.width)
            else:
                keep[group.ids] = _kept(group, self.cut(group), self.seed)
        return Subnet(keep)

    def failure(self, groups: list[Group]) -> Reason | None:
        """Why these groups do not hold together with the accepted ones; None if they do, and are accepted now."""
        why = self.comparison.failure(self.subnet(self.accepted + groups))
        if why is None:
            self.accepted.extend(groups)
        return why

    def refused(self, groups: list[Group]) -> list[tuple[Group, Reason]]:
        """Accept each group that holds, halving where some do not; return the others with the reason."""
        failure = self.failure(groups) if groups else None
        if failure is None:
            return []
        return [(groups[0], failure)] if len(groups) == 1 else self.halves(groups)

    def halves(self, groups: list[Group]) -> list[tuple[Group, Reason]]:
        """The same for groups of which some are known not to hold."""
        half = len(groups) // 2
        return self.refused(groups[:half]) + self.refused(groups[half:])

    def refused_alike(self, groups: list[Group], *, known: bool) -> list[tuple[Group, Reason]]:
        """The same for groups that rest on one guess: where the first and the last fail, the guess is wrong.

        ``known``: that they do not all hold is known already.
        """
        if not known and self.failure(groups) is None:
            return []
        cut = [g for g in groups if not bool(self.subnet([g]).keep.all())]  # of two channels both may stay
        first = self.failure(cut[:1])
        if first is not None and (len(cut) == 1 or self.failure(cut[-1:]) is not None):
            return [(group, first) for group in groups]
        return self.refused([g for g in groups if g not in self.accepted])


def _refused(draft: Draft, now: _Round) -> list[tuple[Group, Reason]]:
    """The prunable groups that do not hold, each with the reason."""
    groups = [group for group in now.graph.prunable if group.proved]
    failure = now.failure(groups)
    if failure is None:
        return []
    if now.comparison.copied:  # most mistakes show without copies and training, which take most of the time
        quick = replace(now, comparison=replace(now.comparison, copied=False))
        if quick.failure(groups) is not None and (found := _searched(draft, quick, groups)):
            return found
    return _searched(draft, now, groups) or [(group, failure) for group in groups]


def _searched(draft: Draft, now: _Round, groups: list[Group]) -> list[tuple[Group, Reason]]:
    """Those of the groups, which do not all hold, that do not."""
    kinds: dict[str, list[Group]] = {"": []}
    for group in groups:
        kinds.setdefault(draft.guess(group), []).append(group)
    found = now.refused(kinds.pop("")) if len(kinds) > 1 else now.halves(kinds.pop(""))
    for alike in kinds.values():
        found += now.refused_alike(alike, known=len(kinds) == 1 and not found)
    return found


def prove(draft: Draft, graph: ChannelGraph, probe: Probe) -> ChannelGraph:
    """The graph with every group pinned that does not hold, until ``ROUNDS`` random sub-networks of the rest do, and
    those in which all are equally wide.

    Where a guess is dropped another may take its place, so that all rounds are due again; a pin only takes away.
    """
    turn, seed, network = 0, 0, SuperNet(probe.model, graph)
    widths = [1]
    while turn < ROUNDS + len(widths):
        seed += 1
        comparison = Comparison(network, probe, draft.sites(), copied=turn < COPIES)
        width = 0 if turn < ROUNDS else widths[turn - ROUNDS]
        refused = _refused(draft, _Round(comparison, seed, turn, width))
        if width:
            widths += dict.fromkeys(group.width for group, _ in refused if group.width not in widths)
        if not refused:
            turn += 1
            continue
        for group, reason in refused:
            if draft.loosen(group):
                turn = 0
            elif not draft.risk(group):
                draft.pin(group, reason)
        graph = draft.graph(graph.model)
        network = SuperNet(probe.model, graph)
    graph = _without_idle_guesses(draft, graph, probe)
    unproved = [group for group in graph.prunable if not group.proved]
    network = SuperNet(probe.model, graph) if unproved else network
    broke = [(group, failure) for group in unproved if (failure := _does_not_run(network, probe, group))]
    for group, failure in broke:
        draft.pin(group, failure)
    return draft.graph(graph.model) if broke else graph


def _without_idle_guesses(draft: Draft, graph: ChannelGraph, probe: Probe) -> ChannelGraph:
    """The graph in which attributes are left alone that the forward does not need (:mod:`.idle`).

    What follows channels without need may do harm on inputs of another size.
    """
    idle = idle_kinds(probe, draft.guesses())
    if not idle:
        return graph
    without = draft.without(idle, graph)
    now = _Round(Comparison(SuperNet(probe.model, without), probe, draft.sites(), copied=True), 0, 0)
    return without if now.failure([group for group in graph.prunable if group.proved]) is None else graph


def _does_not_run(network: SuperNet, probe: Probe, group: Group) -> Reason | None:
    """Why a network without half of an unproved group is not even one; None if it is."""
    subnet = network.graph.subnet(widths={group: max(1, group.width // 2)}, importance="random")
    try:
        with network.subnet(subnet).applied():
            outputs = probe.run()
    except Exception as error:
        return breaks(error)
    shapes = [[list(t.shape) for t in tensors] for tensors in (outputs, probe.outputs)]
    return None if shapes[0] == shapes[1] else broken("changes the shape of the outputs when pruned")
