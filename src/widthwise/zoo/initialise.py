"""How the zoo's networks are initialised before training."""

from torch import nn

__all__ = ["kaiming_fan_out"]


def kaiming_fan_out(model: nn.Module) -> None:
    """Draws every convolution's weights from N(0, 2 / fan_out), in place.

    He et al., "Delving Deep into Rectifiers", 2015, equation 14. Batch norm and linear layers keep
    PyTorch's defaults.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
