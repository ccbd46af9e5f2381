"""Tensors that a forward makes of nothing: one number everywhere, or memory to write to.

States of a recurrent cell, padding, results that are put together piece by piece. They have as many channels as what
they meet, so their positions are nobody's until then; whether the forward makes them narrower in a narrower network, as
it does where it asks a tensor or an attribute for the width, is for the proof to find out.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from widthwise.tracing.found import Call
from widthwise.tracing.labels import along, place
from widthwise.tracing.reasons import CUT

if TYPE_CHECKING:
    from widthwise.tracing.flow import Flow

__all__ = ["Fills"]

_PARTS = frozenset(f"aten::{name}" for name in ("slice", "split", "split_with_sizes", "alias", "detach"))
"""Views with the dimensions of what they show."""

_PLACES = frozenset({"aten::select", "aten::unbind"})
"""Views without one dimension of what they show."""


class Fills:
    """Which tensors of a flow are fills, and what their views are views of."""

    def __init__(self) -> None:
        self._maker = WeakIdKeyDictionary()
        """Path of the module that made each of them."""
        self._shown = WeakIdKeyDictionary()
        """What a view is a view of, and the dimension that it lacks, if any."""

    def __contains__(self, tensor: Tensor) -> bool:
        return tensor in self._maker

    def maker(self, tensor: Tensor) -> str | None:
        """Path of the module that made a fill, none of another tensor."""
        path: str | None = self._maker.get(tensor)
        return path

    def see(self, flow: "Flow", call: Call) -> None:
        """Look at what an operation made or wrote."""
        operands = call.operands()
        for result in call.results():
            if any(result is operand for operand in operands):
                if result in self and (len(operands) > 1 or flow.layers(result)):
                    self._written(flow, result)
            elif not operands or call.name.startswith("aten::new_"):
                if _plain(result) and ("empty" in call.name or _uniform(result)):
                    self._maker[result] = flow.module
            elif all(operand in self for operand in operands):
                self._follow(call, result, operands)

    def _follow(self, call: Call, result: Tensor, operands: list[Tensor]) -> None:
        """What is made of fills alone is one if it shows one of them, or is one number too."""
        shown = next((operand for operand in operands if _memory(operand) == _memory(result)), None)
        if shown is None and not _uniform(result):
            return
        self._maker[result] = self._maker[operands[0]]
        if shown is not None and call.name in _PARTS | _PLACES:
            self._shown[result] = shown, call["dim"] % shown.ndim if call.name in _PLACES else None

    def _written(self, flow: "Flow", tensor: Tensor) -> None:
        """What is written into a view is in what it shows, and neither is one number any more."""
        del self._maker[tensor]
        if tensor not in self._shown:
            return
        shown, dim = self._shown[tensor]
        merged = list(flow.layers(shown))
        for layer in flow.layers(tensor):
            layer = layer if dim is None else layer.unsqueeze(dim)
            if any(along(layer, d) and layer.shape[d] != n for d, n in enumerate(shown.shape)):
                flow.pin(layer, CUT)
            else:
                merged = flow.meet(merged, layer)
        flow.put(shown, *merged)
        if shown in self:
            self._written(flow, shown)

    def number(self, flow: "Flow", tensor: Tensor, dim: int) -> Tensor:
        """New nodes along one axis of a fill, int64 [size], because something else than a meeting reads it."""
        size = tensor.shape[dim]
        nodes = torch.arange(flow.num_nodes, flow.num_nodes + size)
        flow.num_nodes += size
        flow.put(tensor, *flow.layers(tensor), place(nodes, tensor.ndim, dim))
        flow.hold_any(nodes, self._maker[tensor])
        return nodes


def _plain(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and not tensor.is_meta and tensor.numel() > 1


def _uniform(tensor: Tensor) -> bool:
    return _plain(tensor) and bool((tensor == tensor.flatten()[0]).all())


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
