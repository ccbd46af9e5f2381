"""What every measurement shares: modes that are restored, precision, and how a batch is read."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from widthwise.errors import ConfigError

__all__ = [
    "Left",
    "Precision",
    "autocast",
    "check_precision",
    "evaluating",
    "images_of",
    "leaving",
    "logits_of",
    "normalising_by_batch",
    "placement",
    "random_state_kept",
]

Precision = Literal["fp32", "bf16", "fp16"]
"""In which type convolutions and linear layers are computed; the weights keep their own."""

_AUTOCAST_TYPE: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


def check_precision(precision: str) -> None:
    """Raises ConfigError unless `precision` is one of `Precision`."""
    if precision not in get_args(Precision):
        raise ConfigError(f"precision must be one of {', '.join(get_args(Precision))}, but got {precision!r}")


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """The automatic mixed precision of `precision` on `device`; nothing at all for fp32."""
    check_precision(precision)
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=_AUTOCAST_TYPE[precision])


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Puts every module into evaluation mode, and each back into its own mode afterwards.

    Modules with a `train` of their own are told of both changes (some look up attention biases then). Whatever they
    make of it (frozen norms), the flags themselves are written directly.
    """
    flags = [(module, module.training) for module in model.modules()]
    listens = any(type(module).train is not nn.Module.train for module, _ in flags)
    before = model.training
    try:
        _switch(model, [(module, False) for module, _ in flags], mode=False if listens else None)
        yield
    finally:
        _switch(model, flags, mode=before if listens else None)


@contextmanager
def normalising_by_batch(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, but batch norms normalise with the statistics of the batch, as in training.

    On a large batch that recalibrates any sub-network at no cost. Running statistics change.
    """
    with evaluating(model):
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.training = True  # `evaluating` puts it back
        yield


def _switch(model: nn.Module, flags: list[tuple[nn.Module, bool]], mode: bool | None) -> None:
    if mode is not None:
        model.train(mode)
    for module, flag in flags:
        module.training = flag


@contextmanager
def random_state_kept(device: torch.device) -> Iterator[None]:
    """Gives back the state of torch's global generators, of the CPU and of `device`, on leaving."""
    devices = [device.index or 0] if device.type not in ("cpu", "mps") else []
    with torch.random.fork_rng(devices, device_type=device.type if devices else "cuda"):
        yield


class Left(Exception):
    """A forward was left on purpose; behind a call, with what that returned."""

    def __init__(self, result: Any = None) -> None:
        self.result = result


@contextmanager
def leaving(module: nn.Module, call: int) -> Iterator[None]:
    """Leaves the forward that runs inside by raising `Left` behind one call of a module; the first is 1."""
    count = 0

    def leave(_: nn.Module, __: object, out: object) -> None:
        nonlocal count
        count += 1
        if count == call:
            raise Left(out)

    with module.register_forward_hook(leave):
        yield


def placement(model: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Device and floating type of the first floating parameter (or buffer); CPU and float32 without any."""
    for group in (model.parameters(), model.buffers()):
        for tensor in group:
            if tensor.is_floating_point():
                return tensor.device, tensor.dtype
    return torch.device("cpu"), torch.float32


def images_of(batch: object) -> Tensor:
    """The images of one batch: the tensor itself, or the first element of a tuple, list or mapping.

    Raises:
        ConfigError: there is no tensor at that place.
    """
    first = batch
    if isinstance(batch, Mapping):
        first = next(iter(batch.values()), None)
    elif isinstance(batch, tuple | list):
        first = batch[0] if batch else None
    if not isinstance(first, Tensor) or first.ndim < 1:
        raise ConfigError(
            "a batch must be a tensor of images, or a tuple, list or mapping whose first element is one, "
            f"but got {type(batch).__name__} with {type(first).__name__} in first place"
        )
    return first


def logits_of(output: object) -> Tensor:
    """The class scores ``[batch, classes]`` in what a model returned.

    A tuple's first element counts: torchvision's networks with auxiliary heads put the main head there.

    Raises:
        ConfigError: there is no such tensor.
    """
    first = output[0] if isinstance(output, tuple) and output else output
    if not isinstance(first, Tensor) or first.ndim != 2:
        got = f"shape {tuple(first.shape)}" if isinstance(first, Tensor) else type(first).__name__
        raise ConfigError(
            f"a classifier must return class scores of shape [batch, classes] (or a tuple that starts with "
            f"them), but got {got}; wrap the model in a module that returns its logits"
        )
    return first
