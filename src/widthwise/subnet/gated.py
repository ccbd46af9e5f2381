"""A sub-network as gates: full shapes, every consumer's input weights multiplied by one number per channel."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from widthwise.channels.graph import ChannelGraph
from widthwise.errors import SubnetMismatch
from widthwise.subnet.materialize import checked_tensors
from widthwise.subnet.resize import exchanged, places_of, tensors_of

__all__ = ["gated"]


class gated:  # noqa: N801 - reads as the function that it is to its callers
    """``gated(model, graph, gates)(*inputs)``: the full network with each channel scaled where it is consumed.

    Gates of zeros and ones give the sub-network exactly, whatever stands between the producer and the consumer:
    this is the *reference* that every other way to run a sub-network is compared with. Differentiable in the gates
    and in the parameters; shapes never change.

    Args:
        model: the traced model.
        graph: from :func:`widthwise.trace`.
        gates: float [channels].
    """

    def __init__(self, model: nn.Module, graph: ChannelGraph, gates: Float[Tensor, "channels"]) -> None:
        if gates.shape != (graph.num_channels,):
            raise SubnetMismatch(
                f"Gates are one number per channel, [{graph.num_channels}], but got {list(gates.shape)}."
            )
        checked_tensors(model, graph)
        self._model, self._graph, self.gates = model, graph, gates

    def parameters(self) -> dict[str, Tensor]:
        """The consumers' weights, each multiplied by the gates along its input axis."""
        tensors = tensors_of(self._model)
        gates = torch.cat([self.gates, self.gates.new_ones(1)])  # id -1: never gated
        changed: dict[str, Tensor] = {}
        for (name, dim), role in self._graph.roles.items():
            if role == "in":
                weight = changed.get(name, tensors[name])
                factor = gates.to(weight.device, weight.dtype)[self._graph.axes[name, dim].to(weight.device)]
                changed[name] = weight * factor.reshape([-1 if d == dim else 1 for d in range(weight.ndim)])
        return changed

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the gated network returns for these inputs."""
        with exchanged(places_of(self._model), self.parameters()):
            return self._model(*args, **kwargs)
