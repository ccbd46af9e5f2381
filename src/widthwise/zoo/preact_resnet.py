"""Pre-activation ResNet-164: He et al., "Identity Mappings in Deep Residual Networks", 2016 (for CIFAR).
"Networks", 2016 (CIFAR, bottlenecks).

Depth 9n + 2. Batch norm and ReLU come before each convolution. The first block of each stage changes the
shape: its shortcut is a 1x1 convolution of the *activated* input, as in the authors' code; all others are
identities.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from widthwise.zoo.initialise import kaiming_fan_out

__all__ = ["PreActBottleneck", "PreActResNet", "preact_resnet164"]

_EXPANSION = 4


class PreActBottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions, each behind its batch norm and ReLU, beside a shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        out_channels = channels * _EXPANSION
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.shortcut: nn.Conv2d | None = None
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] to [B, 4 * channels, H / stride, W / stride]."""
        activated = F.relu(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(activated)
        out = self.conv1(activated)
        out = self.conv2(F.relu(self.bn2(out)))
        out = self.conv3(F.relu(self.bn3(out)))
        total: Tensor = out + shortcut
        return total


class PreActResNet(nn.Module):
    """A pre-activation residual network of depth 9 * `blocks` + 2 for images of about 32x32."""

    def __init__(self, blocks: int, *, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.layer1 = _stage(16, 16, blocks, stride=1)
        self.layer2 = _stage(64, 32, blocks, stride=2)
        self.layer3 = _stage(128, 64, blocks, stride=2)
        self.bn = nn.BatchNorm2d(256)
        self.linear = nn.Linear(256, num_classes)
        kaiming_fan_out(self)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] to logits [B, num_classes]."""
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        x = F.relu(self.bn(x))
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


def _stage(in_channels: int, channels: int, blocks: int, *, stride: int) -> nn.Sequential:
    first = PreActBottleneck(in_channels, channels, stride)
    rest = (PreActBottleneck(channels * _EXPANSION, channels, 1) for _ in range(blocks - 1))
    return nn.Sequential(first, *rest)


def preact_resnet164(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """Pre-activation ResNet-164: 1.7 M parameters, 0.25 G MACs at 32x32."""
    return PreActResNet(18, num_classes=num_classes, in_channels=in_channels)
