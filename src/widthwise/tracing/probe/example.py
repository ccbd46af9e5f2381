"""Example inputs, and others of the same form."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from widthwise.tracing.probe.nested import tensors_in

__all__ = ["Example", "as_example"]


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

    def noise(self) -> "Example":
        """A copy with noise in the range of each floating input: a blank image hides most mistakes behind it."""
        generator = torch.Generator().manual_seed(1)

        def noise(tensor: Tensor) -> Tensor:
            if not tensor.is_floating_point() or not tensor.numel():
                return tensor
            low, high = (float(t) for t in tensor.detach().aminmax())
            uniform = torch.rand(tensor.shape, generator=generator).to(tensor.device, tensor.dtype)
            return uniform * ((high - low) or 1.0) + low

        return self.mapped(noise)

    def twice(self) -> "Example":
        """A batch of two: batch norm cannot train on one value per channel."""
        return self.mapped(lambda tensor: torch.cat([tensor, tensor]) if tensor.ndim else tensor)


def as_example(inputs: Any) -> Example:
    """A tensor is one argument, a tuple or list positional arguments, a mapping keyword arguments."""
    if isinstance(inputs, Mapping):
        return Example((), dict(inputs))
    return Example(tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,), {})
