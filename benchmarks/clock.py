"""How much of a run lies in forward and backward passes: the rest is what a tool adds to them."""

from contextlib import ExitStack
from time import perf_counter
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

__all__ = ["PassClock"]


class PassClock:
    """A context manager that adds up the time of all forward and backward passes of this process inside it.

    A forward pass is a call of a module that no other module makes. On an accelerator each is waited for, which costs
    something that is counted as outside.
    """

    def __init__(self) -> None:
        self.forward = self.backward = self.whole = 0.0
        """Seconds."""
        self._depth, self._began = 0, 0.0
        self._stack = ExitStack()

    @property
    def outside(self) -> float:
        """The share of the whole that lies outside of passes, in [0, 1]."""
        return 1 - (self.forward + self.backward) / self.whole

    def __enter__(self) -> "PassClock":
        for handle in (
            register_module_forward_pre_hook(self._enter),
            register_module_forward_hook(self._leave, always_call=True),
        ):
            self._stack.callback(handle.remove)
        self._stack.enter_context(patch.object(Tensor, "backward", self._timed(Tensor.backward)))
        self._start = _now()
        return self

    def __exit__(self, *exception: object) -> None:
        self.whole = _now() - self._start
        self._stack.close()

    def _enter(self, module: nn.Module, inputs: Any) -> None:
        if self._depth == 0:
            self._began = _now()
        self._depth += 1

    def _leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._depth -= 1
        if self._depth == 0:
            self.forward += _now() - self._began

    def _timed(self, backward: Any) -> Any:
        def timed(tensor: Tensor, *args: Any, **kwargs: Any) -> None:
            start = _now()
            backward(tensor, *args, **kwargs)
            self.backward += _now() - start

        return timed


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return perf_counter()
