"""What a forward runs in: without gradients, with fixed random numbers, and leaving everything as it was."""

import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import _disable_current_modes

__all__ = ["buffers_kept", "in_parts", "making_on", "quiet", "random_state", "widened"]


def making_on(device: torch.device) -> AbstractContextManager[object]:
    """Where new tensors are made inside; nothing where that is so already, because it slows every operation down."""
    return nullcontext() if torch.get_default_device() == device else device


def random_state() -> list[bytes]:
    """What changes when torch draws a number; how many numpy and Python draw hardly hangs on widths."""
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return [state.numpy().tobytes() for state in (torch.get_rng_state(), *devices)]


@contextmanager
def buffers_kept(model: nn.Module) -> Iterator[None]:
    """Buffers that are written to inside (statistics) have their values back after."""
    with _disable_current_modes():  # to a flow that looks on, a copy is no use of a buffer
        before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        yield
    finally:
        with _disable_current_modes():
            for name, buffer in model.named_buffers():
                if name in before and before[name].shape == buffer.shape:
                    buffer.copy_(before[name])


@contextmanager
def quiet(seed: int) -> Iterator[None]:
    """No gradients, no autocast, and random numbers (torch's, numpy's, Python's) that leave no trace."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    cpu, cuda = torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False)
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=list(devices)), torch.no_grad(), cpu, cuda:
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextmanager
def in_parts(model: nn.Module) -> Iterator[None]:
    """Attention and recurrent layers in the operations that they are made of.

    Their fused kernels, of which there are a dozen, hide their products; and oneDNN's LSTM does not check its sizes, so
    that a wrong one is no error but the end of the process.
    """
    libraries: tuple[Any, ...] = (torch.backends.mkldnn, torch.backends.cudnn)
    fast = torch.backends.mha.get_fastpath_enabled()
    enabled = [library.enabled for library in libraries]
    torch.backends.mha.set_fastpath_enabled(False)
    if any(isinstance(module, nn.RNNBase) for module in model.modules()):
        for library in libraries:
            library.enabled = False
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for library, before in zip(libraries, enabled, strict=True):
            library.enabled = before


@contextmanager
def widened(model: nn.Module) -> Iterator[None]:
    """The single-precision tensors of each module are in double precision while it runs."""
    running: list[list[tuple[Tensor, Tensor]]] = []

    def widen(module: nn.Module, _: Any) -> None:
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        narrow = [(tensor, tensor.data) for tensor in own if tensor.dtype == torch.float32]
        running.append(narrow)
        for tensor, data in narrow:
            tensor.data = data.double()

    def narrow(*_: Any) -> None:
        for tensor, data in running.pop():
            tensor.data = data

    hooks = []
    for module in model.modules():
        if not isinstance(module, torch.jit.ScriptModule):
            hooks.append(module.register_forward_pre_hook(widen, prepend=True))
            hooks.append(module.register_forward_hook(narrow, always_call=True))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        while running:
            narrow()
