"""Settings of the FNNP experiment."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from benchmarks.experiments import identity
from widthwise.errors import ConfigError
from widthwise.evaluate import Precision
from widthwise.train import TrainConfig

__all__ = ["FnnpSettings", "Part"]

Part = Literal["rates", "evolution", "iterations", "correlation", "final"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FnnpSettings:
    """The experiment of docs/fnnp.md: what R, evolution and the three evaluators are worth on real images."""

    data: str
    """Anything that ``load_data`` takes by name: a folder of Parquet files, ``cifar10``, ..."""
    weights: Path | None = None
    """Weights of the full network; random ones without."""
    model: str = "resnet56"
    """A network of the zoo."""
    out: Path = Path("runs/fnnp-cifar")
    """Folder of the results; the same command goes on where it was cut."""
    parts: tuple[Part, ...] = ("rates", "evolution", "iterations", "correlation", "final")
    """What to do, in this order."""
    device: str = "cpu"
    """Where candidates are judged (``cpu``, ``cuda``); training goes where Accelerate finds an accelerator."""
    budget: float = 0.5
    """Share of the multiply-adds."""
    train_images: int | None = None
    """Images to fine-tune on; all of the training split if not given."""
    calibration_images: int = 1000
    """Training images for adaptive batch norm."""
    search_images: int = 2000
    """Validation images that searches look at; every other figure uses the whole validation split."""
    max_rates: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
    """R of `rates`."""
    strategies: int = 40
    """Random strategies for each R."""
    candidates: int = 100
    """Strategies of `evolution`."""
    evolution_rate: float = 0.7
    """R of `evolution`, and of the random search that `final` compares with."""
    iteration_images: tuple[int, ...] = (16, 32, 64, 125, 250, 500, 1000, 2000, 5000)
    """Calibration images of `iterations`."""
    iteration_seeds: int = 3
    """Draws of calibration images for each number."""
    correlation_models: int = 14
    """Sub-networks of `correlation`."""
    correlation_rates: tuple[float, float] = (0.7, 0.9)
    """R of the random ones among them."""
    short_steps: int = 100
    """Optimiser steps of the evaluator `short_training`."""
    short_lr: float = 0.01
    """Its highest learning rate."""
    finetune_epochs: int = 1
    """Epochs of fine-tuning in `correlation`."""
    final_epochs: int = 3
    """Epochs of fine-tuning in `final`."""
    finetune_lr: float = 0.02
    """Highest learning rate of both, one-cycle."""
    batch_size: int = 128
    """Images per optimiser step."""
    max_steps: int | None = None
    """Optimiser steps instead of epochs, to try the experiment out."""
    precision: Precision = "bf16"
    """Of training; candidates are judged in float32."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of the fine-tuning in `final`."""
    finalists: int = 2
    """Strategies of `evolution` that `final` fine-tunes; the better one by validation is FNNP's choice."""
    seed: int = 0
    """Of the strategies and the choice of images."""
    smoke: bool = False
    """Cut every size down to see the experiment run to its end in a minute; the figures mean nothing."""

    def __post_init__(self) -> None:
        unknown = set(self.parts) - set(get_args(Part))
        if unknown or not self.parts:
            raise ConfigError(f"parts are one or more of {', '.join(get_args(Part))}, but got {self.parts}.")
        if self.correlation_models < 2:
            raise ConfigError(f"A correlation needs two models at least, but got {self.correlation_models}.")

    def cut_down(self) -> "FnnpSettings":
        """The same with tiny sizes if `smoke` is set."""
        if not self.smoke:
            return self
        small: dict[str, Any] = {
            "max_rates": (0.2, 0.7),
            "strategies": 2,
            "candidates": 4,
            "calibration_images": 64,
            "search_images": 50,
            "train_images": 128,
            "iteration_images": (16, 32),
            "iteration_seeds": 1,
            "correlation_models": 4,
            "short_steps": 1,
            "max_steps": 2,
            "batch_size": 32,
            "seeds": (0,),
        }
        return replace(self, **small)

    @property
    def short_training(self) -> TrainConfig:
        """Of the evaluator `short_training`."""
        return self._train(epochs=1, max_steps=self.short_steps, lr=self.short_lr, seed=self.seed)

    @property
    def finetune(self) -> TrainConfig:
        """Of `correlation`."""
        return self._train(epochs=self.finetune_epochs, max_steps=self.max_steps, lr=self.finetune_lr, seed=self.seed)

    def final(self, seed: int) -> TrainConfig:
        """Of `final`."""
        return self._train(epochs=self.final_epochs, max_steps=self.max_steps, lr=self.finetune_lr, seed=seed)

    def _train(self, *, epochs: int, max_steps: int | None, lr: float, seed: int) -> TrainConfig:
        return TrainConfig(
            epochs=epochs,
            max_steps=max_steps,
            lr=lr,
            seed=seed,
            batch_size=self.batch_size,
            schedule="one_cycle",
            precision=self.precision,
            channels_last=True,
            checkpoint_every=max(1, epochs),
        )

    def identity(self) -> dict[str, Any]:
        """The settings that decide a single result, as JSON; how many results there are may grow."""
        free = {"data", "weights", "out", "parts", "device", "max_rates", "strategies", "candidates", "seeds", "smoke"}
        free |= {"iteration_images", "iteration_seeds", "correlation_models", "correlation_rates", "finalists"}
        return identity(self, free)
