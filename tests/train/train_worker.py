"""What the training tests train, also as a script of its own for tests that kill or multiply processes.

python train_worker.py CHECKPOINT WEIGHTS [--hang-at STEP] [--plain] [--objective]
"""

import argparse
import os
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from widthwise.train import EpochRecord, Outcome, Plan, Step, StepStatus, TrainConfig, fit


class Examples:
    """A minimal split in memory that keeps every promise of `Split`."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def fingerprint(self) -> str:
        return str(self.images.double().sum().item())

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


class Branch:
    """Cross-entropy on the whole network, and its first layer on a random half of the colours, through an adapter."""

    one_pass = False
    frozen = ()

    def __init__(self, weight: float = 0.5) -> None:
        torch.manual_seed(23)
        self.own = nn.Conv2d(8, 8, 1)
        self.weight = weight

    def describe(self) -> dict[str, object]:
        return {"objective": "branch", "weight": self.weight}

    def step(self, step: Step) -> Outcome:
        first = next(step.model.children())
        kept: list[Tensor] = []
        hook = first.register_forward_hook(lambda *call: kept.append(call[2].detach()))
        logits = step.forward(step.images)
        hook.remove()
        task = F.cross_entropy(logits, step.labels)
        step.backward(task)
        generator = torch.Generator().manual_seed(step.seed)
        mask = torch.rand(3, 1, 1, generator=generator).to(step.images) > 0.5
        with step.autocast():
            found = self.own(first(step.images * mask))
        branch = self.weight * F.mse_loss(found.float(), kept[0].float())
        step.backward(branch)
        task, branch = task.detach(), branch.detach()
        return Outcome(logits=logits.detach(), loss=task + branch, parts={"task": task, "branch": branch})


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
    parser.add_argument("--objective", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    net = network(norm=not args.plain, dropout=0.0 if args.plain else 0.2)
    branch = Branch() if args.objective else None
    if branch is not None and os.environ.get("RANK", "0") != "0":  # the first process's weights count
        nn.init.zeros_(branch.own.weight)
        nn.init.zeros_(net[6].weight)
    history = fit(
        net,
        examples(),
        CONFIG,
        val=examples(30),
        objective=branch,
        checkpoint=args.checkpoint,
        progress=Announcer(args.hang_at),
    )
    if int(os.environ.get("RANK", "0")) == 0:
        weights = {**net.state_dict(), **(branch.own.state_dict(prefix="own.") if branch else {})}
        torch.save({"weights": weights, "val": history.val_accuracy}, args.weights)
    if torch.distributed.is_initialized():  # or gloo's threads now and then abort the end of the program
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
