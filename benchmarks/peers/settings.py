"""What every tool is given, by the name of the settings: ``cpu``, ``accelerator``, ``tiny``."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.experiments import identity
from widthwise.errors import ConfigError
from widthwise.train import TrainConfig

__all__ = ["SETTINGS", "PeerSettings", "accelerator", "cpu", "tiny"]


@dataclass(frozen=True, kw_only=True)
class PeerSettings:
    """The comparison of docs/peers.md."""

    model: str
    """A network of the zoo."""
    finetune: TrainConfig
    """Of every pruned network, whichever tool made it; the seed is that of the run."""
    budgets: tuple[float, ...] = (0.5, 0.3)
    """Shares of the multiply-adds, counted by ``torch.utils.flop_counter`` for all."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of the images that a tool looks at, and of the fine-tuning."""
    residual: tuple[str, ...] = ("conv1", "layer*.conv2")
    """Names (with wildcards) of the layers that write to a residual stream with zero-padded shortcuts."""
    score_images: int | None = None
    """Validation images that a tool may judge by; all if not given."""
    calibration_batch: int = 40
    """Images of each of the 50 batches that FastNAS re-estimates batch-norm statistics on."""
    gradient_batches: int = 10
    """Batches of training images that gradients are taken on (Torch-Pruning's examples take 10)."""
    gradient_batch: int = 128
    """Images in each."""
    candidates: int = 100
    """Strategies that our FNNP scores."""
    minutes: float = 120.0
    """Limit of one process."""
    threads: int = 1
    """Torch threads of each process."""

    def __post_init__(self) -> None:
        if not self.budgets or not all(0 < share < 1 for share in self.budgets) or not self.seeds:
            raise ConfigError(
                "A comparison needs budgets between 0 and 1 and a seed, but got "
                f"budgets={self.budgets}, seeds={self.seeds}. Give each at least one."
            )

    def identity(self) -> dict[str, Any]:
        """What decides a single result, as JSON data; there may be more budgets and seeds."""
        return identity(self, {"budgets", "seeds", "minutes"})


def cpu() -> PeerSettings:
    """ResNet-20 (or ``--model resnet56``) with three epochs of fine-tuning on one core."""
    finetune = TrainConfig(epochs=3, lr=0.02, precision="bf16", channels_last=True)
    return PeerSettings(model="resnet20", finetune=finetune, score_images=2000)


def accelerator() -> PeerSettings:
    """ResNet-56 with the fine-tuning of the papers, on one accelerator. Not timed here: none was at hand."""
    finetune = TrainConfig(epochs=100, batch_size=256, lr=0.01, weight_decay=5e-5, precision="bf16", channels_last=True)
    return PeerSettings(model="resnet56", finetune=finetune)


def tiny() -> PeerSettings:
    """Everything cut down, to see that it runs to its end; the figures mean nothing."""
    return PeerSettings(
        model="digits_net",
        finetune=TrainConfig(epochs=1, max_steps=2, batch_size=32, lr=0.05),
        budgets=(0.5,),
        seeds=(0, 1),
        residual=(),
        score_images=64,
        calibration_batch=16,
        gradient_batches=2,
        gradient_batch=32,
        candidates=3,
        minutes=2.0,
    )


SETTINGS: dict[str, Callable[[], PeerSettings]] = {"cpu": cpu, "accelerator": accelerator, "tiny": tiny}
"""By name, for the command line."""
