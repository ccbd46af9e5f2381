"""Operands that meet position by position, as broadcasting pairs them: what is pointwise, read and written.

Positions that meet are removed together; what is fixed on one side and not spread there stays on the other.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from torch import Tensor

from widthwise.channels import Reason
from widthwise.tracing.follow import Call, Flow
from widthwise.tracing.follow.labels import Layers, along, varying
from widthwise.tracing.follow.reasons import FIXED

__all__ = ["Side", "meet", "pointwise", "side"]

_SUMS = frozenset(f"aten::{name}" for name in ("add", "sub", "rsub", "lerp", "where", "maximum", "minimum"))
"""Operations that make of two weights one to which both contribute; one factor of a product is enough to silence it."""


@dataclass(frozen=True)
class Side:
    """One of the tensors that meet."""

    shape: tuple[int, ...]
    spread: tuple[bool, ...]
    """Whether the tensor is one number along each dimension (expanded, a fill): then it can follow what it meets."""
    layers: Layers
    maker: str | None = None
    """Of a fill, the path of the module that made it."""

    def padded(self, ndim: int) -> "Side":
        """The same with dimensions of size one in front."""
        extra = ndim - len(self.shape)
        layers = tuple(layer.reshape((1,) * extra + tuple(layer.shape)) for layer in self.layers)
        return Side((1,) * extra + self.shape, (True,) * extra + self.spread, layers, self.maker)

    def without(self, flow: Flow, dims: Collection[int], reason: Reason) -> "Side":
        """The same where these dimensions do not meet anything; what varies along them is pinned."""
        for layer in self.layers:
            if any(along(layer, d) for d in dims):
                flow.pin(layer, reason)
        kept = tuple(layer for layer in self.layers if not any(along(layer, d) for d in dims))
        shape = tuple(1 if d in dims else n for d, n in enumerate(self.shape))
        return Side(shape, tuple(d in dims or s for d, s in enumerate(self.spread)), kept, self.maker)


def side(flow: Flow, tensor: Tensor) -> Side:
    """A tensor as it is."""
    maker = flow.fills.maker(tensor) if tensor in flow.fills else None
    spread = tuple(maker is not None or stride == 0 for stride in tensor.stride())
    return Side(tuple(tensor.shape), spread, flow.layers(tensor), maker)


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
            elif not met and s.maker is not None and len(dims) == 1 and s.shape[dims[0]] > 1:
                flow.sizes.hold_any(s.maker, layer.reshape(-1))
    return merged


def pointwise(flow: Flow, call: Call) -> None:
    """Positions that meet are removed together, as broadcasting pairs them."""
    operands = call.operands()
    for result in call.results():
        flow.put(result, *meet(flow, result.ndim, [side(flow, t) for t in operands]))
    if call.name.removesuffix("_") in _SUMS and all(flow.weight(t) for t in operands):
        for dim in range(-max(t.ndim for t in operands), 0):
            of_numbers = [(t, x) for t in operands if t.is_floating_point() for x in flow.layers(t)]
            flow.alike.append([x.reshape(-1) for t, x in of_numbers if varying(x) == (t.ndim + dim,)])
