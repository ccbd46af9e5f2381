"""MobileNet v1: Howard et al., "MobileNets", 2017, table 1 (depthwise separable convolutions)."""

from torch import Tensor, nn

from widthwise.errors import ConfigError
from widthwise.zoo.initialise import kaiming_fan_out

__all__ = ["MobileNetV1", "mobilenet_v1"]

_STEM = 32
# (output channels, stride) of each depthwise separable block.
_BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))


class MobileNetV1(nn.Module):
    """A stem, 13 depthwise separable blocks, mean pooling and one linear layer.

    Args:
        num_classes: the number of logits.
        width: the paper's width multiplier, > 0; channels are rounded to the nearest number, at least 1.
        in_channels: the channels of the images.
        small_input: stride 1 instead of 2 in the stem, for images of about 32x32.

    Raises:
        ConfigError: `width` is not positive.
    """

    def __init__(
        self, *, num_classes: int = 1000, width: float = 1.0, in_channels: int = 3, small_input: bool = False
    ) -> None:
        super().__init__()
        if not width > 0:
            raise ConfigError(f"width > 0 must hold, but got width={width}; 1.0 is the paper's network")
        channels = _scaled(_STEM, width)
        stem = nn.Conv2d(in_channels, channels, 3, 1 if small_input else 2, padding=1, bias=False)
        layers = [nn.Sequential(stem, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))]
        for block_channels, stride in _BLOCKS:
            layers.append(_separable(channels, _scaled(block_channels, width), stride))
            channels = _scaled(block_channels, width)
        self.features = nn.Sequential(*layers)
        self.linear = nn.Linear(channels, num_classes)
        kaiming_fan_out(self)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] to logits [B, num_classes]."""
        logits: Tensor = self.linear(self.features(x).mean((2, 3)))
        return logits


def _scaled(channels: int, width: float) -> int:
    return max(1, round(channels * width))


def _separable(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    """A 3x3 depthwise and a 1x1 convolution, each with batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, in_channels, 3, stride, padding=1, groups=in_channels, bias=False),
        nn.BatchNorm2d(in_channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(in_channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    )


def mobilenet_v1(
    *, num_classes: int = 1000, width: float = 1.0, in_channels: int = 3, small_input: bool = False
) -> nn.Module:
    """MobileNet v1: 4.2 M parameters, 569 M MACs at 224x224 with 1000 classes and width 1."""
    return MobileNetV1(num_classes=num_classes, width=width, in_channels=in_channels, small_input=small_input)
