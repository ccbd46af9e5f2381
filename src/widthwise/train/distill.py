"""The usual objective: cross-entropy, and distillation from a teacher."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from widthwise.errors import ConfigError
from widthwise.evaluate.modes import logits_of
from widthwise.train.config import TrainConfig
from widthwise.train.objective import Outcome, Step

__all__ = ["Supervised", "distillation", "objective"]


def distillation(
    logits: Float[Tensor, "batch classes"], teacher: Float[Tensor, "batch classes"], temperature: float
) -> Float[Tensor, ""]:
    """``T^2 KL(softmax(teacher / T) || softmax(logits / T))``, mean over the batch (Hinton et al., 2015).

    The factor keeps the gradient's size about the same for every temperature T.
    """
    student_log = F.log_softmax(logits / temperature, dim=1)
    teacher_log = F.log_softmax(teacher / temperature, dim=1)
    return F.kl_div(student_log, teacher_log, reduction="batchmean", log_target=True) * temperature**2


def objective(
    config: TrainConfig,
    logits: Float[Tensor, "batch classes"],
    labels: Int64[Tensor, " batch"],
    teacher: Tensor | None,
) -> Float[Tensor, ""]:
    """``(1 - a) * cross-entropy(label smoothing) + a * distillation``, a = `distill_weight`; mean over the batch.

    Raises:
        ConfigError: teacher and student differ in their number of classes.
    """
    loss = F.cross_entropy(logits, labels, label_smoothing=config.label_smoothing)
    if teacher is None:
        return loss
    if teacher.shape != logits.shape:
        raise ConfigError(
            f"teacher and student must score the same classes, but got {teacher.shape[1]} and {logits.shape[1]}; "
            "pass a teacher trained on the same data, or distill_weight=0"
        )
    weight = config.distill_weight
    return (1 - weight) * loss + weight * distillation(logits, teacher, config.distill_temperature)


class Supervised:
    """Learns the labels, and a teacher's scores where `config.distill_weight` is above 0; the default `Objective`.

    Args:
        config: its label smoothing and distillation settings are used.
        teacher: the network to distil from.

    Raises:
        ConfigError: distillation is asked for without a teacher.
    """

    one_pass = True
    own = None

    def __init__(self, config: TrainConfig, teacher: nn.Module | None = None) -> None:
        if config.distill_weight and teacher is None:
            raise ConfigError(
                f"distillation needs a teacher, but got distill_weight={config.distill_weight} and none; "
                "pass teacher=..., or set distill_weight to 0"
            )
        self._config = config
        self._teacher = teacher if config.distill_weight else None

    @property
    def frozen(self) -> tuple[nn.Module, ...]:
        """The teacher, if it is used."""
        return () if self._teacher is None else (self._teacher,)

    def describe(self) -> dict[str, Any]:
        """Whether there is a teacher; the rest stands in the training's settings."""
        return {"objective": "supervised", "teacher": "none" if self._teacher is None else "given"}

    def step(self, step: Step) -> Outcome:
        """One forward pass, one backward pass."""
        logits = step.forward(step.images)
        loss = objective(self._config, logits, step.labels, self._target(step))
        step.backward(loss)
        return Outcome(logits=logits.detach(), loss=loss.detach())

    @torch.no_grad()
    def _target(self, step: Step) -> Tensor | None:
        if self._teacher is None:
            return None
        with step.autocast():
            return logits_of(self._teacher(step.images)).float()
