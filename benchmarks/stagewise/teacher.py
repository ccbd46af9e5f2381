"""Another architecture as a teacher (the paper's S2): inverted residuals, with few channels where stages end.

The paper takes EfficientNet-B0 for ResNet-50: few channels between the blocks, many inside. These are built alike, with
the resolutions of CIFAR's ResNets (32, 16, 8) and of the network for digits (8, 4).
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Separable", "separable_cifar", "separable_digits"]

EXPANSION = 4


class Separable(nn.Module):
    """Stages of inverted residual blocks, the first of each but the first stage at stride 2."""

    def __init__(self, in_channels: int, channels: Sequence[int], blocks: int, num_classes: int) -> None:
        super().__init__()
        self.stem = _conv(in_channels, channels[0], 3)
        stages, width = [], channels[0]
        for index, wider in enumerate(channels):
            first = _Inverted(width, wider, 2 if index else 1)
            stages.append(nn.Sequential(first, *(_Inverted(wider, wider, 1) for _ in range(blocks - 1))))
            width = wider
        self.stages = nn.Sequential(*stages)
        self.linear = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] to logits [B, num_classes]."""
        logits: Tensor = self.linear(self.stages(F.silu(self.stem(x))).mean((2, 3)))
        return logits


class _Inverted(nn.Module):
    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        wide = EXPANSION * in_channels
        self.expand = _conv(in_channels, wide, 1)
        self.depthwise = _conv(wide, wide, 3, stride, groups=wide)
        self.project = _conv(wide, channels, 1)
        self.adds = stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] to [B, channels, H / stride, W / stride]."""
        out: Tensor = self.project(F.silu(self.depthwise(F.silu(self.expand(x)))))
        return out + x if self.adds else out


def _conv(in_channels: int, channels: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels))


def separable_cifar(num_classes: int = 10) -> nn.Module:
    """For 32x32 colour images: 12, 20 and 32 channels where the stages of a ResNet-20 have 16, 32 and 64."""
    return Separable(3, (12, 20, 32), 2, num_classes)


def separable_digits(num_classes: int = 10) -> nn.Module:
    """For 8x8 grey images."""
    return Separable(1, (8, 12), 1, num_classes)
