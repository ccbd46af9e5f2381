"""The loss: cross-entropy, and distillation from a teacher."""

import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from widthwise.errors import ConfigError
from widthwise.train.config import TrainConfig

__all__ = ["distillation", "objective"]


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
