"""Puts a trained sub-network back into its parent (the updater of figure 1, line 12 of Algorithm 2)."""

import torch
from torch import nn

from widthwise.channels import ChannelGraph, Subnet
from widthwise.subnet.materialize import kept_positions
from widthwise.subnet.resize import tensors_of

__all__ = ["put_back"]


@torch.no_grad()
def put_back(parent: nn.Module, graph: ChannelGraph, subnet: Subnet, small: nn.Module) -> None:
    """Write the tensors of a sub-network (from ``materialize``) over its part of the parent's, batch norms included.

    What the sub-network has not stays as it is.
    """
    kept, theirs = kept_positions(graph, subnet), tensors_of(small)
    for name, tensor in tensors_of(parent).items():
        places = [kept.get((name, dim), torch.arange(size)).to(tensor.device) for dim, size in enumerate(tensor.shape)]
        if places:
            tensor[torch.meshgrid(*places, indexing="ij")] = theirs[name].to(tensor)
        else:
            tensor.copy_(theirs[name])
