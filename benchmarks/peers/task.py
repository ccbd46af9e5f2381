"""What one process is asked to do, as JSON; and what a tool is given there."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from benchmarks.experiments import fresh_network
from benchmarks.measure import count_macs
from benchmarks.peers.settings import PeerSettings
from widthwise import build_model
from widthwise.data import ImageData, Split, at_most
from widthwise.methods.evaluators import search_device
from widthwise.train import TrainConfig

__all__ = ["Job", "Pruned", "Task"]


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
    settings: PeerSettings
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
        settings = dict(data["settings"])
        settings["finetune"] = TrainConfig(**_tuples(settings["finetune"]))
        return cls(**{**data, "settings": PeerSettings(**_tuples(settings))})

    @property
    def finetune(self) -> TrainConfig:
        """The fine-tuning with the seed of the task."""
        return replace(self.settings.finetune, seed=self.seed)

    def network(self, data: ImageData) -> nn.Module:
        """The full network, in evaluation mode."""
        if self.weights is None:
            return fresh_network(self.settings.model, data, 0)
        sizes = {"num_classes": data.num_classes, "in_channels": data.input_shape[0]}
        return build_model(self.settings.model, weights=Path(self.weights), **sizes).eval()


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no tuples, and no settings of ours are lists."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


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
