"""Stopwatches: callables timed in turns, and the time that a network's forward passes take."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["ForwardClock", "Timing", "alternate", "count_macs", "forward_seconds", "ready"]


@dataclass(frozen=True)
class Timing:
    """Wall times of one thing."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median, in seconds."""
        return median(self.seconds)

    def __str__(self) -> str:
        scale, unit = (1000, "ms") if self.median < 0.1 else (1, "s")
        middle, least, most = (f"{scale * s:.3g}" for s in (self.median, min(self.seconds), max(self.seconds)))
        return f"{middle} {unit} ({least} to {most})"


def alternate(
    sides: Mapping[str, Callable[[], Callable[[], object]]], repeats: int, *, warmup: int = 1
) -> dict[str, Timing]:
    """Time several things in turns, so that a busy moment of the machine meets all of them.

    Args:
        sides: for each thing a preparation, which is not timed and returns what is.
        repeats: timed rounds.
        warmup: rounds before them.
    """
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(warmup + repeats):
        for name, prepare in sides.items():
            action = prepare()
            start = perf_counter()
            action()
            if turn >= warmup:
                times[name].append(perf_counter() - start)
    return {name: Timing(tuple(values)) for name, values in times.items()}


def ready(action: Callable[..., object], *arguments: Any) -> Callable[[], Callable[[], object]]:
    """A side for :func:`alternate` that needs no preparation."""
    return lambda: partial(action, *arguments)


@dataclass
class ForwardClock:
    """Adds up the wall time that is spent within forward passes of a model and of its copies.

    Copies of the model (``deepcopy``, ``materialize``) carry its hooks along; plain closures are not copied, so all
    of them report here. Hooks that others add to inner layers count as part of the forward pass.
    """

    seconds: float = 0.0
    passes: int = 0
    counting: bool = True
    """Whether passes are counted now (a peer's tracing pass is not evaluation)."""
    _started: list[float] = field(default_factory=list)

    @contextmanager
    def on(self, model: nn.Module) -> Iterator["ForwardClock"]:
        """Listen to a model and to the copies that are made of it meanwhile."""

        def before(module: nn.Module, args: Any) -> None:
            self._started.append(perf_counter())

        def after(module: nn.Module, args: Any, output: Any) -> None:
            spent = perf_counter() - self._started.pop()
            if self.counting:
                self.seconds += spent
                self.passes += 1

        handles = [model.register_forward_pre_hook(before), model.register_forward_hook(after)]
        try:
            yield self
        finally:
            for handle in handles:
                handle.remove()


def forward_seconds(model: nn.Module, example: torch.Tensor, repeats: int) -> float:
    """Median wall time of a forward pass in evaluation mode without gradients, in seconds."""

    with torch.no_grad():
        return alternate({"forward": ready(model, example)}, repeats, warmup=2)["forward"].median


def count_macs(model: nn.Module, example: torch.Tensor) -> int:
    """Multiply-adds of a forward pass, counted by running it (``torch.utils.flop_counter``, halved)."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(example)
    return int(counter.get_total_flops()) // 2
