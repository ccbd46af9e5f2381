"""What one process is asked to do, as JSON; and what a tool is given there."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from benchmarks.experiments import fresh_network
from benchmarks.measure import count_macs
from benchmarks.peers.settings import PeerSettings, named
from widthwise import build_model
from widthwise.data import ImageData, Split, at_most
from widthwise.evaluate.devices import search_device
from widthwise.train import TrainConfig

__all__ = ["Job", "Pruned", "Task", "full_network"]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One network from one tool."""

    tool: str
    options: dict[str, Any]
    lines: int
    """Of user code."""
    share: float
    """Budget: share of the multiply-adds."""
    seed: int
    named: str
    """The settings: only their name travels, as they hold whole methods."""
    model: str
    """Network of the zoo, maybe another than the settings'."""
    data: str
    """Anything that ``load_data`` takes by name."""
    weights: str | None
    """File of the full network's; drawn afresh if not given."""
    folder: str
    """For what a tool keeps; of this task alone."""

    def to_json(self) -> dict[str, Any]:
        """Plain data; `from_json` takes it back."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Task":
        """The inverse of `to_json`, from a file."""
        return cls(**data)

    @cached_property
    def settings(self) -> PeerSettings:
        """Those of that name, for the network."""
        return named(self.named, self.model)

    @property
    def finetune(self) -> TrainConfig:
        """The fine-tuning with the seed of the task."""
        return replace(self.settings.finetune, seed=self.seed)

    def network(self, data: ImageData) -> nn.Module:
        """The full network, in evaluation mode."""
        return full_network(self.model, self.weights, data)


def full_network(model: str, weights: str | None, data: ImageData) -> nn.Module:
    """A network of the zoo in evaluation mode, with the weights of a file, or else drawn afresh."""
    if weights is None:
        return fresh_network(model, data, 0)
    sizes = {"num_classes": data.num_classes, "in_channels": data.input_shape[0]}
    return build_model(model, weights=Path(weights), **sizes).eval()


@dataclass(frozen=True, eq=False)
class Job:
    """What a tool may look at. The test images are not for it."""

    task: Task
    model: nn.Module
    """The full network, in evaluation mode, where it is to be pruned; may be changed."""
    example: Tensor
    """One image, there too."""
    train: Split
    score: Split
    """The validation images to judge by."""
    limit: int
    """Multiply-adds that must not be exceeded, as `macs` counts them."""

    @classmethod
    def of(cls, task: Task, data: ImageData) -> "Job":
        """The job of a task."""
        device = search_device()
        model, example = task.network(data).to(device), data.example().to(device)
        score = at_most(data.val, task.settings.score_images, task.seed)
        return cls(task, model, example, data.train, score, int(task.share * count_macs(model, example)))

    def macs(self, model: nn.Module) -> int:
        """The independent counter."""
        return count_macs(model, self.example)


@dataclass(frozen=True, eq=False)
class Pruned:
    """What a tool hands back."""

    model: nn.Module
    """As the tool leaves it."""
    notes: dict[str, Any]
    """What the page tells of how it came about: JSON data."""
