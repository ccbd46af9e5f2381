"""One forward pass as a list of module calls: which module ran inside which, and what it returned."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Call", "Record", "record"]


@dataclass(eq=False)
class Call:
    """One call of a module."""

    path: str
    number: int
    """The first call of its module is 1."""
    parent: "Call | None"
    """The call that it ran inside of; None for the model's own."""
    begin: int
    """How many calls were over when it began."""
    end: int = -1
    """Its place in the order in which calls ended; -1 while it runs."""
    shape: torch.Size | None = None
    """Of what it returned, if that is one floating tensor."""
    changed: bool = False
    """Whether something behind it changed that tensor in place."""


@dataclass(frozen=True, eq=False)
class Record:
    """The calls of one forward pass, in the order in which they ended; the last is the model's own."""

    calls: tuple[Call, ...]
    output: Any
    input_shape: tuple[int, ...]
    """Of the input, without the batch."""

    def before(self, call: Call) -> list[Call]:
        """The outermost calls that were over when this one ended, itself the last: those that a cut behind it skips."""
        over = self.calls[: call.end + 1]
        return [c for c in over if c.parent is None or c.parent.end > call.end]

    def inside(self, call: Call) -> list[Call]:
        """The calls that ran directly inside this one, in order."""
        return [c for c in self.calls if c.parent is call]

    @property
    def root(self) -> Call:
        """The model's own call."""
        return self.calls[-1]


@contextmanager
def _hooked(model: nn.Module, calls: list[Call], outputs: list[tuple[Call, Tensor, int]]) -> Iterator[None]:
    running: list[Call] = []
    counts: Counter[str] = Counter()

    def enter(path: str, *_: object) -> None:
        counts[path] += 1
        running.append(Call(path, counts[path], running[-1] if running else None, len(calls)))

    def leave(_: nn.Module, __: object, out: object) -> None:
        call = running.pop()
        call.end = len(calls)
        if isinstance(out, Tensor) and out.is_floating_point():
            call.shape = out.shape
            outputs.append((call, out, out._version))
        calls.append(call)

    hooks = []
    for path, module in model.named_modules():
        if not isinstance(module, torch.jit.ScriptModule):  # takes no hooks
            hooks.append(module.register_forward_pre_hook(partial(enter, path), prepend=True))
            hooks.append(module.register_forward_hook(leave))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def record(model: nn.Module, inputs: Tensor) -> Record:
    """Run a model, without gradients, and write down every call."""
    calls: list[Call] = []
    outputs: list[tuple[Call, Tensor, int]] = []
    with torch.no_grad(), _hooked(model, calls, outputs):
        output = model(inputs)
    for call, tensor, version in outputs:
        call.changed = tensor._version != version
    return Record(tuple(calls), output, tuple(inputs.shape[1:]))
