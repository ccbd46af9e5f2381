"""Example inputs, and others of the same form."""

import copy
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from widthwise.tracing.probe.nested import tensors_in

__all__ = ["Example", "Kind", "as_example"]


@dataclass(frozen=True)
class Example:
    """Example inputs: positional and keyword arguments."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def mapped(self, change: Callable[[Tensor], Tensor]) -> "Example":
        """A copy with other tensors, wherever they stand in it (also inside objects)."""
        inputs = (self.args, dict(self.kwargs))
        return Example(*copy.deepcopy(inputs, {id(t): change(t) for t in tensors_in(inputs)}))

    def cast(self, dtype: torch.dtype | None = None) -> "Example":
        """A copy with floating inputs of another type, if one is given."""

        def cast(tensor: Tensor) -> Tensor:
            tensor = tensor.detach().clone()
            return tensor.to(dtype) if dtype and tensor.is_floating_point() else tensor

        return self.mapped(cast)

    def kinds(self) -> frozenset["Kind"]:
        """What :meth:`noise` could draw anew here."""
        return frozenset(kind for tensor in tensors_in((self.args, self.kwargs)) if (kind := _kind(tensor)))

    def noise(self, kinds: Collection["Kind"]) -> "Example":
        """A copy with noise of these kinds of inputs: a blank image hides most mistakes behind it.

        Numbers and bytes are drawn in their range, or where there is but one value in [value, value + 1] and 0 to 255.
        Masks are drawn where they are blank. Other integers stay: they may be indices, lengths or an order.
        """
        generator = torch.Generator().manual_seed(1)

        def noise(tensor: Tensor) -> Tensor:
            kind = _kind(tensor)
            if kind not in kinds:
                return tensor
            uniform = torch.rand(tensor.shape, generator=generator)
            if kind == "masks":
                return (uniform < 0.5).to(tensor.device)
            low, high = (float(t) for t in tensor.detach().aminmax())
            if kind == "numbers":
                return uniform.to(tensor.device, tensor.dtype) * ((high - low) or 1.0) + low
            low, high = (0.0, 255.0) if low == high else (low, high)
            return (uniform * (high - low + 1) + low).clamp(max=high).to(tensor.device, tensor.dtype)

        return self.mapped(noise)

    def twice(self) -> "Example":
        """A batch of two: batch norm cannot train on one value per channel."""
        return self.mapped(lambda tensor: torch.cat([tensor, tensor]) if tensor.ndim else tensor)


def as_example(inputs: Any) -> Example:
    """A tensor is one argument, a tuple or list positional arguments, a mapping keyword arguments."""
    if isinstance(inputs, Mapping):
        return Example((), dict(inputs))
    return Example(tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,), {})


Kind = Literal["numbers", "bytes", "masks"]
"""Inputs that may be drawn anew: floating ones, images of bytes, and masks that hide nothing, or all."""


def _kind(tensor: Tensor) -> Kind | None:
    """None for what has to stay as it is."""
    if not tensor.numel():
        return None
    if tensor.is_floating_point():
        return "numbers"
    if tensor.dtype == torch.uint8:
        return "bytes" if tensor.ndim else None
    blank = tensor.dtype == torch.bool and tensor.numel() > 1 and bool(tensor.all() == tensor.any())
    return "masks" if blank else None
