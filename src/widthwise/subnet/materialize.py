"""A sub-network as a module of its own: small, plain, with its own parameters."""

from collections.abc import Collection, Mapping

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from widthwise.channels.graph import Axis, ChannelGraph
from widthwise.channels.subnet import Subnet
from widthwise.errors import SubnetMismatch
from widthwise.subnet.resize import resized_copy, tensors_of

__all__ = ["checked_tensors", "kept_positions", "materialize", "slice_axes"]


def checked_tensors(model: nn.Module, graph: ChannelGraph) -> dict[str, Tensor]:
    """The model's parameters and buffers by name, if the graph belongs to a model of these shapes.

    Raises:
        SubnetMismatch: it does not.
    """
    tensors = tensors_of(model)
    for (name, dim), ids in graph.axes.items():
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
    keep = torch.cat([graph.check(subnet).keep, torch.ones(1, dtype=torch.bool, device="cpu")])  # id -1: always kept
    found: dict[Axis, Tensor | None] = {}
    for axis in graph.roles if tensors is None else (axis for axis in graph.roles if axis[0] in tensors):
        first = graph.alike[axis]
        if first not in found:
            mask = keep[graph.axes[first]]
            found[first] = None if bool(mask.all()) else mask.nonzero()[:, 0]
        found[axis] = found[first]
    return {axis: positions for axis, positions in found.items() if positions is not None}


def slice_axes(tensor: Tensor, name: str, kept: Mapping[Axis, Tensor]) -> Tensor:
    """The part of a tensor that a sub-network keeps; differentiable. The tensor itself if that is all of it.

    In one piece and in the tensor's memory format, as in a network of that size: a forward may rely on either, and
    every operation would otherwise copy the part again.
    """
    part = tensor
    axes = [(dim, positions) for dim in range(tensor.ndim) if (positions := kept.get((name, dim))) is not None]
    for dim, positions in sorted(axes, key=lambda axis: len(axis[1]) / tensor.shape[axis[0]]):  # the least to copy
        count, last = len(positions), int(positions[-1])
        if int(positions[0]) + count - 1 == last:  # a run: a view instead of a copy
            part = part.narrow(dim, int(positions[0]), count)
        else:
            part = part.index_select(dim, positions.to(tensor.device))
    return part.contiguous(memory_format=_layout(tensor)) if axes else part


def _layout(tensor: Tensor) -> torch.memory_format:
    last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(tensor.ndim)
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
