"""A sub-network as a module of its own: small, plain, with its own parameters."""

from collections.abc import Collection, Mapping

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from widthwise.channels.graph import Axis, ChannelGraph
from widthwise.channels.subnet import Subnet
from widthwise.errors import SubnetMismatch
from widthwise.subnet.resize import resized_copy, tensors_of

__all__ = ["checked_tensors", "kept_positions", "materialize", "select", "slice_axes"]


def checked_tensors(model: nn.Module, graph: ChannelGraph) -> dict[str, Tensor]:
    """The model's parameters and buffers by name, if the graph belongs to a model of these shapes.

    Raises:
        SubnetMismatch: it does not.
    """
    tensors = tensors_of(model)
    for (name, dim), ids in graph.required_axes(tensors):
        if name not in tensors or dim >= tensors[name].ndim or tensors[name].shape[dim] != len(ids):
            got = list(tensors[name].shape) if name in tensors else "no such tensor"
            raise SubnetMismatch(
                f"The graph belongs to a model whose {name!r} has {len(ids)} positions along dimension {dim}, but this "
                f"model has {got}. Trace this model, or pass the one that was traced."
            )
    return tensors


def kept_positions(
    graph: ChannelGraph, subnet: Subnet, tensors: Collection[str] | None = None
) -> dict[Axis, Int64[Tensor, "kept"]]:
    """int64 [kept] for each axis, of these tensors or of all, from which the sub-network removes something."""
    graph.check(subnet)
    found: dict[Axis, Tensor | None] = {}
    for axis in graph.roles if tensors is None else (axis for axis in graph.roles if axis[0] in tensors):
        first = graph.alike[axis]
        if first not in found:
            mask = subnet.kept_at(graph.axes[first])
            found[first] = None if bool(mask.all()) else mask.nonzero()[:, 0]
        found[axis] = found[first]
    return {axis: positions for axis, positions in found.items() if positions is not None}


def slice_axes(tensor: Tensor, name: str, kept: Mapping[Axis, Tensor]) -> Tensor:
    """The part of a tensor that a sub-network keeps; differentiable. The tensor itself if that is all of it."""
    return select(tensor, {dim: kept[name, dim] for dim in range(tensor.ndim) if (name, dim) in kept})


def select(tensor: Tensor, positions: Mapping[int, Int64[Tensor, "_"]]) -> Tensor:
    """These positions, ascending, of some dimensions; differentiable. The tensor itself where none are given.

    In one piece and in the tensor's memory format, as in a network of that size: a forward may rely on either, and
    every operation on the part would otherwise copy it again.
    """
    if not positions:
        return tensor
    layout = _layout(tensor)
    order = [0, *range(2, tensor.ndim), 1] if layout in _CHANNELS_LAST.values() else list(range(tensor.ndim))
    part = tensor.permute(order)  # contiguous: index_select returns what is
    for dim in sorted(positions, key=lambda dim: len(positions[dim]) / tensor.shape[dim]):  # the least to copy
        chosen, place = positions[dim], order.index(dim)
        first, count = int(chosen[0]), len(chosen)
        if first + count - 1 == int(chosen[-1]):  # a run: a view instead of a copy
            part = part.narrow(place, first, count)
        else:
            part = part.index_select(place, chosen.to(tensor.device))
    back = sorted(range(tensor.ndim), key=order.__getitem__)
    return part.permute(back).contiguous(memory_format=layout)


_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def _layout(tensor: Tensor) -> torch.memory_format:
    last = _CHANNELS_LAST.get(tensor.ndim)
    here = last is not None and not tensor.is_contiguous() and tensor.is_contiguous(memory_format=last)
    return last if last is not None and here else torch.contiguous_format


def materialize(model: nn.Module, graph: ChannelGraph, subnet: Subnet) -> nn.Module:
    """A new, small, plain module that computes what the sub-network computes.

    It is of the model's own class, with its own parameters and buffers, in the model's mode, memory format and
    type and on its device; nothing of the model is changed or shared.

    Args:
        model: the traced model, or another with the same tensors (other weights, for example).
        graph: from :func:`widthwise.trace`.
        subnet: from ``graph.subnet(...)``.

    Raises:
        SubnetMismatch: the sub-network is not of this graph, or the graph not of this model.
    """
    tensors = checked_tensors(model, graph)
    kept = kept_positions(graph, subnet)
    small = {name: slice_axes(tensor.detach(), name, kept).clone() for name, tensor in tensors.items()}
    return resized_copy(model, small, graph.sizes_of(subnet))
