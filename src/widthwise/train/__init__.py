"""Training: one loop for full networks, fine-tuning and retraining."""

from widthwise.train.config import TrainConfig
from widthwise.train.fit import fit
from widthwise.train.history import EpochRecord, History
from widthwise.train.progress import Plan, Reporter, RichReporter, SilentReporter, StepStatus

__all__ = [
    "EpochRecord",
    "History",
    "Plan",
    "Reporter",
    "RichReporter",
    "SilentReporter",
    "StepStatus",
    "TrainConfig",
    "fit",
]
