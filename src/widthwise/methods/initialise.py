"""Weights from scratch, for what a method trains without any."""

from torch import nn

from widthwise.train import reinitialise
from widthwise.zoo.initialise import kaiming_fan_out

__all__ = ["fresh"]


def fresh(model: nn.Module, seed: int) -> None:
    """Weights from scratch, in place: convolutions as He et al. draw them, the rest as their classes do.

    Parameters that no class draws (layer scales, class tokens) stay as they are.
    """
    reinitialise(model, seed, then=kaiming_fan_out, keep_unknown=True)
