"""Measured latency of a network on this machine."""

from statistics import median
from time import perf_counter

import torch
from torch import Tensor, nn

__all__ = ["measure_latency"]


def measure_latency(model: nn.Module, example: Tensor, *, repeats: int = 15, warmup: int = 3) -> float:
    """Median wall time of a forward pass in milliseconds, in evaluation mode, where the model lies.

    Args:
        model: left as it was.
        example: the batch to run, [batch, ...].
        repeats: timed passes.
        warmup: passes before them.
    """
    device = next(model.parameters()).device
    example = example.to(device)
    training = model.training
    times = []
    try:
        model.eval()
        with torch.inference_mode():
            for index in range(warmup + repeats):
                start = perf_counter()
                model(example)
                if device.type != "cpu":
                    torch.accelerator.synchronize()
                if index >= warmup:
                    times.append((perf_counter() - start) * 1000)
    finally:
        model.train(training)
    return median(times)
