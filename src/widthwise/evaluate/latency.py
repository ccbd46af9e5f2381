"""Measured latency of networks on this machine."""

from collections.abc import Sequence
from contextlib import ExitStack
from statistics import median
from time import perf_counter

import torch
from torch import Tensor, nn

from widthwise.evaluate.modes import evaluating, placement

__all__ = ["latencies"]


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
    inputs = [example.to(placement(model)[0]) for model in models]
    with ExitStack() as stack, torch.no_grad():  # no inference mode: a model may keep what it computes
        for model in models:
            stack.enter_context(evaluating(model))
        for _ in range(warmup + repeats):
            for model, batch, found in zip(models, inputs, times, strict=True):
                start = perf_counter()
                model(batch)
                if batch.device.type != "cpu":
                    torch.accelerator.synchronize()
                found.append((perf_counter() - start) * 1000)
    return [median(found[warmup:]) for found in times]
