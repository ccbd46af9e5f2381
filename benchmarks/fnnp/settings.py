"""Settings of the FNNP experiment, by name: ``cpu``, ``cpu_resnet56``, ``tiny``."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.experiments import identity
from widthwise.train import TrainConfig

__all__ = ["SETTINGS", "FnnpSettings", "cpu", "cpu_resnet56", "tiny"]

_FREE = {"max_rates", "strategies", "candidates", "iteration_images", "iteration_seeds", "correlation_models"}
_FREE |= {"correlation_rates", "finalists", "search_seeds", "seeds", "threads"}


@dataclass(frozen=True, kw_only=True)
class FnnpSettings:
    """The experiment of docs/fnnp.md: what R, searches that learn and the three evaluators are worth on real images."""

    model: str
    """A network of the zoo, whose weights are given on the command line; random ones without."""
    budget: float = 0.5
    """Share of the multiply-adds."""
    calibration_images: int = 1000
    """Training images for adaptive batch norm."""
    search_images: int = 2000
    """Validation images that searches look at; every other figure uses the whole validation split."""
    max_rates: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
    """R of `rates`."""
    strategies: int = 30
    """Random strategies for each R."""
    candidates: int = 100
    """Strategies of each of the `searches`."""
    search_seeds: tuple[int, ...] = (0, 1, 2)
    """Of the `searches`; networks of the first are trained."""
    rate: float = 0.7
    """R of evolution, and of the random search that `final` compares with."""
    iteration_images: tuple[int, ...] = (16, 32, 64, 125, 250, 500, 1000, 2000, 5000)
    """Calibration images of `iterations`."""
    iteration_seeds: int = 3
    """Draws of calibration images for each number."""
    correlation_models: int = 14
    """Sub-networks of `correlation`, two at least."""
    correlation_rates: tuple[float, float] = (0.7, 0.9)
    """R of the random ones among them."""
    short_training: TrainConfig
    """Of the evaluator of that name."""
    finetune: TrainConfig
    """Of `correlation`."""
    final: TrainConfig
    """Of `final`."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of the fine-tuning in `final`."""
    finalists: int = 1
    """Strategies of Thompson sampling that `final` fine-tunes; the better one by validation is FNNP's choice."""
    seed: int = 0
    """Of the strategies and the choice of images."""
    threads: int = 1
    """Torch threads."""

    def identity(self) -> dict[str, Any]:
        """What decides a single result, as JSON data; how many results there are may grow."""
        return identity(self, _FREE)


def cpu() -> FnnpSettings:
    """ResNet-20 on one core."""
    # Of training; candidates are judged in float32.
    fast: dict[str, Any] = {"schedule": "one_cycle", "precision": "bf16", "channels_last": True}
    return FnnpSettings(
        model="resnet20",
        short_training=TrainConfig(epochs=1, max_steps=100, lr=0.01, **fast),
        finetune=TrainConfig(epochs=1, lr=0.02, **fast),
        final=TrainConfig(epochs=3, lr=0.02, **fast),
    )


def cpu_resnet56() -> FnnpSettings:
    """ResNet-56 on one core, with fewer seeds."""
    return replace(cpu(), model="resnet56", search_seeds=(0, 1), seeds=(0, 1))


def tiny() -> FnnpSettings:
    """Everything cut down, to see that it runs to its end; the figures mean nothing."""
    brief = TrainConfig(epochs=1, max_steps=2, batch_size=32, lr=0.02)
    return FnnpSettings(
        model="digits_net",
        calibration_images=64,
        search_images=50,
        max_rates=(0.2, 0.7),
        strategies=2,
        candidates=4,
        search_seeds=(0,),
        iteration_images=(16, 32),
        iteration_seeds=1,
        correlation_models=4,
        short_training=replace(brief, max_steps=1),
        finetune=brief,
        final=brief,
        seeds=(0,),
        finalists=2,
    )


SETTINGS: dict[str, Callable[[], FnnpSettings]] = {"cpu": cpu, "cpu_resnet56": cpu_resnet56, "tiny": tiny}
"""By name, for the command line."""
