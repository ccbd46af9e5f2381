"""Where a model lies and in which type, changed for a training and put back after it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from widthwise.evaluate.modes import placement

__all__ = ["lent", "placed"]

_HALF = (torch.float16, torch.bfloat16)


@contextmanager
def placed(
    model: nn.Module, device: torch.device, *, channels_last: bool = False, dtype: torch.dtype | None = None
) -> Iterator[None]:
    """Moves `model` to `device`, 4-d weights to channels_last if asked, floating tensors to `dtype` if given.

    Without `dtype`, a model with half-precision tensors is moved to float32.

    On leaving, every parameter and buffer goes back to its own device and type, and to contiguous memory where it
    was contiguous; values stay. Parameters remain the same objects.
    """
    before = [(t.device, t.dtype, t.is_contiguous()) for _, _, t in _tensors(model)]
    model.to(device)
    if dtype is not None:
        model.to(dtype)
    elif any(found in _HALF for _, found, _ in before):
        model.float()
    if channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    try:
        yield
    finally:
        for (group, name, tensor), (home, found, contiguous) in zip(_tensors(model), before, strict=True):
            value = tensor.detach().to(home, found)
            _put(group, name, value.contiguous() if contiguous else value)


def lent(model: nn.Module, device: torch.device) -> AbstractContextManager[None]:
    """`model` on `device` inside, in its own type; where it lies on such a device already, nothing is moved."""
    home, dtype = placement(model)
    return nullcontext() if home.type == device.type else placed(model, device, dtype=dtype)


def _put(group: dict[str, Tensor], name: str, value: Tensor) -> None:
    tensor = group[name]
    tensor.grad = None  # of the device and type that it leaves
    if isinstance(tensor, nn.Parameter):
        tensor.data = value
    else:
        group[name] = value


def _tensors(model: nn.Module) -> list[tuple[dict[str, Tensor], str, Tensor]]:
    """Every parameter and buffer of every module, with the dictionary that holds it."""
    groups = [group for module in model.modules() for group in (module._parameters, module._buffers)]
    return [(group, name, tensor) for group in groups for name, tensor in group.items() if tensor is not None]  # type: ignore[misc]
