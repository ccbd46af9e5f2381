"""Settings of the experiments on exploration and estimation, by name: ``cpu``, ``accelerator``, ``tiny``."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.experiments import identity
from widthwise.exploration import ExplorationSettings
from widthwise.methods import FNNP, Exploration
from widthwise.methods.compress import plain
from widthwise.train import TrainConfig

__all__ = ["SETTINGS", "ExplorationBenchSettings", "accelerator", "cpu", "tiny"]


@dataclass(frozen=True, kw_only=True)
class ExplorationBenchSettings:
    """The experiments of docs/exploration.md."""

    model: str
    """A network of the zoo, whose weights are given on the command line."""
    budgets: tuple[float, ...] = (0.44, 0.5)
    """Shares of the multiply-adds."""
    method: Exploration
    """The method; ablations differ in one setting each."""
    fnnp: FNNP
    """The search that it is compared with."""
    finetune: TrainConfig
    """Of every sub-network."""
    full: TrainConfig | None = None
    """Of the full network, where no weights are given."""
    calibration_images: int = 1000
    """Training images for batch-norm statistics before fine-tuning."""
    max_rate: float = 0.7
    """R of the random search."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of searches and fine-tunings."""
    threads: int = 1
    """Torch threads."""

    def identity(self) -> dict[str, Any]:
        """What decides a single result, as JSON data; there may be more seeds and budgets."""
        values = identity(self, {"seeds", "budgets", "threads"})
        return {**values, "method": plain(self.method), "fnnp": plain(self.fnnp)}


def cpu() -> ExplorationBenchSettings:
    """ResNet-20 on one core: 480 evaluations for the start, 60 steps of 24 samples for 352 channels; 3 minutes."""
    fast: dict[str, Any] = {"precision": "bf16", "channels_last": True}
    return ExplorationBenchSettings(
        model="resnet20",
        method=Exploration(epochs=3, candidates=96, precision="bf16", settings=ExplorationSettings(lr=0.01)),
        fnnp=FNNP(candidates=100, sensitivity_images=0, finalists=1, validation_images=2000, precision="bf16"),
        finetune=TrainConfig(epochs=2, lr=0.02, schedule="one_cycle", **fast),
    )


def accelerator() -> ExplorationBenchSettings:
    """ResNet-56 with the paper's length, on one accelerator. Not timed here: none was at hand."""
    fast: dict[str, Any] = {"precision": "bf16", "channels_last": True}
    return ExplorationBenchSettings(
        model="resnet56",
        method=Exploration(),
        fnnp=FNNP(candidates=200, sensitivity_images=0, finalists=1),
        finetune=TrainConfig(
            epochs=160, lr=0.1, momentum=0.8, weight_decay=1e-4, schedule="step", step_milestones=(0.5, 0.75), **fast
        ),
    )


def tiny() -> ExplorationBenchSettings:
    """Everything cut down, to see that it runs to its end; the figures mean nothing."""
    brief = TrainConfig(epochs=1, max_steps=2, batch_size=32, lr=0.05)
    settings = ExplorationSettings(samples=2, resamplings=2, moves=2, lr=0.02)
    method = Exploration(epochs=1, images=64, batch=32, candidates=3, settings=settings, calibration_images=32)
    return ExplorationBenchSettings(
        model="digits_net",
        budgets=(0.5,),
        method=method,
        fnnp=FNNP(candidates=3, sensitivity_images=0, finalists=1, calibration_images=64, validation_images=64),
        finetune=brief,
        full=replace(brief, max_steps=10),
        calibration_images=64,
        seeds=(0, 1),
    )


SETTINGS: dict[str, Callable[[], ExplorationBenchSettings]] = {"cpu": cpu, "accelerator": accelerator, "tiny": tiny}
"""By name, for the command line."""
