"""The settings of a training, checked."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

from widthwise.errors import ConfigError
from widthwise.evaluate.modes import Precision, check_precision

__all__ = ["Optimizer", "Schedule", "TrainConfig"]

Optimizer = Literal["sgd", "adamw"]
Schedule = Literal["cosine", "step", "one_cycle", "constant"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How to train; the defaults suit small images from scratch.

    Raises:
        ConfigError: a setting lies outside its range, or two do not go together.
    """

    epochs: int = 10
    """Passes over the training split; 0 trains nothing."""
    max_steps: int | None = None
    """Optimiser steps instead of epochs, for short fine-tuning; the schedule then spans these steps."""
    batch_size: int = 128
    """Images per step, over all processes together."""
    optimizer: Optimizer = "sgd"
    """SGD with momentum, or AdamW (which takes no momentum from here)."""
    lr: float = 0.1
    """The highest learning rate of the schedule."""
    momentum: float = 0.9
    """Of SGD."""
    nesterov: bool = True
    """Of SGD."""
    weight_decay: float = 5e-4
    """L2 penalty (SGD) or decoupled decay (AdamW)."""
    decay_norm: bool = True
    """Whether weight decay also acts on biases and norm layers, as in the papers."""
    schedule: Schedule = "cosine"
    """How the learning rate runs, step by step; see `widthwise.train.schedules`."""
    warmup_epochs: float = 0.0
    """Linear rise of the learning rate over so many epochs; `one_cycle` has its own."""
    step_milestones: tuple[float, ...] = (0.5, 0.75)
    """Where `step` lowers the learning rate, as fractions of the training, increasing."""
    step_gamma: float = 0.1
    """By what factor `step` multiplies it there."""
    label_smoothing: float = 0.0
    """Share of the target spread evenly over the classes, in [0, 1)."""
    distill_weight: float = 0.0
    """Share of the loss that is distillation from the teacher, in [0, 1]; 0 leaves the teacher unused."""
    distill_temperature: float = 4.0
    """Temperature of the softmax in distillation."""
    augment: bool = True
    """Random crops and flips, where the data offers them."""
    precision: Precision = "fp32"
    """Mixed precision: the weights stay float32, convolutions run in this type."""
    channels_last: bool = False
    """Memory format of images and weights; faster on most hardware, with bf16 about threefold on CPU."""
    compile: bool = False
    """Whether to run the model through torch.compile."""
    clip_norm: float | None = None
    """Largest norm of the whole gradient; None leaves it alone."""
    seed: int = 0
    """Of order, augmentation and dropout."""
    checkpoint_every: int = 1
    """Epochs between checkpoints; the end of the training is always one."""

    def __post_init__(self) -> None:
        check_precision(self.precision)
        _one_of("optimizer", self.optimizer, get_args(Optimizer))
        _one_of("schedule", self.schedule, get_args(Schedule))
        _at_least("epochs", self.epochs, 0)
        _at_least("batch_size", self.batch_size, 1)
        _at_least("checkpoint_every", self.checkpoint_every, 1)
        _at_least("seed", self.seed, 0)
        _at_least("warmup_epochs", self.warmup_epochs, 0)
        _at_least("weight_decay", self.weight_decay, 0)
        if self.max_steps is not None:
            _at_least("max_steps", self.max_steps, 0)
        _positive("lr", self.lr)
        _positive("distill_temperature", self.distill_temperature)
        if self.clip_norm is not None:
            _positive("clip_norm", self.clip_norm)
        _share("momentum", self.momentum, include_one=False)
        _share("label_smoothing", self.label_smoothing, include_one=False)
        _share("distill_weight", self.distill_weight, include_one=True)
        self._check_schedule()

    def _check_schedule(self) -> None:
        _positive("step_gamma", self.step_gamma)
        milestones = self.step_milestones
        inside = all(0 < m < 1 for m in milestones)
        if not inside or any(a >= b for a, b in pairwise(milestones)):
            raise ConfigError(
                f"step_milestones must be increasing fractions of the training, each between 0 and 1, "
                f"but got {milestones}; divide epochs by their number"
            )
        if self.schedule == "one_cycle" and self.warmup_epochs:
            raise ConfigError(
                f"the one_cycle schedule brings its own warm-up, but got warmup_epochs={self.warmup_epochs}; "
                "set it to 0 or choose another schedule"
            )
        if self.optimizer == "sgd" and self.nesterov and self.momentum == 0:
            raise ConfigError("nesterov needs momentum, but got momentum=0; set nesterov=False")


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{name} must be one of {', '.join(allowed)}, but got {value!r}")


def _at_least(name: str, value: int | float, low: int) -> None:
    if not low <= value < float("inf"):
        raise ConfigError(f"{name} must be at least {low} and finite, but got {value}")


def _positive(name: str, value: float) -> None:
    if not 0 < value < float("inf"):
        raise ConfigError(f"{name} must be above 0 and finite, but got {value}")


def _share(name: str, value: float, *, include_one: bool) -> None:
    if not (0 <= value < 1 or (include_one and value == 1)):
        raise ConfigError(f"{name} must lie in [0, 1{']' if include_one else ')'}, but got {value}")
