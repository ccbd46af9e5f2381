"""What a method is given, and what it hands back."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, get_args, runtime_checkable

from torch import nn

from widthwise.channels import ChannelGraph, Subnet
from widthwise.cost import CostModel, Limits
from widthwise.data import ImageData, Split
from widthwise.errors import ConfigError
from widthwise.search import Log, SearchReporter, Trial
from widthwise.subnet import Space
from widthwise.train import History, Objective, RichReporter, TrainConfig, fit

__all__ = ["Found", "Method", "Task", "Trainer", "check_choices", "check_least"]


@dataclass(frozen=True)
class Trainer:
    """Trains the networks of one run; each training has a name, a checkpoint, and TensorBoard files in its folder."""

    folder: Path
    data: ImageData
    progress: bool = False
    """Show bars."""

    def fit(
        self,
        name: str,
        model: nn.Module,
        config: TrainConfig,
        *,
        teacher: nn.Module | None = None,
        objective: Objective | None = None,
        train: Split | None = None,
        validate: bool = True,
    ) -> History:
        """Train in place; what was done before is only loaded.

        Args:
            name: of the training.
            model: to train.
            config: how.
            teacher: to distil from.
            objective: what to minimise instead of cross-entropy.
            train: what to learn from; the training images if not given.
            validate: measure the model on the validation images after every epoch; of no use where the objective runs
                it in another way (with filter weights).
        """
        return fit(
            model,
            self.data.train if train is None else train,
            config,
            val=self.data.val if validate else None,
            teacher=teacher,
            objective=objective,
            checkpoint=self._checkpoint(name),
            progress=RichReporter(name) if self.progress else None,
            trackers=self.folder / "tensorboard" / name,
        )

    def forget(self, name: str) -> None:
        """Delete the checkpoint of a training that nothing will go on from."""
        self._checkpoint(name).unlink(missing_ok=True)

    def _checkpoint(self, name: str) -> Path:
        return self.folder / "checkpoints" / f"{name}.pt"


@dataclass(frozen=True, eq=False)
class Task:
    """Everything that a search may look at. The test images are not for it."""

    model: nn.Module
    """The full network."""
    graph: ChannelGraph
    cost: CostModel
    space: Space
    limits: Limits
    """Holds no limit where no budget was given."""
    data: ImageData
    """Searches use ``train`` and ``val`` only."""
    log: Log
    """Keeps every trial; a search that is resumed reads its own from it."""
    reporter: SearchReporter
    trainer: Trainer
    """For what must be trained before the search."""


@dataclass(frozen=True, eq=False)
class Found:
    """What a search found."""

    trials: list[Trial]
    """Scored strategies, the best first."""
    finalists: list[Subnet]
    """The sub-networks worth training, the best first; each meets the budget."""
    parent: nn.Module | None = None
    """Whose weights the finalists inherit; the task's model if not given."""
    retrain: TrainConfig | None = None
    """How the finalists are trained from fresh weights; if not given they are fine-tuned."""
    starts: list[nn.Module] | None = None
    """The finalists as networks with weights of their own, where those are not the parent's."""
    train: Split | None = None
    """What the finalists are trained on, if not the training images."""


@runtime_checkable
class Method(Protocol):
    """A way to find sub-networks under a budget; its settings are a dataclass."""

    @property
    def needs_trained(self) -> bool:
        """Whether the search judges by the weights of the model that it is given."""
        ...

    @property
    def needs_budget(self) -> bool:
        """Whether the search can do nothing without a limit."""
        ...

    @property
    def inherits(self) -> bool:
        """Whether finalists are fine-tuned from the weights of a trained network; only those can be reconstructed."""
        ...

    def search(self, task: Task) -> Found:
        """Look for the best sub-networks of the task's model under its limits."""
        ...


def check_choices(settings: object, **allowed: object) -> None:
    """Check fields of a settings dataclass, each against the `Literal` of what it may be.

    Raises:
        ConfigError: one is something else.
    """
    for name, literal in allowed.items():
        if getattr(settings, name) not in get_args(literal):
            raise ConfigError(
                f"{name} must be one of {', '.join(get_args(literal))}, but got {getattr(settings, name)!r}."
            )


def check_least(settings: object, **least: int) -> None:
    """Check numbers of a settings dataclass, each against the least that it may be.

    Raises:
        ConfigError: one is smaller.
    """
    for name, lowest in least.items():
        if getattr(settings, name) < lowest:
            raise ConfigError(f"{name} must be at least {lowest}, but got {getattr(settings, name)}.")
