"""A sub-network on slices of its parent's parameters: gradients land in the parent."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from widthwise.channels.graph import ChannelGraph
from widthwise.channels.subnet import Subnet
from widthwise.subnet.materialize import checked_tensors, kept_positions, slice_axes
from widthwise.subnet.resize import (
    attribute_changes,
    derives,
    exchanged,
    own_tensor,
    places_of,
    refresh,
    sized_modules,
)

__all__ = ["SharedSubnet", "SuperNet", "shared"]


class SuperNet:
    """A traced network, prepared once, so that changing from one sub-network to the next costs little.

    Args:
        model: the traced model, or another with the same tensors. Their values may change afterwards, and their
            device, but no module may be exchanged for another.
        graph: from :func:`widthwise.trace`.
    """

    def __init__(self, model: nn.Module, graph: ChannelGraph) -> None:
        self.model, self.graph = model, graph
        self.shapes = {name: tensor.shape for name, tensor in checked_tensors(model, graph).items()}
        self.places = places_of(model)
        self.sized = sized_modules(model)
        self.derives = derives(model)

    def subnet(
        self,
        subnet: Subnet,
        *,
        modules: Collection[str] | None = None,
        tensors: Mapping[str, Tensor] | None = None,
    ) -> "SharedSubnet":
        """One of its sub-networks, to be called.

        Args:
            subnet: what to keep.
            modules: paths of the modules that will run, if not all: only their tensors are exchanged.
            tensors: values to use instead of some of the model's own, by name, of the full shapes.
        """
        return SharedSubnet(self, subnet, modules, tensors or {})


class SharedSubnet:
    """A sub-network on its parent's parameters; from :meth:`SuperNet.subnet` or :func:`shared`."""

    def __init__(
        self, parent: SuperNet, subnet: Subnet, modules: Collection[str] | None, instead: Mapping[str, Tensor]
    ) -> None:
        self._parent, self._instead = parent, instead
        self._names = [n for n in parent.shapes if modules is None or n.rpartition(".")[0] in modules]
        self.kept = kept_positions(parent.graph, subnet, None if modules is None else set(self._names))
        """int64 [kept] for each axis from which something is removed."""
        self.sizes = parent.graph.sizes_of(subnet)
        """Values of attributes that follow the channels, by ``"module.attribute"``."""
        old = {name: parent.shapes[name] for name in self._names}
        counts = {axis: len(positions) for axis, positions in self.kept.items()}
        new = {n: torch.Size(counts.get((n, d), size) for d, size in enumerate(old[n])) for n in old}
        changes = attribute_changes(parent.model, old, new, self.sizes, parent.sized)
        self._changes = [(m, a, getattr(m, a), value) for m, a, value in changes]

    def parameters(self) -> dict[str, Tensor]:
        """The slices, by name: views or copies through which gradients reach the parent; copies of buffers."""
        found: dict[str, Tensor] = {}
        for name in self._names:
            own = own_tensor(self._parent.places, name)
            tensor = self._instead.get(name, own)
            if not isinstance(own, nn.Parameter):
                tensor = tensor.detach().clone()
            found[name] = slice_axes(tensor, name, self.kept)
        return found

    @contextmanager
    def applied(self) -> Iterator[nn.Module]:
        """The parent itself, with this sub-network's tensors and sizes inside, and its own again after."""
        try:
            for module, attribute, _, value in self._changes:
                setattr(module, attribute, value)
            with exchanged(self._parent.places, self.parameters()):
                self._refresh()
                yield self._parent.model
        finally:
            for module, attribute, value, _ in self._changes:
                setattr(module, attribute, value)
            self._refresh()

    def _refresh(self) -> None:
        if self._parent.derives:
            refresh(self._parent.model)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the sub-network returns for these inputs."""
        with self.applied() as model:
            return model(*args, **kwargs)


def shared(model: nn.Module, graph: ChannelGraph, subnet: Subnet) -> SharedSubnet:
    """``shared(model, graph, subnet)(*inputs)``: run the sub-network with the parent's own parameters.

    Any traced network is a super-net this way, without special layers. The parent's batch-norm statistics are
    sliced copies: in training mode the sub-network normalises with its batch, and the parent's statistics stay as
    they are. While a call runs, the parent's tensors and attributes (a depthwise convolution's number of groups) are
    exchanged, so two threads must not run one parent at once. Where many sub-networks run one after the other, make
    one :class:`SuperNet` and take them from there.

    Args:
        model: the traced model, or another with the same tensors.
        graph: from :func:`widthwise.trace`.
        subnet: what to keep.

    Raises:
        SubnetMismatch: the sub-network is not of this graph, or the graph not of this model.
    """
    return SuperNet(model, graph).subnet(subnet)
