"""A sub-network as a module of its own: small, plain, with its own parameters."""

from collections.abc import Mapping

import torch
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


def kept_positions(graph: ChannelGraph, subnet: Subnet) -> dict[Axis, Tensor]:
    """int64 [kept] for each axis from which the sub-network removes something."""
    keep = torch.cat([graph.check(subnet).keep, torch.ones(1, dtype=torch.bool, device="cpu")])  # id -1: always kept
    chosen = {axis: keep[graph.axes[axis]] for axis in graph.roles}
    return {axis: mask.nonzero()[:, 0] for axis, mask in chosen.items() if not bool(mask.all())}


def slice_axes(tensor: Tensor, name: str, kept: Mapping[Axis, Tensor]) -> Tensor:
    """The part of a tensor that a sub-network keeps; differentiable. The tensor itself if that is all of it."""
    axes = [(dim, positions) for dim in range(tensor.ndim) if (positions := kept.get((name, dim))) is not None]
    for dim, positions in sorted(axes, key=lambda axis: len(axis[1]) / tensor.shape[axis[0]]):  # the least to copy
        count, last = len(positions), int(positions[-1])
        if int(positions[0]) + count - 1 == last:  # a run: a view instead of a copy
            tensor = tensor.narrow(dim, int(positions[0]), count)
        else:
            tensor = tensor.index_select(dim, positions.to(tensor.device))
    return tensor


def _owned(part: Tensor, parent: Tensor) -> Tensor:
    """A copy of a part of a tensor, channels last where the parent is: selecting positions loses that."""
    for dims, layout in ((4, torch.channels_last), (5, torch.channels_last_3d)):
        if parent.ndim == dims and not parent.is_contiguous() and parent.is_contiguous(memory_format=layout):
            return part.clone(memory_format=layout)
    return part.clone(memory_format=torch.preserve_format)


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
    small = {name: _owned(slice_axes(tensor.detach(), name, kept), tensor) for name, tensor in tensors.items()}
    return resized_copy(model, small, graph.sizes_of(subnet))
