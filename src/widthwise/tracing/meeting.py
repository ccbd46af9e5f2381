"""Operands that meet position by position, as broadcasting pairs them: what is pointwise, read and written.

Positions that meet are removed together; what is fixed on one side and not spread there stays on the other.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from torch import Tensor

from widthwise.channels import Reason
from widthwise.tracing.flow import Call, Flow
from widthwise.tracing.labels import Layers, along, varying
from widthwise.tracing.reasons import FIXED

__all__ = ["Side", "meet", "pointwise", "side"]


@dataclass(frozen=True)
class Side:
    """One of the tensors that meet."""

    shape: tuple[int, ...]
    spread: tuple[bool, ...]
    """Whether the tensor is expanded along each dimension: then it can follow what it meets."""
    layers: Layers

    def padded(self, ndim: int) -> "Side":
        """The same with dimensions of size one in front."""
        extra = ndim - len(self.shape)
        layers = tuple(layer.reshape((1,) * extra + tuple(layer.shape)) for layer in self.layers)
        return Side((1,) * extra + self.shape, (True,) * extra + self.spread, layers)

    def without(self, flow: Flow, dims: Collection[int], reason: Reason) -> "Side":
        """The same where these dimensions do not meet anything; what varies along them is pinned."""
        for layer in self.layers:
            if any(along(layer, d) for d in dims):
                flow.pin(layer, reason)
        kept = tuple(layer for layer in self.layers if not any(along(layer, d) for d in dims))
        shape = tuple(1 if d in dims else n for d, n in enumerate(self.shape))
        return Side(shape, tuple(d in dims or s for d, s in enumerate(self.spread)), kept)


def side(flow: Flow, tensor: Tensor) -> Side:
    """A tensor as it is."""
    return Side(tuple(tensor.shape), tuple(stride == 0 for stride in tensor.stride()), flow.layers(tensor))


def meet(flow: Flow, ndim: int, sides: Sequence[Side]) -> list[Tensor]:
    """Unite the layers of all sides; returns those of the result, which has ``ndim`` dimensions."""
    sides = [s.padded(ndim) for s in sides]
    merged: list[Tensor] = []
    for layer in (layer for s in sides for layer in s.layers):
        merged = flow.meet(merged, layer)
    for layer in merged:
        dims = varying(layer)
        for s in sides:
            met = any(along(other, d) for other in s.layers for d in dims)
            if not met and any(s.shape[d] > 1 and not s.spread[d] for d in dims):
                flow.pin(layer, FIXED)
    return merged


def pointwise(flow: Flow, call: Call) -> None:
    """Positions that meet are removed together, as broadcasting pairs them."""
    for result in call.results():
        flow.put(result, *meet(flow, result.ndim, [side(flow, t) for t in call.operands()]))
