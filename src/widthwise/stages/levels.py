"""Where a network can be cut into stages: behind the last module call of each resolution of its feature maps."""

from collections.abc import Iterator, Sequence
from math import prod

import torch
from torch import Tensor, nn

from widthwise.channels import ChannelGraph, Site
from widthwise.errors import NoStages
from widthwise.stages.alone import Part, captured, run_part
from widthwise.stages.membership import owner
from widthwise.stages.record import Call, Record
from widthwise.tracing.probe import tensors_in
from widthwise.tracing.proof import difference

__all__ = ["TOLERANCE", "cuts_by_resolution", "cuts_named", "gap", "resolution", "site_of"]

TOLERANCE = 1e-4
"""Largest relative difference between a part alone and the same part inside the network."""


def site_of(graph: ChannelGraph, call: Call) -> Site:
    """Where the channels lie in what a call returned; dimension 1, and all pinned, where the trace did not see them."""
    calls = graph.sites.get(call.path, ())
    if call.number <= len(calls) and calls[call.number - 1][0] >= 0:
        return calls[call.number - 1]
    assert call.shape is not None
    return 1, torch.full((call.shape[1],), -1)


def resolution(graph: ChannelGraph, call: Call) -> tuple[int, ...]:
    """The shape of what a call returned without batch and channels; empty for what is no feature map."""
    if call.shape is None or len(call.shape) < 3:
        return ()
    dim, _ = site_of(graph, call)
    return tuple(n for d, n in enumerate(call.shape) if d not in (0, dim))


def gap(found: object, expected: object) -> float:
    """The largest relative difference of the tensors in two results; infinite if one is a stand-in on ``meta``."""
    mine, theirs = tensors_in(found), tensors_in(expected)
    if [t.device for t in mine] != [t.device for t in theirs]:
        return float("inf")
    return difference(mine, theirs)


def tried(model: nn.Module, record: Record, inputs: Tensor, calls: Sequence[Call]) -> Iterator[tuple[Call, str | None]]:
    """Each call, and why a network cannot be cut behind it; None if it can: what follows needs nothing from before.

    One pass of the whole network serves all; what follows a call runs when it is asked for.
    """
    with torch.no_grad(), captured(model, calls) as features:
        model(inputs)
    for call, given in zip(calls, features, strict=True):
        yield call, _why_not(model, record, call, given)


def _why_not(model: nn.Module, record: Record, call: Call, features: Tensor) -> str | None:
    try:
        with torch.no_grad():
            rest = run_part(model, Part.between(record, call, None), features)
    except Exception as error:
        return (str(error) or type(error).__name__).splitlines()[0]
    worst = gap(rest, record.output)
    return None if worst <= TOLERANCE else f"the outputs differ by {worst:.0e}"


def _skeleton(graph: ChannelGraph, record: Record, call: Call) -> list[Call]:
    """The calls inside one that follow each other: containers that go through several resolutions are opened."""
    found: list[Call] = []
    for inner in record.inside(call):
        size = prod(resolution(graph, inner))
        parts = [prod(resolution(graph, c)) for c in record.inside(inner) if resolution(graph, c)]
        if parts and (not resolution(graph, inner) or max(parts) > size):
            found += _skeleton(graph, record, inner)
        if resolution(graph, inner):
            found.append(inner)
    return found


def cuts_by_resolution(model: nn.Module, graph: ChannelGraph, record: Record, inputs: Tensor) -> list[Call]:
    """For each resolution larger than one position, the last call behind which the network can be cut, in order.

    Raises:
        NoStages: there is none.
    """
    levels: list[list[Call]] = []
    skeleton = _skeleton(graph, record, record.root)
    for call in skeleton:
        size = prod(resolution(graph, call))
        last = prod(resolution(graph, levels[-1][-1])) if levels else None
        if size == 1 or (last is not None and size > last):
            continue
        if size == last:
            levels[-1].append(call)
        else:
            levels.append([call])
    reasons: list[str] = []
    cuts = [cut for level in levels if (cut := _last_cut(model, record, inputs, level, reasons)) is not None]
    if not cuts:
        why = f"; tried {', '.join(reasons[:3])}" if reasons else ""
        raise NoStages(
            "Stages are parts of a chain: between two layers, all that follows must depend on one feature map alone. "
            f"This model has no such place{why}. Search it with another method, such as FNNP."
        )
    _check_end(graph, skeleton, cuts[-1], reasons)
    return cuts


def _check_end(graph: ChannelGraph, skeleton: Sequence[Call], last: Call, reasons: Sequence[str]) -> None:
    """Behind the last cut nothing of another resolution can be pruned: a decoder with shortcuts would be one stage.

    What has no channels to prune may be there (VGG's pool enlarges the feature maps of small images).
    """
    here, prunable = resolution(graph, last), {owner(tensor) for tensor, _ in graph.roles}
    for call in skeleton:
        elsewhere = prod(resolution(graph, call)) > 1 and resolution(graph, call) != here
        if call.end > last.end and elsewhere and any(f"{path}.".startswith(f"{call.path}.") for path in prunable):
            tried_there = f" ({'; '.join(reasons[-2:])})" if reasons else ""
            raise NoStages(
                f"Stages are a chain of falling resolution, but behind {last.path!r} ({_size(here)}) this model goes "
                f"on to {call.path!r} ({_size(resolution(graph, call))}), and cannot be cut there{tried_there}. Name "
                "the ends of stages yourself, or search it with another method, such as FNNP."
            )


def _size(positions: Sequence[int]) -> str:
    return "x".join(map(str, positions))


def _last_cut(
    model: nn.Module, record: Record, inputs: Tensor, level: Sequence[Call], reasons: list[str]
) -> Call | None:
    for call, reason in tried(model, record, inputs, level[::-1]):
        if reason is None:
            return call
        reasons.append(f"behind {call.path} ({reason})")
    return None


def cuts_named(model: nn.Module, record: Record, inputs: Tensor, names: Sequence[str]) -> list[Call]:
    """The last call of each named module, if the network can be cut there.

    Raises:
        NoStages: it cannot, or the names are not in the order of the forward pass.
    """
    cuts: list[Call] = []
    for call, reason in tried(model, record, inputs, [_last_call(record, name) for name in names]):
        if reason is not None:
            raise NoStages(
                f"All that follows a stage must depend on its result alone, but behind {call.path!r} it does not "
                f"({reason}). Name the end of a block that has no shortcut around it."
            )
        if cuts and call.end <= cuts[-1].end:
            raise NoStages(
                f"Stages are named in the order of the forward pass, but {call.path!r} ends before its turn."
            )
        cuts.append(call)
    return cuts


def _last_call(record: Record, name: str) -> Call:
    calls = [c for c in record.calls if c.path == name and c.shape is not None and len(c.shape) > 1]
    if not calls:
        ran = [c.path for c in record.inside(record.root)]
        raise NoStages(
            f"A stage ends with a module that returns one tensor, but {name!r} is none of the model's that ran. "
            f"The modules that run directly inside the model are {', '.join(ran)}."
        )
    return calls[-1]
