"""A learned weight per filter (joint search-and-training, section 3.3).

The paper multiplies filters by a softmax over the weights of their layer (equation 6). Two things are done differently
by default. A batch norm behind a filter takes any factor back, and with it the gradient of the weight; so the factor
stands where the channel is consumed, behind the norm (``placement="filters"`` is the paper's). And the softmax is
multiplied by the number of channels, so that equal weights mean the network without any.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from widthwise.channels import Axis, ChannelGraph, Subnet
from widthwise.channels.graph import Role
from widthwise.subnet.gated import multiplied
from widthwise.subnet.resize import exchanged, places_of, tensors_of

__all__ = ["FilterWeights", "Placement", "Weighted", "softmax_within"]

Placement = Literal["consumers", "filters"]

_ROLES: dict[Placement, Role] = {"consumers": "in", "filters": "out"}
"""What the axes that are multiplied are to their channels."""


class FilterWeights(nn.Module):
    """alpha, one number per channel; coupled members share it.

    Drawn as Kaiming's normal distribution gives them for one row per group: standard deviation sqrt(2 / width).

    Args:
        graph: whose channels.
        placement: where the factor stands.
        seed: of the draw.
    """

    def __init__(self, graph: ChannelGraph, placement: Placement = "consumers", *, seed: int = 0) -> None:
        super().__init__()
        self._graph, self.placement = graph, placement
        drawn = torch.randn(graph.num_channels, generator=torch.Generator().manual_seed(seed))
        self.alpha = nn.Parameter(drawn * (2 / graph.full_widths[graph.channels]).sqrt())

    def shares(self, kept: Bool[Tensor, "channels"]) -> Float[Tensor, "channels"]:
        """The softmax of equations 6 and 7 over the kept channels of each group; zero for the others."""
        return softmax_within(self._graph, self.alpha.masked_fill(~kept.to(self.alpha.device), -torch.inf))

    def factors(self, subnet: Subnet) -> Float[Tensor, "channels"]:
        """What each channel is multiplied by: its share times the kept channels of its group, one on average."""
        return self.shares(subnet.keep) * self._graph.widths(subnet)[self._graph.channels].to(self.alpha.device)

    def penalty(self) -> Float[Tensor, ""]:
        """The Euclidean norm of all weights (equation 1, without lambda)."""
        norm: Tensor = torch.linalg.vector_norm(self.alpha)
        return norm


def softmax_within(graph: ChannelGraph, scores: Float[Tensor, "channels"]) -> Float[Tensor, "channels"]:
    """A softmax over the channels of each group; differentiable. A channel with the score -inf has no share."""
    group, count = graph.channels.to(scores.device), len(graph.prunable)
    highest = scores.new_full((count,), -torch.inf).scatter_reduce(0, group, scores.detach(), "amax")
    powers = (scores - highest[group]).exp()
    return powers / powers.new_zeros(count).index_add(0, group, powers)[group]


class Weighted:
    """A network of the graph, whole or materialised, in which each channel is multiplied by its factor.

    Args:
        network: the traced model, or what ``materialize`` made of it.
        graph: of the traced model.
        subnet: what the network keeps.
        weights: gives the factors.
    """

    def __init__(self, network: nn.Module, graph: ChannelGraph, subnet: Subnet, weights: FilterWeights) -> None:
        self.network, self.subnet, self.weights = network, subnet, weights
        self._places = places_of(network)
        self._axes = dict(_kept_axes(graph, subnet, _ROLES[weights.placement]))

    def tensors(self) -> dict[str, Tensor]:
        """The multiplied tensors by name, in the network's shapes; differentiable in both."""
        return multiplied(tensors_of(self.network), self._axes, self.weights.factors(self.subnet))

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The network's tensors are the multiplied ones inside, and its own again after."""
        with exchanged(self._places, self.tensors()):
            yield

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the weighted network returns for these inputs."""
        with self.applied():
            return self.network(*args, **kwargs)

    @torch.no_grad()
    def fold(self) -> None:
        """Multiply the network's tensors for good: it computes the same without weights from now on."""
        own = tensors_of(self.network)
        for name, tensor in self.tensors().items():
            own[name].copy_(tensor)


def _kept_axes(graph: ChannelGraph, subnet: Subnet, role: Role) -> Iterator[tuple[Axis, Tensor]]:
    """For each parameter's axis of a role the channel at each position that a sub-network keeps."""
    parameters: Mapping[str, nn.Parameter] = dict(graph.model.named_parameters())
    graph.check(subnet)
    for axis, its_role in graph.roles.items():
        if its_role == role and axis[0] in parameters:
            ids = graph.axes[axis]
            yield axis, ids[subnet.kept_at(ids)]
