"""MetaPruning (Liu et al. 2019): a network that generates the weights of any sub-network from its widths."""

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from widthwise.channels import ChannelGraph, Subnet
from widthwise.evaluate.modes import logits_of
from widthwise.subnet import SuperNet, materialize
from widthwise.subnet.resize import tensors_of
from widthwise.supernet.sampling import Sampler
from widthwise.train.objective import Outcome, Step

__all__ = ["MetaObjective", "PruningNet"]


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


class MetaObjective:
    """MetaPruning's training of a :class:`PruningNet`, as an :class:`~widthwise.train.Objective`.

    A step: one random sub-network with the weights that are generated for it, on the labels. The gradients reach the
    generators, and the model's own tensors that are not generated.

    Args:
        network: the model whose other tensors are shared.
        generator: makes the weights.
        sampler: draws the sub-networks.
        label_smoothing: of the cross-entropy.
    """

    one_pass = False
    frozen: tuple[nn.Module, ...] = ()

    def __init__(
        self, network: SuperNet, generator: PruningNet, sampler: Sampler, *, label_smoothing: float = 0.0
    ) -> None:
        self.network, self.own, self.sampler, self._smoothing = network, generator, sampler, label_smoothing

    def describe(self) -> dict[str, Any]:
        """What decides the outcome beside the training's settings."""
        return {"objective": "meta", "hidden": self.own.hidden}

    def step(self, step: Step) -> Outcome:
        """One sub-network."""
        subnet = self.sampler.layerwise(step.seed)
        with step.autocast():
            logits = logits_of(self.network.subnet(subnet, tensors=self.own(subnet))(step.images))
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        loss = F.cross_entropy(logits, step.labels, label_smoothing=self._smoothing)
        step.backward(loss)
        return Outcome(logits=logits.detach(), loss=loss.detach())
