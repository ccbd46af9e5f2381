"""Your own module and your own Dataset, hardware-friendly widths, and two limits at once.

Nothing of the model is written for Widthwise: it is traced as it is, split and residual included. The data is any
``torch.utils.data.Dataset`` of (image, label). Run ``python examples/own_model.py``.
"""

import sys

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

import widthwise
from widthwise import FNNP, Budget, TrainConfig, WidthSpace


class Stripes(Dataset[tuple[Tensor, int]]):
    """Noisy 16 x 16 images of stripes; the class is their direction."""

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seed = size, seed

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_000 + index)
        label = index % 4
        y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
        along = (x, y, (x + y) / 1.4, (x - y) / 1.4)[label]
        phase = 6.28 * torch.rand(1, generator=generator)
        return torch.sin(along + phase)[None] + torch.randn(1, 16, 16, generator=generator), label


class TwoBranches(nn.Module):
    """A stem whose channels are split between two branches, joined again and added to a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32))
        self.left = nn.Sequential(nn.Conv2d(16, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24))
        self.right = nn.Sequential(nn.Conv2d(16, 24, 5, padding=2, bias=False), nn.BatchNorm2d(24))
        self.join = nn.Conv2d(48, 32, 1)
        self.head = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 1, H, W] to logits [B, 4]."""
        stem = F.relu(self.stem(x))
        left, right = stem.chunk(2, dim=1)
        both = torch.cat([F.relu(self.left(left)), F.relu(self.right(right))], dim=1)
        logits: Tensor = self.head(F.relu(stem + self.join(both)).mean((2, 3)))
        return logits


def main(images: int = 512, epochs: int = 4, candidates: int = 10) -> widthwise.Result:
    torch.manual_seed(0)
    data = (Stripes(images, seed=0), Stripes(images // 2, seed=1), Stripes(images // 2, seed=2))  # train, val, test
    result = widthwise.compress(
        TwoBranches(),
        data,
        train=TrainConfig(epochs=epochs, batch_size=64, lr=0.05),
        space=WidthSpace(multiple_of=8, keep_outputs_of=("join",)),
        budget=Budget(macs=0.6, params=0.7),
        method=FNNP(candidates=candidates, validation_images=images // 2),
        finetune=TrainConfig(epochs=max(1, epochs // 2), batch_size=64, lr=0.02),
    )
    for name, figures in result.metrics.items():
        print(f"{name:>6}: {figures.macs:,} MACs, {figures.params:,} parameters, test {figures.test_accuracy:.1%}")
    for group, width in zip(result.graph.prunable, result.graph.widths(result.subnet).tolist(), strict=True):
        print(f"  {group.name}: {width} of {group.width} channels")
    return result


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
