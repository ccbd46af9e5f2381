"""The networks that speed is measured on, and the settings of the measurement."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from widthwise import ChannelGraph, build_model, trace
from widthwise.errors import ConfigError

__all__ = ["SpeedConfig", "Subject", "subject"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeedConfig:
    """What to measure, and how often."""

    models: tuple[str, ...] = ("torchvision:resnet50", "torchvision:mobilenet_v2", "torchvision:densenet121")
    """Networks to compare on; costs are measured on the first."""
    image_size: int = 224
    """Height and width of the traced example, in pixels."""
    candidate_size: int = 64
    """Height and width of the images that candidates are judged on."""
    calibration_images: int = 64
    """Images for the batch-norm statistics of a candidate."""
    validation_images: int = 128
    """Images that a candidate is judged by."""
    repeats: int = 5
    """Timed rounds; each round measures every side once."""
    strategies: int = 100_000
    """Strategies costed at once."""
    cifar_model: str = "resnet56"
    """Network whose share of forward passes is measured on images of CIFAR's size."""
    cifar_images: tuple[int, int] = (1000, 2000)
    """Calibration and validation images there."""
    results: Path = Path(__file__).parent / "results"
    """Folder for the page."""

    def __post_init__(self) -> None:
        if not self.models or self.repeats < 1 or self.strategies < 1:
            raise ConfigError(
                "A measurement needs a model, a repeat and a strategy, but got "
                f"models={self.models}, repeats={self.repeats}, strategies={self.strategies}."
            )


@dataclass(frozen=True, eq=False)
class Subject:
    """One network and its trace."""

    name: str
    model: nn.Module
    example: Tensor
    graph: ChannelGraph

    @property
    def half(self) -> Tensor:
        """int64 [groups]: half of every width."""
        return (self.graph.full_widths + 1) // 2


def subject(name: str, image_size: int) -> Subject:
    """A network by its name in the zoo, with random weights, traced on one image."""
    torch.manual_seed(0)
    model = build_model(name).eval()
    example = torch.randn(1, 3, image_size, image_size)
    return Subject(name.rpartition(":")[2], model, example, trace(model, example))
