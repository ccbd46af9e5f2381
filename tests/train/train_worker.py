"""What the training tests train, also as a script of its own for tests that kill or multiply processes.

python train_worker.py CHECKPOINT WEIGHTS [--hang-at STEP] [--world] [--plain]
"""

import argparse
import os
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from widthwise.train import EpochRecord, Plan, StepStatus, TrainConfig, fit


class Examples:
    """A minimal split in memory that keeps every promise of `Split`."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def batches(
        self,
        batch_size: int,
        *,
        device: torch.device | str = "cpu",
        seed: int | None = None,
        augment: bool = False,
        shard: tuple[int, int] = (0, 1),
    ) -> list[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(seed or 0)
        order = torch.arange(len(self)) if seed is None else torch.randperm(len(self), generator=generator)
        rank, world = shard
        images = self.images
        if augment:
            images = images + 0.1 * torch.randn(images.shape, generator=generator)
        shares = [part[rank::world] for part in order.split(batch_size)]
        return [(images[share].to(device), self.labels[share].to(device)) for share in shares]

    def subset(self, n: int, *, seed: int) -> "Examples":
        return Examples(self.images[:n], self.labels[:n])


def examples(n: int = 100, classes: int = 3) -> Examples:
    """Images whose class shows in their mean colour."""
    generator = torch.Generator().manual_seed(5)
    labels = torch.randint(0, classes, (n,), generator=generator)
    images = torch.randn(n, 3, 8, 8, generator=generator)
    images[torch.arange(n), labels % 3] += 0.7
    return Examples(images, labels)


def network(*, norm: bool = True, dropout: float = 0.2) -> nn.Sequential:
    torch.manual_seed(11)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8) if norm else nn.Identity(),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(32, 3),
    )


CONFIG = TrainConfig(epochs=4, batch_size=16, lr=0.05, warmup_epochs=1.0, label_smoothing=0.1, seed=3)


class Announcer:
    """Prints each step; hangs at one, to be killed there."""

    def __init__(self, hang_at: int | None) -> None:
        self.hang_at = hang_at

    def start(self, plan: Plan) -> None:
        print(f"start {plan.done_steps}", flush=True)

    def step(self, status: StepStatus) -> None:
        print(f"step {status.step}", flush=True)
        if status.step == self.hang_at:
            time.sleep(600)

    def epoch(self, record: EpochRecord) -> None: ...

    def finish(self) -> None: ...


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--hang-at", type=int)
    parser.add_argument("--plain", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    net = network(norm=not args.plain, dropout=0.0 if args.plain else 0.2)
    history = fit(
        net,
        examples(),
        CONFIG,
        val=examples(30),
        checkpoint=args.checkpoint,
        progress=Announcer(args.hang_at),
    )
    if int(os.environ.get("RANK", "0")) == 0:
        torch.save({"weights": dict(net.state_dict()), "val": history.val_accuracy}, args.weights)


if __name__ == "__main__":
    main()
