"""A sub-network on slices of its parent's parameters: gradients land in the parent."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from widthwise.channels.graph import ChannelGraph
from widthwise.channels.subnet import Subnet
from widthwise.subnet.materialize import checked_tensors, kept_positions, slice_axes
from widthwise.subnet.resize import attribute_changes, exchanged, places_of, sized_modules, tensors_of

__all__ = ["SuperNet", "shared"]


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

    def subnet(
        self, subnet: Subnet, modules: Collection[str] | None = None, tensors: Mapping[str, Tensor] | None = None
    ) -> "shared":
        """One of its sub-networks; see :class:`shared`."""
        return shared(self.model, self.graph, subnet, modules=modules, tensors=tensors, prepared=self)


class shared:  # noqa: N801 - reads as the function that it is to its callers
    """``shared(model, graph, subnet)(*inputs)``: run the sub-network with the parent's own parameters.

    Any traced network is a super-net this way, without special layers. The parent's batch-norm statistics are
    sliced copies: in training mode the sub-network normalises with its batch, and the parent's statistics stay as
    they are. While a call runs, the parent's tensors and attributes (a depthwise convolution's number of groups) are
    exchanged, so two threads must not run one parent at once.

    Args:
        model: the traced model, or another with the same tensors.
        graph: from :func:`widthwise.trace`.
        subnet: what to keep.
        modules: paths of the modules that will run, if not all: only their tensors are exchanged.
        tensors: values to use instead of some of the model's own, by name, of the full shapes.
        prepared: of this model and graph, where many sub-networks run one after the other.
    """

    def __init__(
        self,
        model: nn.Module,
        graph: ChannelGraph,
        subnet: Subnet,
        *,
        modules: Collection[str] | None = None,
        tensors: Mapping[str, Tensor] | None = None,
        prepared: SuperNet | None = None,
    ) -> None:
        self._parent = parent = prepared if prepared is not None else SuperNet(model, graph)
        self._instead = tensors or {}
        self._names = [n for n in parent.shapes if modules is None or n.rpartition(".")[0] in modules]
        self._kept = kept_positions(graph, subnet)
        old = {name: parent.shapes[name] for name in self._names}
        counts = {axis: len(positions) for axis, positions in self._kept.items()}
        new = {n: torch.Size(counts.get((n, d), size) for d, size in enumerate(old[n])) for n in old}
        changes = attribute_changes(model, old, new, graph.sizes_of(subnet), parent.sized)
        self._changes = [(m, a, getattr(m, a), value) for m, a, value in changes]

    def parameters(self) -> dict[str, Tensor]:
        """The slices, by name: views or copies through which gradients reach the parent; copies of buffers."""
        own = tensors_of(self._parent.model)
        found: dict[str, Tensor] = {}
        for name in self._names:
            tensor = self._instead.get(name, own[name])
            if not isinstance(own[name], nn.Parameter):
                tensor = tensor.detach().clone()
            found[name] = slice_axes(tensor, name, self._kept)
        return found

    @contextmanager
    def _resized(self) -> Iterator[None]:
        try:
            for module, attribute, _, value in self._changes:
                setattr(module, attribute, value)
            yield
        finally:
            for module, attribute, value, _ in self._changes:
                setattr(module, attribute, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the sub-network returns for these inputs."""
        with self._resized(), exchanged(self._parent.places, self.parameters()):
            return self._parent.model(*args, **kwargs)
