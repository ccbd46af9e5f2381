"""MetaPruning (Liu et al. 2019): a network that generates the weights of any sub-network from its widths."""

import copy
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from widthwise.channels import ChannelGraph, Subnet
from widthwise.subnet import materialize
from widthwise.subnet.resize import tensors_of

__all__ = ["PruningNet"]


class PruningNet(nn.Module):
    """Two fully connected layers per weight: from the widths around it to all of its numbers, of which a part is kept.

    Weights are those of two dimensions and more (convolutions and linear layers) that lie in some prunable group; the
    input is, for each of these groups, the share of its channels that the sub-network keeps. Other tensors (batch
    norms, biases, layers without prunable channels) are the model's own, shared by all sub-networks.

    The generator starts out at the model's own weights, whatever the widths: the last layer's bias is the weight, and
    its matrix is small.

    Args:
        model: gives the shapes, and the weights to start from; not changed.
        graph: its trace.
        hidden: units of the hidden layer (the paper: 32).
    """

    def __init__(self, model: nn.Module, graph: ChannelGraph, hidden: int = 32) -> None:
        super().__init__()
        groups: dict[str, set[int]] = {}
        for index, group in enumerate(graph.prunable):
            for member in group.members:
                groups.setdefault(member.tensor, set()).add(index)
        own = dict(model.named_parameters())
        self._graph, self.hidden = graph, hidden
        self._inputs = {n: sorted(g) for n, g in groups.items() if n in own and own[n].ndim > 1}
        self._shapes = {name: own[name].shape for name in self._inputs}
        self.generators = nn.ModuleList()
        for name, indices in self._inputs.items():
            weight = own[name].detach()
            last = nn.Linear(hidden, weight.numel())
            nn.init.normal_(last.weight, std=weight.std().item() / math.sqrt(hidden))
            last.bias.data.copy_(weight.flatten())
            self.generators.append(nn.Sequential(nn.Linear(len(indices), hidden), nn.ReLU(), last))

    def forward(self, subnet: Subnet) -> dict[str, Tensor]:
        """The generated weights of a sub-network, by name, in their full shapes."""
        shares = self._graph.widths(subnet) / self._graph.full_widths
        found = {}
        for (name, indices), generator in zip(self._inputs.items(), self.generators, strict=True):
            found[name] = generator(shares[indices].to(next(generator.parameters()))).reshape(self._shapes[name])
        return found

    @torch.no_grad()
    def materialize(self, model: nn.Module, subnet: Subnet) -> nn.Module:
        """The sub-network with its generated weights, as a module of its own."""
        generated: Mapping[str, Tensor] = self(subnet)
        parent = copy.deepcopy(model)
        for name, tensor in tensors_of(parent).items():
            if name in generated:
                tensor.copy_(generated[name])
        return materialize(parent, self._graph, subnet)
