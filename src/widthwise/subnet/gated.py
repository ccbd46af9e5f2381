"""A sub-network as gates: full shapes, every consumer's input weights multiplied by one number per channel."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from widthwise.channels.graph import Axis, ChannelGraph
from widthwise.errors import SubnetMismatch
from widthwise.subnet.materialize import checked_tensors
from widthwise.subnet.resize import exchanged, places_of, tensors_of

__all__ = ["gated", "multiplied"]


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
        if not isinstance(gates, Tensor) or gates.shape != (graph.num_channels,):
            got = list(gates.shape) if isinstance(gates, Tensor) else f"a {type(gates).__name__}"
            raise SubnetMismatch(
                f"Gates are a tensor of one number per channel, [{graph.num_channels}], but got {got}; those of a "
                "sub-network are subnet.keep.float()."
            )
        checked_tensors(model, graph)
        self._model, self._graph, self.gates = model, graph, gates

    def parameters(self) -> dict[str, Tensor]:
        """The consumers' weights, each multiplied by the gates along its input axis."""
        axes = {axis: self._graph.axes[axis] for axis, role in self._graph.roles.items() if role == "in"}
        return multiplied(tensors_of(self._model), axes, self.gates)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the gated network returns for these inputs."""
        with exchanged(places_of(self._model), self.parameters()):
            return self._model(*args, **kwargs)


def multiplied(
    tensors: Mapping[str, Tensor], axes: Mapping[Axis, Int64[Tensor, "_"]], gates: Float[Tensor, "channels"]
) -> dict[str, Tensor]:
    """Tensors of which some axes are multiplied by one number per channel, by name; differentiable in both.

    Args:
        tensors: by name, those of the axes at least.
        axes: the channel at each position; -1 is not multiplied.
        gates: float [channels].
    """
    gates = torch.cat([gates, gates.new_ones(1)])  # id -1
    changed: dict[str, Tensor] = {}
    for (name, dim), ids in axes.items():
        tensor = changed.get(name, tensors[name])
        along = gates.to(tensor.device, tensor.dtype)[ids.to(tensor.device)]
        changed[name] = tensor * along.reshape([-1 if d == dim else 1 for d in range(tensor.ndim)])
    return changed
