"""CIFAR residual networks: He et al., "Deep Residual Learning for Image Recognition", 2016, section 4.2.

Depth 6n + 2, three stages of n basic blocks with 16, 32 and 64 channels at full, half and quarter resolution.
Shortcuts are the paper's option A: where the shape changes, every second pixel, and zeros for the new
channels, so they have no parameters. State-dict keys: ``conv1``, ``bn1``,
``layer{1,2,3}.{i}.{conv1,bn1,conv2,bn2}``, ``linear``.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from widthwise.zoo.initialise import kaiming_fan_out

__all__ = ["BasicBlock", "CifarResNet", "resnet20", "resnet32", "resnet56", "resnet110"]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and an option-A shortcut.

    How many zero channels the shortcut adds is fixed when the block is built. So a copy of the block whose
    convolutions were pruned still puts every channel that it copies at the same place.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride = stride
        self.pad_before = (channels - in_channels) // 2
        self.pad_after = channels - in_channels - self.pad_before

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] to [B, channels, H / stride, W / stride]."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self._shortcut(x))

    def _shortcut(self, x: Tensor) -> Tensor:
        if self.stride != 1:
            x = x[:, :, :: self.stride, :: self.stride]
        if self.pad_before or self.pad_after:
            x = F.pad(x, (0, 0, 0, 0, self.pad_before, self.pad_after))
        return x


class CifarResNet(nn.Module):
    """A residual network of depth 6 * `blocks` + 2 for images of about 32x32."""

    def __init__(self, blocks: int, *, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks, stride=1)
        self.layer2 = _stage(16, 32, blocks, stride=2)
        self.layer3 = _stage(32, 64, blocks, stride=2)
        self.linear = nn.Linear(64, num_classes)
        kaiming_fan_out(self)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] to logits [B, num_classes]."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


def _stage(in_channels: int, channels: int, blocks: int, *, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, channels, stride)
    return nn.Sequential(first, *(BasicBlock(channels, channels, 1) for _ in range(blocks - 1)))


def resnet20(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """ResNet-20: 0.27 M parameters, 41 M MACs at 32x32."""
    return CifarResNet(3, num_classes=num_classes, in_channels=in_channels)


def resnet32(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """ResNet-32: 0.46 M parameters, 69 M MACs at 32x32."""
    return CifarResNet(5, num_classes=num_classes, in_channels=in_channels)


def resnet56(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """ResNet-56: 0.85 M parameters, 125 M MACs at 32x32."""
    return CifarResNet(9, num_classes=num_classes, in_channels=in_channels)


def resnet110(*, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """ResNet-110: 1.7 M parameters, 253 M MACs at 32x32."""
    return CifarResNet(18, num_classes=num_classes, in_channels=in_channels)
