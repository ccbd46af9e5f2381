"""A sub-network on slices of its parent's parameters: gradients land in the parent."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from widthwise.channels.graph import ChannelGraph
from widthwise.channels.subnet import Subnet
from widthwise.subnet.materialize import checked_tensors, kept_positions, slice_axes
from widthwise.subnet.resize import attribute_changes, call_with

__all__ = ["shared"]


class shared:  # noqa: N801 - reads as the function that it is to its callers
    """``shared(model, graph, subnet)(*inputs)``: run the sub-network with the parent's own parameters.

    Any traced network is a super-net this way, without special layers. The parent's batch-norm statistics are
    sliced copies: in training mode the sub-network normalises with its batch, and the parent's statistics stay as
    they are. While a call runs, the parent's attributes (a depthwise convolution's number of groups) are changed, so
    two threads must not run one parent at once.

    Args:
        model: the traced model, or another with the same tensors.
        graph: from :func:`widthwise.trace`.
        subnet: what to keep.
        modules: paths of the modules that will run, if not all: only their tensors are sliced.
        tensors: values to use in place of some of the model's own, by name, of the full shapes.
    """

    def __init__(
        self,
        model: nn.Module,
        graph: ChannelGraph,
        subnet: Subnet,
        *,
        modules: Collection[str] | None = None,
        tensors: Mapping[str, Tensor] | None = None,
    ) -> None:
        self._model = model
        self._kept = kept_positions(graph, subnet)
        own = checked_tensors(model, graph)
        if modules is not None:
            own = {name: tensor for name, tensor in own.items() if name.rpartition(".")[0] in modules}
        self._tensors = {name: (tensors or {}).get(name, tensor) for name, tensor in own.items()}
        self._buffers = {name for name, tensor in own.items() if not isinstance(tensor, nn.Parameter)}
        old = {name: tensor.shape for name, tensor in own.items()}
        new = {name: slice_axes(tensor.detach(), name, self._kept).shape for name, tensor in own.items()}
        changes = attribute_changes(model, old, new, graph.sizes_of(subnet))
        self._changes = [(m, a, getattr(m, a), value) for m, a, value in changes]

    def parameters(self) -> dict[str, Tensor]:
        """The slices, by name: views or copies through which gradients reach the parent; copies of buffers."""
        return {
            name: slice_axes(tensor.detach().clone() if name in self._buffers else tensor, name, self._kept)
            for name, tensor in self._tensors.items()
        }

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
        with self._resized():
            return call_with(self._model, self.parameters(), args, kwargs)
