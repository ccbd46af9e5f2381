"""VGG-16 with batch norm for CIFAR.

The 13 convolutions of configuration D of Simonyan and Zisserman, "Very Deep Convolutional Networks", 2015,
each followed by batch norm and ReLU. As usual at 32x32 the three large linear layers are replaced by **one
linear layer** on the 512 channels that the five poolings leave. The convolutions have no bias, since batch
norm would cancel it.
"""

from torch import Tensor, nn

from widthwise.zoo.initialise import kaiming_fan_out

__all__ = ["CifarVGG", "vgg16_bn"]

_STAGES_16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class CifarVGG(nn.Module):
    """Stages of 3x3 convolutions, a 2x2 max pooling behind each, and one linear layer.

    Args:
        stages: the output channels of the convolutions, stage by stage.
        num_classes: the number of logits.
        in_channels: the channels of the images.
    """

    def __init__(self, stages: tuple[tuple[int, ...], ...], *, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for stage in stages:
            for channels in stage:
                layers.append(nn.Conv2d(in_channels, channels, 3, padding=1, bias=False))
                layers += [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
                in_channels = channels
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.linear = nn.Linear(in_channels, num_classes)
        kaiming_fan_out(self)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] to logits [B, num_classes]; H and W at least 32."""
        logits: Tensor = self.linear(self.features(x).mean((2, 3)))
        return logits


def vgg16_bn(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """VGG-16-BN for CIFAR with one linear layer: 14.7 M parameters, 313 M MACs at 32x32."""
    return CifarVGG(_STAGES_16, num_classes=num_classes, in_channels=in_channels)
