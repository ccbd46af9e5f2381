"""Weights under which a wrong network shows."""

import math

import torch
from torch import Tensor, nn

__all__ = ["randomise"]


def randomise(model: nn.Module) -> None:
    """Replace what a fresh network has as constants by random numbers, in place.

    Zero heads, layer scales of 1e-6, batch-norm scales of zero in residual branches and the like make a comparison
    say nothing, because nothing reaches the output. So

    - scales and every other parameter of at most one dimension become U(0.5, 1.5), biases U(-0.5, 0.5);
    - parameters of more dimensions that are constant become normal with variance 1 / fan-in; the others stay;
    - batch-norm means become U(-0.5, 0.5) and variances U(0.5, 1.5).
    """
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim <= 1:
                parameter.copy_(_uniform(parameter, -0.5 if name.endswith("bias") else 0.5, generator))
            elif bool((parameter == parameter.reshape(-1)[0]).all()):
                fan_in = max(1, math.prod(parameter.shape[1:]))
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / math.sqrt(fan_in))
        for name, buffer in model.named_buffers():
            last = name.rpartition(".")[2]
            if last in ("running_mean", "running_var"):
                buffer.copy_(_uniform(buffer, -0.5 if last == "running_mean" else 0.5, generator))


def _uniform(like: Tensor, low: float, generator: torch.Generator) -> Tensor:
    return torch.rand(like.shape, generator=generator) + low
