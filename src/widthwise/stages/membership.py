"""Which groups of channels matter in which stage."""

from collections.abc import Sequence
from dataclasses import dataclass

from widthwise.channels import ChannelGraph
from widthwise.errors import NoStages
from widthwise.stages.record import Call, Record

__all__ = ["Membership", "membership_of"]


@dataclass(frozen=True)
class Membership:
    """What belongs to each part of a chain."""

    modules: tuple[frozenset[str], ...]
    """Paths of the modules that run in each part. They partition all modules that have prunable tensors."""
    own: tuple[tuple[int, ...], ...]
    """Groups (indices into ``graph.prunable``) that some layer of the part makes or scales: they change its result.

    A group that is only read there is what the part before returns; the part is fed all of it.
    """
    inner: tuple[tuple[int, ...], ...]
    """Groups of which every member lies in the part."""


def membership_of(graph: ChannelGraph, record: Record, cuts: Sequence[Call]) -> Membership:
    """What belongs to each of the parts between cuts; the last part is what follows the last cut.

    Raises:
        NoStages: a module with prunable tensors runs in more than one part.
    """
    place = _places(graph, record, cuts)
    modules: list[set[str]] = [set() for _ in range(len(cuts) + 1)]
    for path, part in place.items():
        modules[part].add(path)
    own: list[list[int]] = [[] for _ in modules]
    inner: list[list[int]] = [[] for _ in modules]
    for index, group in enumerate(graph.prunable):
        parts = {place[owner(m.tensor)] for m in group.members if owner(m.tensor) in place}
        made = {place[owner(m.tensor)] for m in group.members if m.role != "in" and owner(m.tensor) in place}
        for part in sorted(made):
            own[part].append(index)
        if len(parts) == 1:
            inner[parts.pop()].append(index)
    return Membership(tuple(map(frozenset, modules)), tuple(map(tuple, own)), tuple(map(tuple, inner)))


def owner(tensor: str) -> str:
    """Path of the module that has a tensor."""
    return tensor.rpartition(".")[0]


def _places(graph: ChannelGraph, record: Record, cuts: Sequence[Call]) -> dict[str, int]:
    """The part in which each module runs; those that run in several are left out if nothing in them can be pruned."""
    prunable = {owner(tensor) for tensor, _ in graph.roles}
    prunable |= {layer.module for layer in graph.layers if bool(layer.per_channel.any())}
    ends = [cut.end for cut in cuts]
    found: dict[str, set[int]] = {}
    for call in record.calls:
        first = sum(end < call.begin for end in ends)  # cuts that were over when it began
        last = sum(end < call.end for end in ends)
        found.setdefault(call.path, set()).update(range(first, last + 1))
    for path in prunable:
        if len(found.get(path, ())) > 1:
            raise NoStages(
                "Every layer must run in one stage, but those of "
                f"{path or 'the model itself'!r} run in {len(found[path])}: its channels cannot be chosen stage by "
                "stage. Pin it (trace(pin=...)), or name stages that it does not run across."
            )
    return {path: parts.pop() for path, parts in found.items() if len(parts) == 1}
