"""Tensors that a forward makes of nothing: one number everywhere, or memory to write to.

States of a recurrent cell, padding, results that are put together piece by piece. They have as many channels as what
they meet, so their positions are nobody's until then; whether the forward makes them narrower in a narrower network, as
it does where it asks a tensor or an attribute for the width, is for the proof to find out.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from widthwise.tracing.follow.found import Call

__all__ = ["Fills"]

_PARTS = frozenset(f"aten::{name}" for name in ("slice", "split", "split_with_sizes", "alias", "detach"))
"""Views with the dimensions of what they show."""

_PLACES = frozenset({"aten::select", "aten::unbind"})
"""Views without one dimension of what they show."""


class Fills:
    """Which tensors are fills, and what their views are views of."""

    def __init__(self) -> None:
        self._maker = WeakIdKeyDictionary()
        self._shown = WeakIdKeyDictionary()

    def __contains__(self, tensor: Tensor) -> bool:
        return tensor in self._maker

    def maker(self, tensor: Tensor) -> str:
        """Path of the module that made a fill."""
        path: str = self._maker[tensor]
        return path

    def see(self, call: Call, module: str) -> list[Tensor]:
        """Look at what an operation of a module made; returns the fills that it wrote to."""
        operands, written = call.operands(), list[Tensor]()
        for result in call.results():
            if any(result is operand for operand in operands):
                written += [result] if result in self else []
            elif not operands or call.name.startswith("aten::new_"):
                if _plain(result) and ("empty" in call.name or _uniform(result)):
                    self._maker[result] = module
            elif all(operand in self for operand in operands):
                self._follow(call, result, operands)
        return written

    def _follow(self, call: Call, result: Tensor, operands: list[Tensor]) -> None:
        """What is made of fills alone is one if it shows one of them, or is one number too."""
        shown = next((operand for operand in operands if _memory(operand) == _memory(result)), None)
        if shown is None and not _uniform(result):
            return
        self._maker[result] = self._maker[operands[0]]
        if shown is not None and call.name in _PARTS | _PLACES:
            self._shown[result] = shown, call["dim"] % shown.ndim if call.name in _PLACES else None

    def open(self, tensor: Tensor) -> Iterator[tuple[Tensor, int | None]]:
        """Forget a fill that holds something now, and each that it shows a part of, from the inside to the outside.

        Yields the latter, with the dimension that the view of it lacks, if any.
        """
        del self._maker[tensor]
        while tensor in self._shown:
            tensor, dim = self._shown[tensor]
            self._maker.pop(tensor, None)
            yield tensor, dim


def _plain(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and not tensor.is_meta and tensor.numel() > 1


def _uniform(tensor: Tensor) -> bool:
    return _plain(tensor) and bool((tensor == tensor.flatten()[0]).all())


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
