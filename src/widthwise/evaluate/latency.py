"""Measured latency of networks on this machine."""

from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from widthwise.evaluate.modes import evaluating, placement

__all__ = ["latencies", "module_times"]


def latencies(models: Sequence[nn.Module], example: Tensor, *, repeats: int = 15, warmup: int = 3) -> list[float]:
    """Median wall time of a forward pass of each network in milliseconds, in evaluation mode, where each lies.

    The networks take turns, one pass at a time, so that whatever else the machine does is the same for all of them.

    Args:
        models: left as they were.
        example: the batch to run, [batch, ...].
        repeats: timed passes of each.
        warmup: passes before them.
    """
    times: list[list[float]] = [[] for _ in models]
    inputs = [example.to(*placement(model)) for model in models]
    with ExitStack() as stack, torch.no_grad():  # no inference mode: a model may keep what it computes
        for model in models:
            stack.enter_context(evaluating(model))
        for _ in range(warmup + repeats):
            for model, batch, found in zip(models, inputs, times, strict=True):
                start = perf_counter()
                model(batch)
                if batch.device.type != "cpu":
                    torch.accelerator.synchronize(batch.device)
                found.append((perf_counter() - start) * 1000)
    return [median(found[warmup:]) for found in times]


def module_times(
    model: nn.Module, example: Tensor, paths: Collection[str], *, repeats: int = 9, warmup: int = 2
) -> dict[str, float]:
    """Seconds from the start of each module to the start of the next of them, in evaluation mode; medians.

    What comes before the first counts with the first, what follows the last with the last. Watching costs time, so
    passes that are not watched take turns with those that are, and the times are scaled to add up to theirs. A module
    that is called twice has both times; one that is not called is missing. In the order of the (first) calls.

    Args:
        model: left as it was.
        example: the batch to run, [batch, ...].
        paths: of the modules.
        repeats: timed passes of either kind.
        warmup: passes before them.
    """
    device, dtype = placement(model)
    batch, passes, plain = example.to(device, dtype), list[dict[str, float]](), list[float]()
    marks: list[tuple[str, Any]] = []

    def hook(path: str) -> Callable[..., None]:
        return lambda *_: marks.append((path, _now(device)))

    def run() -> tuple[Any, Any]:
        marks.clear()
        start = _now(device)
        model(batch)
        end = _now(device)
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        return start, end

    with ExitStack() as stack, torch.no_grad():  # no inference mode: a model may keep what it computes
        stack.enter_context(evaluating(model))
        for _ in range(warmup + repeats):
            with ExitStack() as watched:
                for path in paths:
                    watched.enter_context(model.get_submodule(path).register_forward_pre_hook(hook(path)))
                passes.append(_stretches(*run(), marks))
            plain.append(_seconds(*run()))
    names = dict.fromkeys(name for found in passes[warmup:] for name in found)
    times = {name: median(found.get(name, 0.0) for found in passes[warmup:]) for name in names}
    scale = median(plain[warmup:]) / sum(times.values()) if sum(times.values()) else 1.0
    return {name: scale * time for name, time in times.items()}


def _stretches(start: Any, end: Any, marks: list[tuple[str, Any]]) -> dict[str, float]:
    names, times = [path for path, _ in marks], [start, *(time for _, time in marks[1:]), end]
    found = dict.fromkeys(names, 0.0)
    for name, begin, stop in zip(names, times, times[1:], strict=False):
        found[name] += _seconds(begin, stop)
    return found


def _now(device: torch.device) -> Any:
    """A moment: of the clock, or in the queue of an accelerator."""
    if device.type == "cpu":
        return perf_counter()
    event = torch.Event(device.type, enable_timing=True)
    event.record(torch.accelerator.current_stream(device))
    return event


def _seconds(begin: Any, stop: Any) -> float:
    return float(stop - begin if isinstance(begin, float) else begin.elapsed_time(stop) / 1000)
