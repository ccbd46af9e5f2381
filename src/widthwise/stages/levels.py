"""Where a network can be cut into stages: behind the last module call of each resolution of its feature maps."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from widthwise.channels import ChannelGraph, Site
from widthwise.errors import NoStages
from widthwise.stages.alone import Part, captured, run_part
from widthwise.stages.record import Call, Record

__all__ = ["TOLERANCE", "cuts_by_resolution", "cuts_named", "difference", "site_of"]

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


def difference(found: object, expected: object) -> float:
    """Largest difference of two tensors relative to the largest value; infinite if they are no alike tensors."""
    if not (isinstance(found, Tensor) and isinstance(expected, Tensor)) or found.shape != expected.shape:
        return float("inf")
    if found.device != expected.device:
        return float("inf")
    scale = expected.abs().amax().item()
    return float((found - expected).abs().amax().item() / (scale or 1.0))


def why_not(model: nn.Module, record: Record, inputs: Tensor, call: Call) -> str | None:
    """Why a network cannot be cut behind a call; None if it can: what follows needs nothing else from before."""
    with torch.no_grad(), captured(model, [call]) as features:
        whole = model(inputs)
    try:
        with torch.no_grad():
            rest = run_part(model, Part.between(record, call, None), features[0])
    except Exception as error:
        return (str(error) or type(error).__name__).splitlines()[0]
    outputs = [[t for t in torch.utils._pytree.tree_leaves(out) if isinstance(t, Tensor)] for out in (rest, whole)]
    alike = len(outputs[0]) == len(outputs[1])
    worst = max((difference(a, b) for a, b in zip(*outputs, strict=True)), default=0.0) if alike else float("inf")
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
    for call in _skeleton(graph, record, record.root):
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
    return cuts


def _last_cut(
    model: nn.Module, record: Record, inputs: Tensor, level: Sequence[Call], reasons: list[str]
) -> Call | None:
    for call in reversed(level):
        reason = why_not(model, record, inputs, call)
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
    for name in names:
        calls = [c for c in record.calls if c.path == name and c.shape is not None and len(c.shape) > 1]
        if not calls:
            ran = [c.path for c in record.inside(record.root)]
            raise NoStages(
                f"A stage ends with a module that returns one tensor, but {name!r} is none of the model's that ran. "
                f"The modules that run directly inside the model are {', '.join(ran)}."
            )
        reason = why_not(model, record, inputs, calls[-1])
        if reason is not None:
            raise NoStages(
                f"All that follows a stage must depend on its result alone, but behind {name!r} it does not "
                f"({reason}). Name the end of a block that has no shortcut around it."
            )
        if cuts and calls[-1].end <= cuts[-1].end:
            raise NoStages(f"Stages are named in the order of the forward pass, but {name!r} ends before its turn.")
        cuts.append(calls[-1])
    return cuts
